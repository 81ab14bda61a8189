"""A depth image reduced to few points, as input for the obstacle layers of costmaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .ranges import check_ranges, ranged


@dataclass(frozen=True)
class ObstacleSettings:
    """Which points the topic `obstacles` contains.

    voxel_size: edge length of the voxels, each with at most one point, m.
    min_range: minimum range from the camera, m.
    max_range: maximum range from the camera, m.
    min_height: minimum height above the camera along its own up axis, m; the ground is below 0.
    max_height: maximum height above the camera, m.
    min_points: pixels that a voxel must contain to count as occupied, to reject outliers; fewer
        for distant voxels that cover fewer pixels.
    """

    voxel_size: float = ranged(0.1, 0.01, 10.0)
    min_range: float = ranged(0.3, 0.0, 1000.0)
    max_range: float = ranged(20.0, 0.1, 1000.0)
    min_height: float = ranged(-3.0, -1000.0, 1000.0)
    max_height: float = ranged(2.0, -1000.0, 1000.0)
    min_points: int = ranged(2, 1, 1000)

    def __post_init__(self) -> None:
        check_ranges(self)
        for low, high in (('min_range', 'max_range'), ('min_height', 'max_height')):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(
                    f'{low}: expected less than {high} {getattr(self, high)}, '
                    f'got {getattr(self, low)}'
                )


def obstacle_points(depth: np.ndarray, camera: Camera, settings: ObstacleSettings) -> np.ndarray:
    """Means (N, 3) float32 of the points in each voxel, m, in the camera's rectified frame.

    depth: (H, W) float32, m, 0 = unknown. Pixels are subsampled as long as every voxel within the
    range can still contain `min_points` of a surface that faces the camera.
    """
    step = _stride(camera, settings)
    depth = depth[::step, ::step]
    near = (depth > 0) & (depth <= settings.max_range)
    axes = camera.strided(step).coordinates(depth)
    points = np.stack([axis[near] for axis in axes], 1).astype(np.float64)
    distance = np.einsum('ij,ij->i', points, points)
    height = -points[:, 1]
    kept = (distance >= settings.min_range**2) & (distance <= settings.max_range**2)
    kept &= (height >= settings.min_height) & (height <= settings.max_height)
    points = points[kept]
    cells = np.floor(points / settings.voxel_size).astype(np.int64)
    cells -= cells.min(axis=0, initial=0)
    _, number_of_y, number_of_z = cells.max(axis=0, initial=0) + 1
    keys = (cells[:, 0] * number_of_y + cells[:, 1]) * number_of_z + cells[:, 2]
    _, voxel, count = np.unique(keys, return_inverse=True, return_counts=True)
    voxel = voxel.reshape(-1)
    sums = [np.bincount(voxel, points[:, axis], len(count)) for axis in range(3)]
    means = np.stack(sums, 1) / count[:, None] if len(count) else np.empty((0, 3))
    # A surface at its distance covers so many pixels; half of them will do.
    covered = (settings.voxel_size * camera.fx / (step * np.maximum(means[:, 2], 1e-6))) ** 2
    return means[count >= np.clip(covered / 2, 1, settings.min_points)].astype(np.float32)


def _stride(camera: Camera, settings: ObstacleSettings) -> int:
    """Every so many rows and columns, one suffices."""
    across = settings.voxel_size * min(camera.fx, camera.fy) / settings.max_range
    return max(1, int(across / np.ceil(np.sqrt(settings.min_points))))
