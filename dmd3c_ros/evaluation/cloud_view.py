"""A point cloud seen from elsewhere: splats into a depth buffer, no window and no GPU."""

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.surfaces import hangs_on_edge

_SUPERSAMPLING = 2
_LARGEST_SPLAT = 6
_NOTHING = np.uint64(2**64 - 1)


def view_from_beside(depth: np.ndarray, width: int, height: int) -> tuple[Camera, np.ndarray]:
    """A camera behind, beside and above the recording one, placed by the size of the scene.

    depth: (H, W), m, 0 = unknown. Returns the camera and T_view_camera (4, 4).
    """
    scale = float(np.clip(np.median(depth[depth > 0]), 1.5, 14.0))
    eye = scale * np.array([0.30, -0.42, -0.30])
    target = scale * np.array([-0.06, 0.02, 1.5])
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    T_view_camera = np.eye(4)
    T_view_camera[:3, :3] = [right, np.cross(forward, right), forward]
    T_view_camera[:3, 3] = -T_view_camera[:3, :3] @ eye
    K = np.array([[0.62 * width, 0, width / 2], [0, 0.62 * width, height * 0.5], [0, 0, 1.0]])
    return Camera.from_K(K, width, height), T_view_camera


def surface(depth: np.ndarray, sparse: np.ndarray, reach: int = 20) -> np.ndarray:
    """Pixels (H, W) bool that lie on a measured surface.

    Excludes pixels with no LiDAR return within `reach` pixels or farther than any return, such as
    the sky, and flying pixels between a near and a far surface.
    """
    silent = np.where(sparse > 0, 0, 1).astype(np.uint8)
    distance = cv2.distanceTransform(silent, cv2.DIST_L2, 3)
    measured = (depth > 0) & (depth <= sparse.max()) & (distance <= reach)
    return measured & ~hangs_on_edge(depth)


def spacing(points: np.ndarray, limit: float = 6.0) -> np.ndarray:
    """Distance (H, W), m, from each point of an organised cloud to its farther neighbour.

    points: (H, W, 3), m; NaN where unknown. The distance is at most `limit` times that of the
    nearer neighbour, so that the points of an edge do not grow over the gap behind them.
    """
    along = np.linalg.norm(np.diff(points, axis=1, append=points[:, -2:-1]), axis=2)
    across = np.linalg.norm(np.diff(points, axis=0, append=points[-2:-1]), axis=2)
    return np.fmin(np.fmax(along, across), limit * np.fmin(along, across))


def render_cloud(
    points: np.ndarray,
    colors: np.ndarray,
    sizes: np.ndarray,
    camera: Camera,
    T_view_camera: np.ndarray,
    background: tuple[int, int, int],
) -> np.ndarray:
    """Draw points as squares of their own size; the nearest wins.

    points: (N, 3), m. colors: (N, 3) uint8. sizes: (N,), side of the squares, m.
    Returns (height, width, 3) uint8 of `camera`.
    """
    fine = camera.scaled(camera.width * _SUPERSAMPLING, camera.height * _SUPERSAMPLING)
    uv, z = fine.project(points @ T_view_camera[:3, :3].T + T_view_camera[:3, 3])
    ahead = z > 0.05
    uv, z, colors, sizes = uv[ahead], z[ahead], colors[ahead], sizes[ahead]
    size = np.clip(np.ceil(1.2 * fine.fx * sizes / z), 1, _LARGEST_SPLAT * _SUPERSAMPLING)
    # Depth in the upper half of a key and the point's index in the lower one: the smallest key
    # of a pixel is its nearest point.
    keys = (z * 1e3).astype(np.uint64) << np.uint64(32) | np.arange(len(z), dtype=np.uint64)
    buffer = np.full(fine.height * fine.width, _NOTHING)
    for side in np.unique(size).astype(int):
        members = np.flatnonzero(size == side)
        corner = np.floor(uv[members] - (side - 1) / 2).astype(np.int64)
        for offset in np.ndindex(side, side):
            _keep_nearest(buffer, corner + offset, keys[members], fine)
    image = np.full((len(buffer), 3), background, np.uint8)
    hit = buffer != _NOTHING
    image[hit] = colors[(buffer[hit] & np.uint64(0xFFFFFFFF)).astype(np.intp)]
    image = image.reshape(fine.height, fine.width, 3)
    return cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def _keep_nearest(buffer: np.ndarray, pixels: np.ndarray, keys: np.ndarray, camera: Camera):
    inside = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(axis=1)
    flat = pixels[inside, 1] * camera.width + pixels[inside, 0]
    np.minimum.at(buffer, flat, keys[inside])
