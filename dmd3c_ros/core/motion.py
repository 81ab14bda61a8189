"""Rigid motion between known poses: translations (N, 3), m, and unit quaternions (N, 4).

Between two poses a body is assumed to move with constant velocity and turn rate in its own frame:
a screw motion, the geodesic of SE(3). A vehicle on a circle stays on the circle, and the result
does not depend on which point of the rig the poses refer to. (A straight line with a
spherical interpolation of the rotation, as in tf2, cuts the corner: by 9 mm at 15 m/s and
0.5 rad/s between poses 0.1 s apart.)
Formulas: Lynch and Park, "Modern Robotics", 2017, section 3.3.
"""

from __future__ import annotations

import numpy as np

# Below this angle, rad, series stand in for quotients of small numbers.
_SMALL = 1e-4


def interpolate(
    start: tuple[np.ndarray, np.ndarray], end: tuple[np.ndarray, np.ndarray], fraction: np.ndarray
) -> np.ndarray:
    """Poses (N, 4, 4) at fractions (N,), 0 to 1, of the screw motions from start to end.

    start, end: translations (N, 3), m, and unit quaternions x, y, z, w (N, 4).
    """
    (t0, q0), (t1, q1) = start, end
    fraction = np.asarray(fraction, np.float64)[:, None]
    R0 = rotations(q0)
    turn = _rotation_vectors(_product(_conjugate(q0), q1))
    way = np.einsum('nji,nj->ni', R0, t1 - t0)
    velocity = _solve_left_jacobian(turn, way)
    part = fraction * turn
    T = np.zeros((len(fraction), 4, 4))
    T[:, :3, :3] = R0 @ rotations(_quaternions(part))
    T[:, :3, 3] = t0 + np.einsum('nij,nj->ni', R0, _left_jacobian(part, fraction * velocity))
    T[:, 3, 3] = 1
    return T


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of unit quaternions x, y, z, w (N, 4)."""
    x, y, z, w = quaternions.T
    R = np.empty((len(quaternions), 3, 3))
    R[:, 0, 0], R[:, 0, 1] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w)
    R[:, 0, 2], R[:, 1, 0] = 2 * (x * z + y * w), 2 * (x * y + z * w)
    R[:, 1, 1], R[:, 1, 2] = 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
    R[:, 2, 0], R[:, 2, 1] = 2 * (x * z - y * w), 2 * (y * z + x * w)
    R[:, 2, 2] = 1 - 2 * (x * x + y * y)
    return R


def invert(T: np.ndarray) -> np.ndarray:
    """Inverses (..., 4, 4) of rigid transforms (..., 4, 4)."""
    T = np.asarray(T, np.float64)
    inverse = np.zeros_like(T)
    R = np.swapaxes(T[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = R
    inverse[..., :3, 3] = -np.einsum('...ij,...j->...i', R, T[..., :3, 3])
    inverse[..., 3, 3] = 1
    return inverse


def _conjugate(q: np.ndarray) -> np.ndarray:
    return q * (-1, -1, -1, 1)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton products (N, 4), x, y, z, w."""
    va, wa, vb, wb = a[:, :3], a[:, 3:], b[:, :3], b[:, 3:]
    vector = wa * vb + wb * va + np.cross(va, vb)
    return np.hstack([vector, wa * wb - np.einsum('ni,ni->n', va, vb)[:, None]])


def _rotation_vectors(q: np.ndarray) -> np.ndarray:
    """Axis times angle (N, 3), rad, 0 to pi, of unit quaternions (N, 4)."""
    q = np.where(q[:, 3:] < 0, -q, q)
    sine = np.linalg.norm(q[:, :3], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[:, 3:])
    with np.errstate(invalid='ignore', divide='ignore'):
        return q[:, :3] * np.where(sine < _SMALL, 2.0, angle / sine)


def _quaternions(vectors: np.ndarray) -> np.ndarray:
    """Unit quaternions (N, 4) of rotation vectors (N, 3), rad."""
    half = np.linalg.norm(vectors, axis=1, keepdims=True) / 2
    # sin(half) / angle; numpy's sinc is that of pi x.
    return np.hstack([vectors * np.sinc(half / np.pi) / 2, np.cos(half)])


def _left_jacobian(turn: np.ndarray, x: np.ndarray) -> np.ndarray:
    """V(turn) x: displacement (N, 3) of a body that moves by x in its own frame while it turns."""
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    small = angle < _SMALL
    a = np.where(small, 1.0, angle)
    first = np.where(small, 0.5, (1 - np.cos(a)) / a**2)
    second = np.where(small, 1 / 6, (a - np.sin(a)) / a**3)
    once = np.cross(turn, x)
    return x + first * once + second * np.cross(turn, once)


def _solve_left_jacobian(turn: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The inverse of `_left_jacobian`; defined up to half a revolution."""
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    small = angle < _SMALL
    a = np.where(small, 1.0, angle)
    factor = np.where(small, 1 / 12, (1 - a / 2 / np.tan(a / 2)) / a**2)
    once = np.cross(turn, x)
    return x - once / 2 + factor * np.cross(turn, once)
