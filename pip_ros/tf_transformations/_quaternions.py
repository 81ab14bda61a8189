"""Quaternions in ROS order: x, y, z, w."""

import math

import numpy as np
from transforms3d import affines, euler, quaternions

_EPS = 4.0 * np.finfo(np.float64).eps


def _w_first(quaternion):
    x, y, z, w = quaternion
    return w, x, y, z


def _w_last(quaternion):
    w, x, y, z = quaternion
    return x, y, z, w


def euler_from_quaternion(quaternion, axes='sxyz'):
    """Euler angles (rad) about `axes`: one of 24 sequences, name or tuple."""
    return euler.quat2euler(_w_first(quaternion), axes=axes)


def quaternion_from_euler(ai, aj, ak, axes='sxyz'):
    """Quaternion of three Euler angles (rad) about `axes`."""
    return _w_last(euler.euler2quat(ai, aj, ak, axes=axes))


def quaternion_about_axis(angle, axis):
    """Quaternion of a rotation by `angle` (rad) about `axis`."""
    return _w_last(quaternions.axangle2quat(axis, angle))


def quaternion_matrix(quaternion):
    """4x4 rotation matrix."""
    rotation = quaternions.quat2mat(_w_first(quaternion))
    return affines.compose(np.zeros(3), rotation, np.ones(3))


def quaternion_from_matrix(matrix):
    """Quaternion of the rotation part of a 4x4 transform (its scale and shear are removed)."""
    rotation = affines.decompose(np.asarray(matrix, dtype=np.float64))[1]
    return _w_last(quaternions.mat2quat(rotation))


def quaternion_multiply(quaternion1, quaternion0):
    """Product: the rotation `quaternion0`, then `quaternion1`."""
    return _w_last(quaternions.qmult(_w_first(quaternion1), _w_first(quaternion0)))


def quaternion_conjugate(quaternion):
    """Conjugate: the vector part turned round."""
    return np.asarray(quaternion, dtype=np.float64) * (-1.0, -1.0, -1.0, 1.0)


def quaternion_inverse(quaternion):
    """Inverse of a quaternion of any length."""
    return quaternion_conjugate(quaternion) / np.dot(quaternion, quaternion)


def quaternion_slerp(quat0, quat1, fraction, spin=0, shortestpath=True):
    """Point at `fraction` of the great arc from `quat0` to `quat1` (Shoemake 1985).

    `spin` adds half turns on the way; without `shortestpath` the arc may exceed 90 degrees.
    """
    start = np.array(quat0, dtype=np.float64)
    start /= np.linalg.norm(start)
    end = np.array(quat1, dtype=np.float64)
    end /= np.linalg.norm(end)
    if fraction in (0.0, 1.0):
        return end if fraction else start
    cosine = float(np.dot(start, end))
    if abs(abs(cosine) - 1.0) < _EPS:
        return start
    if shortestpath and cosine < 0.0:
        cosine, end = -cosine, -end
    angle = math.acos(cosine) + spin * math.pi
    if abs(angle) < _EPS:
        return start
    weights = np.sin(np.array([1.0 - fraction, fraction]) * angle) / math.sin(angle)
    return weights[0] * start + weights[1] * end


def random_quaternion(rand=None):
    """Uniformly distributed unit quaternion (Shoemake 1992) from three numbers in [0, 1)."""
    u, v, w = np.random.random(3) if rand is None else rand
    first, second = 2.0 * math.pi * v, 2.0 * math.pi * w
    low, high = math.sqrt(1.0 - u), math.sqrt(u)
    return np.array(
        [
            low * math.sin(first),
            low * math.cos(first),
            high * math.sin(second),
            high * math.cos(second),
        ]
    )


def random_rotation_matrix(rand=None):
    """Uniformly distributed 4x4 rotation; `rand` as for `random_quaternion`."""
    return quaternion_matrix(random_quaternion(rand))
