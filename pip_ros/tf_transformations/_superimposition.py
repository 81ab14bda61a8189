"""Rigid or similarity transform between two sets of points."""

import numpy as np
from transforms3d.quaternions import quat2mat

_CYCLIC = ((1, 2), (2, 0), (0, 1))


def superimposition_matrix(v0, v1, scaling=False, usesvd=True):
    """4x4 transform that takes the points v0 onto v1 with the least squared distance.

    v0 and v1 are (3, N) or (4, N), N >= 3, as columns. The rotation comes from a singular value
    decomposition (Kabsch 1976) or, without `usesvd`, from a quaternion (Horn 1987, eq. 4). With
    `scaling` a uniform scale is found too: the ratio of the spreads, Horn's symmetric form.
    """
    v0 = np.array(v0, dtype=np.float64)[:3]
    v1 = np.array(v1, dtype=np.float64)[:3]
    if v0.shape != v1.shape or v0.shape[1] < 3:
        raise ValueError(f'expected two sets of 3 points or more, got {v0.shape}, {v1.shape}')
    centre0, centre1 = v0.mean(axis=1), v1.mean(axis=1)
    v0 -= centre0[:, None]
    v1 -= centre1[:, None]
    linear = _rotation_by_svd(v0, v1) if usesvd else _rotation_by_quaternion(v0, v1)
    if scaling:
        linear *= np.sqrt(np.square(v1).sum() / np.square(v0).sum())
    matrix = np.identity(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre1 - linear @ centre0
    return matrix


def _rotation_by_svd(v0, v1):
    left, _, right = np.linalg.svd(v1 @ v0.T)
    # A reflection would fit better where this is -1; turn the weakest direction round.
    handedness = np.linalg.det(left @ right)
    return left @ np.diag([1.0, 1.0, handedness]) @ right


def _rotation_by_quaternion(v0, v1):
    correlation = v0 @ v1.T
    form = np.empty((4, 4))
    form[0, 0] = np.trace(correlation)
    form[0, 1:] = form[1:, 0] = [correlation[i, j] - correlation[j, i] for i, j in _CYCLIC]
    form[1:, 1:] = correlation + correlation.T - np.trace(correlation) * np.identity(3)
    _, vectors = np.linalg.eigh(form)
    return quat2mat(vectors[:, -1])
