"""Arcball: rotation by dragging on a sphere in a window (Shoemake 1992)."""

import math

import numpy as np

from tf_transformations._quaternions import (
    quaternion_from_matrix,
    quaternion_matrix,
    quaternion_multiply,
    quaternion_slerp,
)
from tf_transformations._vectors import unit_vector

_EPS = 4.0 * np.finfo(np.float64).eps


class Arcball:
    """Virtual trackball: press (`down`), move (`drag`), read the rotation (`matrix`)."""

    def __init__(self, initial=None):
        """`initial`: a quaternion (x, y, z, w) or a 4x4 rotation matrix; identity without."""
        if initial is None:
            orientation = np.array([0.0, 0.0, 0.0, 1.0])
        else:
            orientation = np.array(initial, dtype=np.float64)
            if orientation.shape == (4, 4):
                orientation = np.array(quaternion_from_matrix(orientation))
            elif orientation.shape != (4,):
                raise ValueError(f'expected a quaternion or 4x4 matrix, got {orientation.shape}')
            else:
                orientation = orientation / np.linalg.norm(orientation)
        self._pressed = self._before = self._now = orientation
        self._grip = np.array([0.0, 0.0, 1.0])
        self._center = [0.0, 0.0]
        self._radius = 1.0
        self._axes = None
        self._axis = None
        self._constrained = False

    def place(self, center, radius):
        """Centre and radius of the ball in window coordinates."""
        self._center = [float(center[0]), float(center[1])]
        self._radius = float(radius)

    def setaxes(self, *axes):
        """Axes that rotations may be constrained to."""
        self._axes = [unit_vector(axis) for axis in axes] or None

    def setconstrain(self, constrain):
        """Whether rotations keep to one of the axes."""
        self._constrained = constrain is True

    def getconstrain(self):
        return self._constrained

    def down(self, point):
        """Press at window coordinates `point`; this picks the axis of a constrained rotation."""
        self._grip = arcball_map_to_sphere(point, self._center, self._radius)
        self._pressed = self._before = self._now
        self._axis = None
        if self._constrained and self._axes is not None:
            self._axis = arcball_nearest_axis(self._grip, self._axes)
            self._grip = arcball_constrain_to_axis(self._grip, self._axis)

    def drag(self, point):
        """Move to window coordinates `point`."""
        held = arcball_map_to_sphere(point, self._center, self._radius)
        if self._axis is not None:
            held = arcball_constrain_to_axis(held, self._axis)
        self._before = self._now
        turn = np.cross(self._grip, held)
        if np.dot(turn, turn) < _EPS:
            self._now = self._pressed
        else:
            # Twice the angle of the drag: the half angle that a quaternion holds is left out.
            quaternion = [*turn, np.dot(self._grip, held)]
            self._now = np.array(quaternion_multiply(quaternion, self._pressed))

    def next(self, acceleration=0.0):
        """Keep turning by the last drag's step, made longer by `acceleration`."""
        ahead = quaternion_slerp(self._before, self._now, 2.0 + acceleration, 0)
        self._before, self._now = self._now, ahead

    def matrix(self):
        """4x4 rotation matrix."""
        return quaternion_matrix(self._now)


def arcball_map_to_sphere(point, center, radius):
    """Unit vector under window coordinates `point`; outside the ball the nearest on its rim."""
    x = (point[0] - center[0]) / radius
    y = (center[1] - point[1]) / radius
    squared = x * x + y * y
    if squared > 1.0:
        return np.array([x, y, 0.0]) / math.sqrt(squared)
    return np.array([x, y, math.sqrt(1.0 - squared)])


def arcball_constrain_to_axis(point, axis):
    """Point of the visible half sphere that is perpendicular to `axis` and nearest to `point`."""
    axis = np.asarray(axis, dtype=np.float64)
    rest = np.asarray(point, dtype=np.float64) - axis * np.dot(axis, point)
    length = np.linalg.norm(rest)
    if length > _EPS:
        return (-rest if rest[2] < 0.0 else rest) / length
    if axis[2] == 1.0:
        return np.array([1.0, 0.0, 0.0])
    return unit_vector([-axis[1], axis[0], 0.0])


def arcball_nearest_axis(point, axes):
    """The axis whose great circle passes nearest to `point`."""
    return max(axes, key=lambda axis: np.dot(arcball_constrain_to_axis(point, axis), point))
