"""A drive's depth fused into one coloured surface.

Truncated signed distances in blocks of voxels (Curless and Levoy, "A volumetric method for
building complex models from range images", SIGGRAPH 1996; Niessner et al., "Real-time 3D
reconstruction at scale using voxel hashing", SIGGRAPH Asia 2013), as Open3D's VoxelBlockGrid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.ranges import check_ranges, ranged

_BLOCK = 16  # voxels along an edge
_FIRST_BLOCKS = 4000  # more are allocated if needed
# Voxels on each side of a surface, along the ray. What is a voxel below ground that a camera of
# height h sees d away is d / h voxels behind it: with 4, ground beyond 4 h has holes, in bands.
_TRUNCATION = 8.0


@dataclass(frozen=True)
class MapSettings:
    """How depth is fused into a surface.

    voxel_size: edge length of the voxels, m; smaller details are lost.
    max_depth: depth beyond this is ignored, m.
    min_views: surfaces seen in fewer frames are removed, such as moving objects.
    """

    voxel_size: float = ranged(0.1, 0.005, 5.0)
    max_depth: float = ranged(30.0, 0.1, 1000.0)
    min_views: int = ranged(2, 1, 1000)

    def __post_init__(self) -> None:
        check_ranges(self)


class Mesh(NamedTuple):
    """vertices (N, 3) float32, m; triangles (M, 3) int32, of vertices; colors (N, 3) uint8 RGB."""

    vertices: np.ndarray
    triangles: np.ndarray
    colors: np.ndarray


class TsdfMap:
    """Fuses RGB-D frames. Raises ImportError without Open3D."""

    def __init__(self, settings: MapSettings | None = None) -> None:
        import open3d

        self.settings = settings or MapSettings()
        self._core, self._geometry = open3d.core, open3d.t.geometry
        kind = self._core.float32
        self._grid = self._geometry.VoxelBlockGrid(
            ('tsdf', 'weight', 'color'),
            (kind, kind, kind),
            ((1), (1), (3)),
            float(self.settings.voxel_size),
            _BLOCK,
            _FIRST_BLOCKS,
        )

    def add(
        self, rgb: np.ndarray, depth: np.ndarray, camera: Camera, T_world_camera: np.ndarray
    ) -> None:
        """Fuse a frame: rgb (H, W, 3) uint8; depth (H, W) float32, m, 0 = unknown; pose (4, 4).

        ValueError for sizes that differ.
        """
        if rgb.shape != (*depth.shape, 3):
            raise ValueError(f'rgb: expected {(*depth.shape, 3)} as the depth, got {rgb.shape}')
        reach = float(self.settings.max_depth)
        if not ((depth > 0) & (depth < reach)).any():
            return
        seen = self._image(depth)
        K = self._core.Tensor(np.ascontiguousarray(camera.K, np.float64))
        T_camera_world = self._core.Tensor(np.linalg.inv(T_world_camera))
        blocks = self._grid.compute_unique_block_coordinates(
            seen, K, T_camera_world, 1.0, reach, _TRUNCATION
        )
        colors = self._image(rgb.astype(np.float32) / 255)
        self._grid.integrate(blocks, seen, colors, K, T_camera_world, 1.0, reach, _TRUNCATION)

    def mesh(self) -> Mesh:
        """The surface so far; ValueError if there is none."""
        # Voxels count with more than this weight, of 1 a frame.
        mesh = self._grid.extract_triangle_mesh(self.settings.min_views - 0.5)
        if 'positions' not in mesh.vertex or not len(mesh.vertex.positions):
            raise ValueError(
                f'no surface within {self.settings.max_depth:g} m was seen in '
                f'{self.settings.min_views} frames'
            )
        colors = mesh.vertex.colors.numpy()
        return Mesh(
            mesh.vertex.positions.numpy(),
            mesh.triangle.indices.numpy().astype(np.int32),
            np.rint(255 * np.clip(colors, 0, 1)).astype(np.uint8),
        )

    def _image(self, values: np.ndarray):
        return self._geometry.Image(self._core.Tensor(np.ascontiguousarray(values, np.float32)))


class PointMap:
    """The measured points of a drive alone, coloured, to compare with."""

    def __init__(self, settings: MapSettings) -> None:
        self._reach = settings.max_depth
        self._points: list[np.ndarray] = []
        self._colors: list[np.ndarray] = []

    def add(
        self, rgb: np.ndarray, sparse: np.ndarray, camera: Camera, T_world_camera: np.ndarray
    ) -> None:
        """Add a frame; as `TsdfMap.add`."""
        seen = (sparse > 0) & (sparse < self._reach)
        points = camera.backproject(sparse)[seen]
        self._points.append(points @ T_world_camera[:3, :3].T + T_world_camera[:3, 3])
        self._colors.append(rgb[seen])

    def cloud(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3), m, and colours (N, 3) uint8."""
        if not self._points:
            return np.empty((0, 3)), np.empty((0, 3), np.uint8)
        return np.concatenate(self._points), np.concatenate(self._colors)
