"""Ray casting against a mesh, by Open3D (Embree)."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from .mesh import Mesh


class Hits(NamedTuple):
    """What N rays met.

    distance (N,) float32 in multiples of the ray's direction, inf for nothing; face (N,) triangle
    number, -1 for nothing; bary (N, 2) weights of the triangle's second and third corner.
    """

    distance: np.ndarray
    face: np.ndarray
    bary: np.ndarray


class Solid:
    """A mesh to cast rays against; the search tree is built at the first ray."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def __len__(self) -> int:
        return len(self.mesh)

    @cached_property
    def _tree(self):
        import open3d as o3d

        tree = o3d.t.geometry.RaycastingScene()
        vertices = np.ascontiguousarray(self.mesh.corners.reshape(-1, 3), np.float32)
        triangles = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
        tree.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
        return tree

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
        answer = self._tree.cast_rays(_tensor(rays), nthreads=threads)
        distance = answer['t_hit'].numpy()
        face = answer['primitive_ids'].numpy().astype(np.int64)
        return Hits(
            distance,
            np.where(np.isfinite(distance), face, -1),
            answer['primitive_uvs'].numpy(),
        )

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether (N,) something lies on rays (N, 6) within reach, in multiples of direction."""
        if not len(self):
            return np.zeros(len(rays), bool)
        answer = self._tree.test_occlusions(
            _tensor(rays), tnear=0.0, tfar=float(reach), nthreads=threads
        )
        return answer.numpy()


def _tensor(rays: np.ndarray):
    import open3d as o3d

    return o3d.core.Tensor(np.ascontiguousarray(rays, np.float32))
