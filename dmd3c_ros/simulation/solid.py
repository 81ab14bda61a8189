"""A mesh that rays meet."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .mesh import Mesh
from .raycasting import Hits, Triangles, triangles


class Solid:
    """A mesh to cast rays against; the search tree is built at the first ray."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def __len__(self) -> int:
        return len(self.mesh)

    @cached_property
    def _tree(self) -> Triangles:
        vertices = self.mesh.corners.reshape(-1, 3)
        return triangles(vertices, np.arange(len(vertices)).reshape(-1, 3))

    @cached_property
    def _corners(self) -> np.ndarray:
        return np.concatenate([self.mesh.normals, self.mesh.uv], -1)

    def corners(self, face: np.ndarray) -> np.ndarray:
        """Normal and texture coordinates (N, 3, 5) at the corners of triangles (N,)."""
        return self._corners[face]

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """First hit of rays (N, 6) float32: origin, direction. threads: 0 for all."""
        if not len(self):
            nothing = np.full(len(rays), np.inf, np.float32)
            return Hits(nothing, np.full(len(rays), -1), np.zeros((len(rays), 2), np.float32))
        return self._tree.cast(rays, threads)

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether (N,) something lies on rays (N, 6) within reach, in multiples of direction."""
        if not len(self):
            return np.zeros(len(rays), bool)
        return self._tree.blocked(rays, reach, threads)
