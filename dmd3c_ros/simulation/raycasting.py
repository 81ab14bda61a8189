"""Triangles to cast rays against: by Open3D, or by embreex where Open3D is not installed.

Both are Embree underneath. Open3D has wheels of half a gigabyte and casts with several threads;
embreex has wheels of 15 MB for machines that only render training scenes, one process a core.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple, Protocol

import numpy as np


class Hits(NamedTuple):
    """What N rays met.

    distance (N,) float32 in multiples of the ray's direction, inf for nothing; face (N,) triangle
    number, -1 for nothing; bary (N, 2) weights of the triangle's second and third corner.
    """

    distance: np.ndarray
    face: np.ndarray
    bary: np.ndarray


class Triangles(Protocol):
    """Rays (N, 6) float32: origin, direction. threads: 0 for all cores."""

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """The first hit of each ray."""
        ...

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether (N,) something lies on each ray within reach, in multiples of direction."""
        ...


def triangles(vertices: np.ndarray, indices: np.ndarray) -> Triangles:
    """Search tree of triangles: vertices (V, 3), indices (M, 3).

    Raises ImportError with neither Open3D nor embreex.
    """
    vertices = np.ascontiguousarray(vertices, np.float32)
    indices = np.ascontiguousarray(indices, np.uint32)
    if find_spec('open3d') is None and find_spec('embreex') is not None:
        return EmbreexTriangles(vertices, indices)
    return Open3dTriangles(vertices, indices)


class Open3dTriangles:
    """See ``Triangles``."""

    def __init__(self, vertices: np.ndarray, indices: np.ndarray) -> None:
        try:
            import open3d
        except ImportError as error:
            raise ImportError('casting rays needs the package open3d or embreex') from error
        self._tensor = open3d.core.Tensor
        self._scene = open3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(self._tensor(vertices), self._tensor(indices))

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """See ``Triangles``."""
        rays = self._tensor(np.ascontiguousarray(rays, np.float32))
        answer = self._scene.cast_rays(rays, nthreads=threads)
        distance = answer['t_hit'].numpy()
        face = answer['primitive_ids'].numpy().astype(np.int64)
        face = np.where(np.isfinite(distance), face, -1)
        return Hits(distance, face, answer['primitive_uvs'].numpy())

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """See ``Triangles``."""
        rays = self._tensor(np.ascontiguousarray(rays, np.float32))
        answer = self._scene.test_occlusions(rays, tnear=0.0, tfar=float(reach), nthreads=threads)
        return answer.numpy()


class EmbreexTriangles:
    """See ``Triangles``; always one thread."""

    def __init__(self, vertices: np.ndarray, indices: np.ndarray) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, vertices, indices.astype(np.int32))

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """See ``Triangles``."""
        answer = self._run(rays, output=True)
        face = answer['primID'].astype(np.int64)
        met = face >= 0
        distance = np.where(met, answer['tfar'], np.inf).astype(np.float32)
        bary = np.stack([answer['u'], answer['v']], 1) * met[:, None]
        return Hits(distance, face, bary.astype(np.float32))

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """See ``Triangles``."""
        limits = np.full(len(rays), reach, np.float32)
        return self._run(rays, dists=limits, query='OCCLUDED') == 0

    def _run(self, rays: np.ndarray, **options):
        rays = np.asarray(rays, np.float32)
        origins, directions = (np.ascontiguousarray(part) for part in np.split(rays, 2, 1))
        return self._scene.run(origins, directions, **options)
