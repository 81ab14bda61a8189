"""Laser lines of a sparse depth image that has lost its lasers' numbers."""

from __future__ import annotations

import numpy as np

LINES = 64
"""Of the Velodyne HDL-64E, KITTI's LiDAR."""


def line_labels(sparse: np.ndarray, K: np.ndarray, lines: int = LINES) -> np.ndarray:
    """Line of each known pixel, from its elevation.

    The elevations from the lowest to the highest point are divided evenly, as OMNI-DC does (Zuo
    et al., ICCV 2025); real lasers are not spaced evenly, so that a label may hold parts of two.

    sparse: (H, W) depth in m, 0 = unknown.
    K: (3, 3) intrinsics, pixels.
    lines: lines of the sensor.
    Returns (H, W) int, 0 at the top, -1 where unknown.
    Raises ValueError: fewer than one line.
    """
    if lines < 1:
        raise ValueError(f'lines: expected at least 1, got {lines}')
    labels = np.full(sparse.shape, -1)
    v, u = np.nonzero(sparse > 0)
    if not v.size:
        return labels
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    pitch = np.arcsin(y / np.sqrt(x * x + y * y + 1))
    spacing = max((pitch.max() - pitch.min()) / lines, np.finfo(float).tiny)
    labels[v, u] = np.round((pitch - pitch.min()) / spacing)
    return labels


def keep_lines(sparse: np.ndarray, K: np.ndarray, keep: int, lines: int = LINES) -> np.ndarray:
    """The sparse depth of a sensor with fewer lines: every (lines / keep)-th one is kept.

    sparse: (H, W) depth in m, 0 = unknown.
    K: (3, 3) intrinsics, pixels.
    keep: lines to keep, a divisor of `lines`.
    lines: lines of the sensor.
    Returns (H, W) of the same type.
    Raises ValueError: `keep` does not divide `lines`.
    """
    if keep < 1 or lines % keep:
        raise ValueError(f'lines: expected a divisor of {lines}, got {keep}')
    if keep == lines:
        return sparse
    labels = line_labels(sparse, K, lines)
    return np.where((labels >= 0) & (labels % (lines // keep) == 0), sparse, 0).astype(
        sparse.dtype
    )
