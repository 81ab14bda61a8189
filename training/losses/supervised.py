"""Losses against measured depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from dmd3c_ros.core.alignment.masks import batch_mean, check_images

_MEASURED = 1e-3
"""Depth above which BP-Net counts a pixel as measured, m."""


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Supervised loss, Eq. 2 of DMD3C: L_sup = M |D_f - D_sparse|, averaged.

    The average is over the marked pixels of each image, then over the images that have some, so
    that a frame with few returns weighs as much as one with many.

    Args:
        prediction: (B, 1, H, W).
        target: (B, 1, H, W).
        mask: (B, 1, H, W) bool, pixels with ground truth.

    Returns:
        A scalar, 0 where nothing is marked.

    Raises:
        ValueError: the shapes differ.
    """
    check_images(prediction=prediction, target=target, mask=mask)
    return batch_mean((prediction - target).abs(), mask)


def masked_l2(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error averaged as masked_l1 averages; same arguments, result and errors."""
    check_images(prediction=prediction, target=target, mask=mask)
    return batch_mean((prediction - target).square(), mask)


def multi_scale_mse(pyramid: Sequence[Tensor], target: Tensor) -> Tensor:
    """Multi-scale squared error that BP-Net is trained with (Tang et al., CVPR 2024).

    Every prediction of the pyramid is compared at full size with the measured pixels; the finest
    has weight 1 and each coarser one a quarter of the next finer one's. As in the released code
    the squared errors are divided by the number of all pixels, measured or not.

    Args:
        pyramid: predictions (B, 1, h, w), coarse to fine.
        target: (B, 1, H, W) depth, 0 = unknown.

    Returns:
        A scalar.

    Raises:
        ValueError: the pyramid is empty.
    """
    weights = pyramid_weights(len(pyramid))
    measured = target > _MEASURED
    loss = target.new_zeros(())
    for weight, prediction in zip(weights, pyramid, strict=True):
        error = (at_size(prediction, target) - target).where(measured, target.new_zeros(()))
        loss = loss + weight * error.square().mean()
    return loss


def pyramid_weights(levels: int) -> tuple[float, ...]:
    """Weights 4^-(levels-1) ... 1/4, 1, coarse to fine.

    Raises:
        ValueError: no level.
    """
    if levels < 1:
        raise ValueError('expected a pyramid of at least one prediction, got none')
    return tuple(4.0 ** (level + 1 - levels) for level in range(levels))


def at_size(prediction: Tensor, target: Tensor) -> Tensor:
    """Prediction (B, 1, h, w) resized bilinearly to the target's height and width."""
    if prediction.shape[-2:] == target.shape[-2:]:
        return prediction
    return F.interpolate(prediction, target.shape[-2:], mode='bilinear', align_corners=True)
