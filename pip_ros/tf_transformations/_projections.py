"""Projections onto a plane: orthogonal, oblique and central."""

import numpy as np

from tf_transformations._vectors import unit_vector

_EPS = 4.0 * np.finfo(np.float64).eps


def projection_matrix(point, normal, direction=None, perspective=None, pseudo=False):
    """Projection onto the plane (`point`, `normal`).

    Central from the viewpoint `perspective` where that is given (with `pseudo` the relative depth
    is kept: the orthogonal projection of its result is the true one), else parallel along
    `direction`, else orthogonal.
    """
    normal = unit_vector(np.asarray(normal)[:3])
    offset = np.dot(np.asarray(point)[:3], normal)
    matrix = np.identity(4)
    if perspective is None:
        along = normal if direction is None else np.asarray(direction, dtype=np.float64)[:3]
        along = along / np.dot(along, normal)
        matrix[:3, :3] -= np.outer(along, normal)
        matrix[:3, 3] = offset * along
        return matrix
    viewpoint = np.asarray(perspective, dtype=np.float64)[:3]
    # x' = c + t (x - c) on the plane, with the denominator n.(c - x) as fourth coordinate.
    shift = viewpoint + normal if pseudo else viewpoint
    height = np.dot(viewpoint, normal)
    matrix[:3, :3] = (height - offset) * np.identity(3) - np.outer(shift, normal)
    matrix[:3, 3] = offset * shift
    matrix[3] = *-normal, height
    return matrix


def projection_from_matrix(matrix, pseudo=False):
    """Point, normal, direction, perspective and pseudo: the arguments of `projection_matrix`.

    Direction is None for a central projection, perspective for a parallel one. Raises ValueError
    where a parallel projection's matrix has no direction that it maps to zero.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    bottom = np.linalg.norm(matrix[3, :3])
    if bottom > _EPS * np.abs(matrix).max():
        return _central_from_matrix(matrix / bottom, pseudo)
    matrix = matrix / matrix[3, 3]
    left, singular, right = np.linalg.svd(matrix[:3, :3])
    if singular[-1] > 1e-8 * singular[0]:
        raise ValueError(f'not a projection: smallest singular value {singular[-1]:g}, expected 0')
    # The origin's image lies on the plane.
    return matrix[:3, 3].copy(), left[:, -1], right[-1], None, False


def _central_from_matrix(matrix, pseudo):
    normal = -matrix[3, :3]
    height = matrix[3, 3]
    # trace = 3 (height - offset) - n.shift, and n.shift is the height (plus 1 in the pseudo form).
    offset = (2.0 * height - float(bool(pseudo)) - np.trace(matrix[:3, :3])) / 3.0
    shift = (height - offset) * normal - matrix[:3, :3] @ normal
    viewpoint = shift - normal if pseudo else shift
    return offset * normal, normal, None, viewpoint, bool(pseudo)
