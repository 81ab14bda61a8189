"""Validation images for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from torch import Tensor

from dmd3c_ros.core.networks import Convention
from dmd3c_ros.evaluation.drawing import Scale, depth_scale, error_image, points_on_image

_ERROR = Scale(0.0, 2.0, cv2.COLORMAP_INFERNO)


def validation_image(
    batch: Mapping[str, Tensor], depth: np.ndarray, convention: Convention
) -> np.ndarray:
    """Input, prediction, ground truth and error (m) of the first sample: (2 H, 2 W, 3) uint8."""
    image, sparse, truth = (
        batch[name][0].float().cpu().numpy() for name in ('image', 'sparse', 'depth')
    )
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (convention.mean, convention.std))
    rgb = np.clip((image * std + mean) * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    scale = depth_scale(truth[0])
    top = [points_on_image(rgb, sparse[0], scale), scale.colors(depth, depth > 0)]
    bottom = [scale.colors(truth[0], truth[0] > 0), error_image(depth, truth[0], _ERROR)]
    return np.vstack([np.hstack(top), np.hstack(bottom)])
