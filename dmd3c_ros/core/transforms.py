"""Rotations as quaternions (x, y, z, w) and matrices; (4, 4) float64 named T_target_source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rotation_from_quaternion(quaternion: Sequence[float]) -> np.ndarray:
    """Rotation (3, 3) of a quaternion x, y, z, w of any length but 0; else ValueError."""
    q = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(q)
    if q.shape != (4,) or not (0 < length < np.inf):
        raise ValueError(f'quaternion: expected x, y, z, w other than zero, got {q.tolist()}')
    x, y, z, w = q / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(R: np.ndarray) -> np.ndarray:
    """Unit quaternion (x, y, z, w) with w >= 0 of a rotation (3, 3).

    It is the eigenvector of the largest eigenvalue of a symmetric 4x4 matrix made of R's entries
    (Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000), which
    stays well conditioned at every angle and finds the nearest one for a matrix with rounding.
    """
    R = np.asarray(R, np.float64)
    if R.shape != (3, 3):
        raise ValueError(f'rotation: expected (3, 3), got {R.shape}')
    M = np.empty((4, 4))
    M[:3, :3] = R + R.T - np.trace(R) * np.eye(3)
    M[:3, 3] = M[3, :3] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    M[3, 3] = np.trace(R)
    q = np.linalg.eigh(M)[1][:, -1]
    return q if q[3] >= 0 else -q


def rotation_from_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rotation (3, 3) about the fixed axes x, then y, then z (REP 103), rad."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    Rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    Ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    Rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return Rz @ Ry @ Rx


def transform(R: np.ndarray, t: Sequence[float]) -> np.ndarray:
    """T (4, 4) of a rotation (3, 3) and a translation (3,), m."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T
