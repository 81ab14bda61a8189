"""Losses against the dense depth of a monocular teacher, which knows neither scale nor shift."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmd3c_ros.core.alignment.fits import align
from dmd3c_ros.core.alignment.masks import batch_mean, check_images, image_means, masked_median
from training.losses.supervised import at_size, pyramid_weights

DOMAINS = ('depth', 'inverse')
DIRECTIONS = ('teacher', 'prediction')
DISPARITY_OFFSET = 0.5
_NEAREST = 0.1
"""Depth at which inverse depth is cut off, m."""
_SPREAD_FLOOR = 1e-6
_TOGETHER = 8  # windows at a time: more are faster on a GPU, but filled up more


def in_domain(
    depth: Tensor, disparity: Tensor, domain: str, offset: float = DISPARITY_OFFSET
) -> tuple[Tensor, Tensor]:
    """Prediction and teacher in the space in which they are compared.

    Args:
        depth: predicted depth, m.
        disparity: the teacher's relative inverse depth, 0 (far) to 1 (near).
        domain: 'depth' turns the teacher into 1 / (disparity + offset), as the released code of
            DMD3C does; 'inverse' turns the prediction into 1 / depth.
        offset: keeps the farthest pixels of the teacher finite.

    Returns:
        Prediction and teacher.

    Raises:
        ValueError: the domain is unknown.
    """
    if domain == 'depth':
        return depth, 1.0 / (disparity + offset)
    if domain == 'inverse':
        return 1.0 / depth.clamp(min=_NEAREST), disparity
    raise ValueError(f'domain: expected one of {DOMAINS}, got {domain!r}')


def aligned_residual(
    prediction: Tensor, teacher: Tensor, mask: Tensor, alignment: str, direction: str
) -> Tensor:
    """Residual between prediction and teacher after the best scale and shift.

    Eq. 7 of DMD3C aligns the teacher to the prediction ('teacher'). Then the residual shrinks
    with the contrast of the prediction, and is zero for a constant one: combined with a supervised
    loss this flattens depth wherever there is no label. 'prediction' aligns the prediction to
    the teacher instead, as MiDaS does (Ranftl et al., TPAMI 2022, Eq. 3 and 4). Contrast does not
    change that residual, and a constant has the largest of all.

    Args:
        prediction: (B, 1, H, W).
        teacher: (B, 1, H, W).
        mask: (B, 1, H, W) bool, pixels that the fit uses.
        alignment: one of alignment.ALIGNMENTS.
        direction: 'teacher' or 'prediction', the one that is aligned to the other.

    Returns:
        (B, 1, H, W), prediction minus teacher, in the units of the one that is not changed;
        meaningless outside the mask.

    Raises:
        ValueError: the shapes differ, or a name is unknown.
    """
    check_images(prediction=prediction, teacher=teacher, mask=mask)
    # Unmarked values may be NaN, and NaN times a gradient of 0 is NaN.
    nothing = prediction.new_zeros(())
    prediction, teacher = prediction.where(mask, nothing), teacher.where(mask, nothing)
    if direction == 'teacher':
        return prediction - align(teacher, prediction, mask, alignment)
    if direction == 'prediction':
        return align(prediction, teacher, mask, alignment) - teacher
    raise ValueError(f'direction: expected one of {DIRECTIONS}, got {direction!r}')


def scale_shift_invariant_loss(
    prediction: Tensor,
    teacher: Tensor,
    mask: Tensor,
    alignment: str = 'least_absolute',
    direction: str = 'teacher',
) -> Tensor:
    """Scale- and shift-invariant loss, Eq. 7 of DMD3C: min over s, b of |D_f - (s D_m + b)|.

    'least_absolute' is that minimum; 'least_squares' the minimum of the squared residual;
    'median' the absolute residual after alignment by median and median absolute deviation.
    Averaged over the marked pixels of each image, then over images.

    Args, raises: as aligned_residual.

    Returns:
        A scalar, 0 where nothing is marked.
    """
    residual = aligned_residual(prediction, teacher, mask, alignment, direction)
    return residual_loss(residual, mask, alignment)


def residual_loss(residual: Tensor, mask: Tensor, alignment: str) -> Tensor:
    """Mean of the residual's size, in the measure that the alignment minimizes."""
    return batch_mean(residual.square() if alignment == 'least_squares' else residual.abs(), mask)


def gradient_matching(residual: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """Regularization, Eq. 8 of DMD3C: L_reg = 1/N sum_k |grad_x R^k| + |grad_y R^k|.

    R^k is the residual with every 2^k-th row and column (k = 0 ... scales - 1), its gradients are
    differences of neighbours that are both marked, and N is the number of marked pixels at full
    size. Computed per image, then averaged over the images that have marked pixels. The residual
    is meant to be taken after alignment: D_f - D_m of unaligned depth would punish the scale.

    Args:
        residual: (B, 1, H, W).
        mask: (B, 1, H, W) bool.
        scales: K, the number of sizes.

    Returns:
        A scalar, 0 where nothing is marked.

    Raises:
        ValueError: the shapes differ, or there is no scale.
    """
    check_images(residual=residual, mask=mask)
    if scales < 1:
        raise ValueError(f'scales: expected at least 1, got {scales}')
    count = mask.flatten(1).sum(1)
    total = residual.new_zeros(len(residual))
    for scale in range(scales):
        step = 2**scale
        image, marked = residual[..., ::step, ::step], mask[..., ::step, ::step]
        for axis in (-1, -2):
            both = _heads(marked, axis) & _tails(marked, axis)
            change = (_tails(image, axis) - _heads(image, axis)).abs()
            total = total + change.where(both, change.new_zeros(())).flatten(1).sum(1)
    return (total / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


def _heads(image: Tensor, axis: int) -> Tensor:
    return image.narrow(axis, 0, max(image.shape[axis] - 1, 0))


def _tails(image: Tensor, axis: int) -> Tensor:
    return image.narrow(axis, min(1, image.shape[axis]), max(image.shape[axis] - 1, 0))


def random_patch_loss(
    pyramid: Sequence[Tensor],
    teacher: Tensor,
    patches: int = 32,
    ratios: tuple[float, float] = (1 / 8, 1 / 2),
    generator: torch.Generator | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Distillation loss of the released code of DMD3C: normalized random windows.

    In each window prediction and teacher are brought to median 0 and median absolute deviation 1,
    and compared by their mean absolute difference. A window takes the same share, drawn from
    `ratios`, of height and width. Predictions of a pyramid are compared at full size and weighted
    1/4 per level down from the finest, each with its own windows.

    Args:
        pyramid: predictions (B, 1, h, w), coarse to fine.
        teacher: (B, 1, H, W), in the space of the predictions (see in_domain).
        patches: windows per prediction.
        ratios: smallest and largest fraction of the image's sides, within 0..1.
        generator: draws the windows, on the CPU; the global one where None.
        mask: (B, 1, H, W) bool, pixels where the teacher knows something; all where None. The
            released code has none.

    Returns:
        A scalar.

    Raises:
        ValueError: empty pyramid, no window or shares out of order.
    """
    if patches < 1 or not 0 < ratios[0] <= ratios[1] <= 1:
        raise ValueError(
            f'expected a window and 0 < smallest <= largest fraction <= 1, got {patches}, {ratios}'
        )
    weights = pyramid_weights(len(pyramid))
    mask = torch.ones_like(teacher, dtype=torch.bool) if mask is None else mask
    loss = teacher.new_zeros(())
    for weight, prediction in zip(weights, pyramid, strict=True):
        full = at_size(prediction, teacher)
        check_images(prediction=full, teacher=teacher, mask=mask)
        windows = [_window(teacher.shape[-2:], ratios, generator) for _ in range(patches)]
        loss = loss + weight / patches * _windows_loss(full, teacher, mask, windows)
    return loss


def _window(
    size: Sequence[int], ratios: tuple[float, float], generator: torch.Generator | None
) -> tuple[slice, slice]:
    fraction, *corner = torch.rand(3, generator=generator).tolist()
    fraction = ratios[0] + fraction * (ratios[1] - ratios[0])
    window = []
    for length, position in zip(size, corner, strict=True):
        extent = max(1, int(length * fraction))
        start = min(int(position * (length - extent + 1)), length - extent)
        window.append(slice(start, start + extent))
    return window[0], window[1]


def _windows_loss(
    prediction: Tensor, teacher: Tensor, mask: Tensor, windows: Sequence[tuple[slice, slice]]
) -> Tensor:
    """Sum over windows of the mean difference of normalized prediction and teacher.

    Windows of like size go together, filled up to the largest of them: few large operations
    instead of some for each window, whose launches would take a GPU longer than their work.
    """
    windows = sorted(windows, key=_area)
    images = [image.flatten(1) for image in (prediction, teacher)]
    marked, total = mask.flatten(1), teacher.new_zeros(())
    for first in range(0, len(windows), _TOGETHER):
        together = windows[first : first + _TOGETHER]
        index, inside = _pixels(together, teacher.shape[-1], teacher.device)
        known = (marked[:, index] & inside).flatten(0, 1)
        p, t = (_normalized(image[:, index].flatten(0, 1), known) for image in images)
        means, used = image_means((p - t).abs(), known)
        means, used = means.view(-1, len(together)), used.view(-1, len(together))
        total = total + (means.sum(0) / used.sum(0).clamp(min=1)).sum()
    return total


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _pixels(
    windows: Sequence[tuple[slice, slice]], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Numbers of the pixels of each window, (N, L), and which of these are inside, (N, L) bool."""
    bounds = [(r.start, c.start, c.stop - c.start, _area((r, c))) for r, c in windows]
    top, left, columns, area = torch.tensor(bounds, device=device).T[..., None]
    number = torch.arange(int(max(map(_area, windows))), device=device)
    index = (top + number // columns) * width + left + number % columns
    inside = number < area
    return index.where(inside, index.new_zeros(())), inside


def _normalized(values: Tensor, mask: Tensor) -> Tensor:
    """(B, N) with median 0 and median absolute deviation 1; a constant becomes 0."""
    values = values.where(mask, values.new_zeros(()))
    centred = values - masked_median(values, mask)[:, None]
    return centred / (masked_median(centred.abs(), mask)[:, None] + _SPREAD_FLOOR)
