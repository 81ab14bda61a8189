"""Rigid transforms as numbers in a parameter; (4, 4) float64 matrices named T_target_source.

tf_transformations is imported lazily, so that settings can be read without ROS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def matrix_from_numbers(numbers: Sequence[float]) -> np.ndarray:
    """Transform from x y z qx qy qz qw (m; a quaternion of any length but 0) or a 4x4 by rows.

    Raises ValueError if it is not a rigid transform.
    """
    values = np.asarray(numbers, np.float64)
    if values.size not in (7, 16):
        raise ValueError(
            f'expected 7 numbers (x y z qx qy qz qw) or 16 (4x4 matrix), got {values.size}'
        )
    if not np.isfinite(values).all():
        raise ValueError(f'expected finite numbers, got {values.tolist()}')
    if values.size == 7:
        length = np.linalg.norm(values[3:])
        if length == 0:
            raise ValueError('expected a quaternion qx qy qz qw that is not zero')
        from tf_transformations import quaternion_matrix

        T = np.asarray(quaternion_matrix(values[3:] / length))
        T[:3, 3] = values[:3]
        return T
    T = values.reshape(4, 4)
    R = T[:3, :3]
    if not np.allclose(T[3], [0, 0, 0, 1]):
        raise ValueError(f'expected 0 0 0 1 in the last row, got {T[3].tolist()}')
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise ValueError(f'expected a rotation in the upper left 3x3, got {R.tolist()}')
    return T


def numbers_from_matrix(T: np.ndarray) -> tuple[float, ...]:
    """The 7 numbers x y z qx qy qz qw of a transform."""
    from tf_transformations import quaternion_from_matrix

    return (*T[:3, 3].tolist(), *np.asarray(quaternion_from_matrix(T)).tolist())
