"""From a LiDAR sweep to a sparse depth image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera
from .ranges import check_ranges, ranged

# Which models get a sweep without hidden points; see ``DepthCompleter.filter_hidden``.
FILTERING = ('auto', 'always', 'never')
# Points nearer than this are the vehicle, the sensor's housing or noise.
MIN_DEPTH_M = 0.1
# Of enclosed points: the depth of those around them, as a fraction of theirs and in m; how far
# these are, in mean distances, which are capped in pixels; the fraction of a sweep's points that
# is enclosed where the sensor sees behind objects.
_MUCH_NEARER, _NEARER_BY = 0.8, 1.0
_PROBED, _SEARCHED, _LONGEST_DISTANCE = 1.5, 2.5, 12.0
_TYPICAL_FRACTION = 0.005


def project_points(
    points: np.ndarray,
    T_camera_lidar: np.ndarray,
    camera: Camera,
    min_depth: float = MIN_DEPTH_M,
) -> np.ndarray:
    """Project a sweep into a sparse depth image.

    points: (N, 3 or more) in the LiDAR's frame, m; columns after the third are ignored and points
    that are not finite are dropped. T_camera_lidar: (4, 4), LiDAR frame -> camera's optical frame.
    Returns (H, W) float32, m along the optical axis, 0 = unknown; of several points in one pixel
    the nearest stays. Raises ValueError for other shapes.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f'points: expected (N, 3) or more columns, got {points.shape}')
    T = np.asarray(T_camera_lidar, np.float64)
    if T.shape != (4, 4):
        raise ValueError(f'T_camera_lidar: expected (4, 4), got {T.shape}')
    M = (camera.P[:, :3] @ camera.R @ T[:3, :3]).astype(np.float32)
    t = (camera.P[:, :3] @ camera.R @ T[:3, 3] + camera.P[:, 3]).astype(np.float32)
    xyz = np.ascontiguousarray(points[:, :3], np.float32)
    with np.errstate(invalid='ignore', over='ignore'):
        z = xyz @ M[2] + t[2]
        ahead = np.flatnonzero((z > min_depth) & (z < np.inf))
        z = z[ahead]
        uv = xyz.take(ahead, axis=0) @ M[:2].T  # take: a sixth of an index's time
        # Column by column: reductions over two of them take longer than all else.
        u, v = ((uv[:, axis] + t[axis]) / z for axis in range(2))
        # Compared before the cast: an integer cast of a huge or NaN coordinate is undefined.
        u, v = np.floor(u + np.float32(0.5)), np.floor(v + np.float32(0.5))
        inside = (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    pixel = v[inside].astype(np.intp) * camera.width + u[inside].astype(np.intp)
    depth = np.zeros(camera.height * camera.width, np.float32)
    depth[pixel] = np.inf
    np.minimum.at(depth, pixel, z[inside])
    return depth.reshape(camera.height, camera.width)


@dataclass(frozen=True)
class HiddenPointFilter:
    """Settings of ``remove_hidden_points``.

    radius_u: half width of the window that is searched for a nearer surface, pixels.
    radius_v: half height of that window, pixels.
    ratio: a point is hidden if the nearest depth in its window is less than this fraction of its
        own depth and the margin is exceeded as well.
    margin: a point is hidden if it is farther than the nearest point in its window by more than
        this and the ratio is met as well, m.
    Raises ValueError for a number outside its range.
    """

    radius_u: int = ranged(5, 0, 1000)
    radius_v: int = ranged(7, 0, 1000)
    ratio: float = ranged(0.9, 0.0, 1.0)
    margin: float = ranged(0.5, 0.0, 1000.0)

    def __post_init__(self) -> None:
        check_ranges(self)


def remove_hidden_points(
    sparse: np.ndarray, settings: HiddenPointFilter | None = None
) -> np.ndarray:
    """Drop points that the LiDAR sees but a nearer surface hides from the camera.

    LiDAR and camera are in different places, so around a near object the sweep contains background
    points that project onto the object. Such a point has a much nearer one close to it in the
    image.

    sparse: (H, W) float32, m, 0 = unknown; returned in the same form.
    """
    settings = settings or HiddenPointFilter()
    near = np.where(sparse > 0, sparse, np.float32(np.inf))
    near = _window_minimum(near, settings.radius_v, axis=0)
    near = _window_minimum(near, settings.radius_u, axis=1)
    hidden = (near < sparse * settings.ratio) & (near < sparse - settings.margin)
    return np.where(hidden, np.float32(0), sparse)


def drop_enclosed_points(sparse: np.ndarray, distance: float) -> np.ndarray:
    """Drop points amid a nearer surface, behind which the LiDAR sees and the camera does not.

    Unlike ``remove_hidden_points`` it keeps what stands beside a nearer object: a point is dropped
    if there are much nearer ones on all four sides of it. What is seen through a gap is enclosed
    as well, so the window, of 2.5 mean distances to each side at most, is the smaller the fewer
    points are enclosed in one of 1.5: hardly any where sensor and camera see from the same place.

    sparse: (H, W) float32, m, 0 = unknown; returned in the same form. distance: the mean distance
    of a pixel to the nearest point, pixels, as of ``resizing.mean_distance``.
    """
    distance = min(distance, _LONGEST_DISTANCE)
    # np.nonzero says the same in eight times the time.
    v, u = np.divmod(np.flatnonzero(sparse > 0), sparse.shape[1])
    fraction = _enclosed(sparse, v, u, round(_PROBED * distance)).mean() if len(v) else 0.0
    radius = round(_SEARCHED * distance * min(fraction / _TYPICAL_FRACTION, 1.0))
    if not radius:
        return sparse
    enclosed = _enclosed(sparse, v, u, radius)
    kept = sparse.copy()
    kept[v[enclosed], u[enclosed]] = 0
    return kept


def _enclosed(sparse: np.ndarray, v: np.ndarray, u: np.ndarray, radius: int) -> np.ndarray:
    """(N,) bool: points with much nearer ones to the left, to the right, above and below.

    v, u: rows and columns of the points, (N,). The window of a side reaches as far as ``radius``,
    pixels, and half as far to both sides of its axis.
    """
    depth, rows, columns = sparse[v, u], v + radius, u + radius
    # Integers, of which a processor compares twice as many at a time.
    centimetres = np.full([side + 2 * radius for side in sparse.shape], 65535, np.uint16)
    centimetres[rows, columns] = np.minimum(100 * depth, 65534)
    window = np.ones((2 * (radius // 2) + 1, radius + 1), np.uint8)
    # From a pixel to the right and downwards; those to the left and upwards begin a radius before.
    right = cv2.erode(centimetres, window, anchor=(0, radius // 2))
    below = cv2.erode(centimetres, window.T.copy(), anchor=(radius // 2, 0))
    limit = 100 * np.minimum(depth * _MUCH_NEARER, depth - _NEARER_BY)
    sides = right[rows, columns], right[rows, u], below[rows, columns], below[v, columns]
    return np.logical_and.reduce([side < limit for side in sides])


def _window_minimum(image: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Minimum over 2 * radius + 1 pixels along an axis.

    Windows double in length from step to step, so that the cost grows with the logarithm of the
    radius: five times as fast as a pooling operator.
    """
    pad = [(0, 0), (0, 0)]
    pad[axis] = (radius, radius)
    image = np.pad(image, pad, constant_values=np.inf)
    length, width = 1, 2 * radius + 1
    while length < width:
        step = min(length, width - length)
        head = [slice(None)] * 2
        tail = [slice(None)] * 2
        head[axis], tail[axis] = slice(None, -step), slice(step, None)
        image = np.minimum(image[tuple(head)], image[tuple(tail)])
        length += step
    return image
