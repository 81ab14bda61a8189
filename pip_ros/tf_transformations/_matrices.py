"""4x4 homogeneous matrices: translation, rotation, reflection, scale, shear, clipping."""

import functools
import math

import numpy as np
from transforms3d import affines, axangles, euler, reflections, shears, zooms

_EPS = 4.0 * np.finfo(np.float64).eps


def identity_matrix():
    """4x4 identity."""
    return np.identity(4)


def translation_matrix(direction):
    """Translation by `direction` (3,)."""
    return affines.compose(direction, np.identity(3), np.ones(3))


def translation_from_matrix(matrix):
    """Translation part (3,) of a transform."""
    return affines.decompose(np.asarray(matrix, dtype=np.float64))[0]


def reflection_matrix(point, normal):
    """Mirror at the plane through `point`, perpendicular to `normal`."""
    return reflections.rfnorm2aff(normal, np.asarray(point)[:3])


def reflection_from_matrix(matrix):
    """Point and normal of the plane at which `matrix` mirrors."""
    normal, point = reflections.aff2rfnorm(matrix)
    return point, normal


def rotation_matrix(angle, direction, point=None):
    """Rotation by `angle` (rad) about the axis `direction` through `point` (the origin)."""
    return axangles.axangle2aff(direction, angle, point=point)


def rotation_from_matrix(matrix):
    """Angle (rad), axis and a point of the axis of a rotation."""
    direction, angle, point = axangles.aff2axangle(matrix)
    return angle, direction, point


def scale_matrix(factor, origin=None, direction=None):
    """Scaling by `factor` about `origin`, along `direction` alone where one is given."""
    return zooms.zfdir2aff(factor, direction=direction, origin=origin)


def scale_from_matrix(matrix):
    """Factor, origin and direction (None when uniform) of a scaling."""
    factor, direction, origin = zooms.aff2zfdir(matrix)
    return factor, origin, direction


def shear_matrix(angle, direction, point, normal):
    """Shear by `angle` (rad) along `direction`; the plane (`point`, `normal`) stays in place."""
    return shears.sadn2aff(angle, direction, normal, point)


def shear_from_matrix(matrix):
    """Angle, direction, point and normal of a shear."""
    angle, direction, normal, point = shears.aff2sadn(matrix)
    return angle, direction, point, normal


def decompose_matrix(matrix):
    """Scale, shear (xy, xz, yz), Euler angles ('sxyz'), translation; the fifth result is None.

    Perspective is not recovered, as upstream.
    """
    translation, rotation, zoom, shear = affines.decompose(np.asarray(matrix, dtype=np.float64))
    return zoom, shear, euler.mat2euler(rotation), translation, None


def compose_matrix(scale=None, shear=None, angles=None, translate=None, perspective=None):
    """Inverse of `decompose_matrix`; what is None is left out, `perspective` is not looked at."""
    return affines.compose(
        np.zeros(3) if translate is None else translate,
        np.identity(3) if angles is None else euler.euler2mat(*angles),
        np.ones(3) if scale is None else scale,
        np.zeros(3) if shear is None else shear,
    )


def euler_matrix(ai, aj, ak, axes='sxyz'):
    """Rotation by three Euler angles (rad) about `axes`: one of 24 sequences, name or tuple."""
    return affines.compose(np.zeros(3), euler.euler2mat(ai, aj, ak, axes=axes), np.ones(3))


def euler_from_matrix(matrix, axes='sxyz'):
    """Euler angles (rad) of the rotation part of a 3x3 or 4x4 matrix."""
    return euler.mat2euler(matrix, axes=axes)


def clip_matrix(left, right, bottom, top, near, far, perspective=False):
    """Clip-space matrix of a frustum: what it holds maps to the cube from -1 to 1.

    Orthographic, or with `perspective` to be divided by the fourth coordinate (near > 0). Raises
    ValueError for an empty frustum.
    """
    low = np.array([left, bottom, near], dtype=np.float64)
    high = np.array([right, top, far], dtype=np.float64)
    if np.any(low >= high):
        raise ValueError(f'invalid frustum: expected {low} below {high} in each coordinate')
    matrix = np.identity(4)
    if not perspective:
        matrix[:3, :3] = np.diag(2.0 / (high - low))
        matrix[:3, 3] = (high + low) / (low - high)
        return matrix
    if near <= _EPS:
        raise ValueError(f'invalid frustum: expected near > 0, got {near}')
    matrix[:2, :2] = np.diag(2.0 * near / (low - high)[:2])
    matrix[:2, 2] = ((high + low) / (high - low))[:2]
    matrix[2, 2] = (far + near) / (near - far)
    matrix[2, 3] = 2.0 * near * far / (far - near)
    matrix[3] = 0.0, 0.0, -1.0, 0.0
    return matrix


def orthogonalization_matrix(lengths, angles):
    """Crystallographic cell (lengths a, b, c; angles alpha, beta, gamma in degrees) to Cartesian.

    Axis c lies along z and b in the y-z plane.
    """
    a, b, c = lengths
    alpha, beta, gamma = np.radians(angles)
    cos_between = (math.cos(alpha) * math.cos(beta) - math.cos(gamma)) / (
        math.sin(alpha) * math.sin(beta)
    )
    across = a * math.sin(beta)
    axis_a = across * math.sqrt(1.0 - cos_between**2), -across * cos_between, a * math.cos(beta)
    axis_b = 0.0, b * math.sin(alpha), b * math.cos(alpha)
    matrix = np.identity(4)
    matrix[:3, :3] = np.column_stack([axis_a, axis_b, (0.0, 0.0, c)])
    return matrix


def inverse_matrix(matrix):
    """Inverse of a square matrix."""
    return np.linalg.inv(matrix)


def concatenate_matrices(*matrices):
    """Product of 4x4 matrices, the first one leftmost."""
    return functools.reduce(np.dot, matrices, np.identity(4))


def is_same_transform(matrix0, matrix1):
    """Whether two homogeneous matrices are the same transform: equal but for a factor."""
    scaled = [np.array(m, dtype=np.float64) / np.asarray(m)[3, 3] for m in (matrix0, matrix1)]
    return bool(np.allclose(*scaled))
