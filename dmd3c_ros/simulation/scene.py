"""A scene: triangles, materials, light and the way through it, with ray casting by Open3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dmd3c_ros.simulation.mesh import Mesh, merge, yaw_pose
from dmd3c_ros.simulation.path import Path
from dmd3c_ros.simulation.textures import Material, MaterialTable, Stripe


@dataclass(frozen=True)
class Light:
    """Sun, sky and camera response of a scene; colours are linear RGB."""

    sun_direction: tuple[float, float, float]  # unit, towards the sun
    sun_color: tuple[float, float, float]
    ambient: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloudiness: float = 0.3
    haze_m: float = 600.0  # distance at which haze hides 63 %
    key: float = 0.25  # linear brightness that exposure gives to the middle of the image
    gamma: float = 2.2
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.01
    vignette: float = 0.2
    blur_px: float = 0.45
    lamps: tuple[tuple[float, float, float], ...] = ()  # indoor lamps (m), world frame


class Hits(NamedTuple):
    """What N rays met.

    distance (N,) float32 in multiples of the ray's direction, inf for nothing; face (N,) triangle
    number, -1 for nothing; bary (N, 2) weights of the triangle's second and third corner.
    """

    distance: np.ndarray
    face: np.ndarray
    bary: np.ndarray


class Caster:
    """Ray casting against one mesh."""

    def __init__(self, mesh: Mesh, threads: int = 0) -> None:
        import open3d as o3d

        self._tensor = o3d.core.Tensor
        self._scene = o3d.t.geometry.RaycastingScene(threads)
        self._count = len(mesh)
        if self._count:
            vertices = np.ascontiguousarray(mesh.corners.reshape(-1, 3), np.float32)
            triangles = np.arange(3 * self._count, dtype=np.uint32).reshape(-1, 3)
            self._scene.add_triangles(self._tensor(vertices), self._tensor(triangles))

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """First hit of rays (N, 6) float32: origin, direction."""
        if not self._count:
            return Hits(
                np.full(len(rays), np.inf, np.float32),
                np.full(len(rays), -1),
                np.zeros((len(rays), 2), np.float32),
            )
        answer = self._scene.cast_rays(self._tensor(rays), nthreads=threads)
        distance = answer['t_hit'].numpy()
        face = answer['primitive_ids'].numpy().astype(np.int64)
        return Hits(
            distance, np.where(np.isfinite(distance), face, -1), answer['primitive_uvs'].numpy()
        )

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether something lies on rays (N, 6) within reach (in multiples of the direction)."""
        if not self._count:
            return np.zeros(len(rays), bool)
        blocked = self._scene.test_occlusions(
            self._tensor(rays), tnear=0.0, tfar=float(reach), nthreads=threads
        )
        return blocked.numpy()


@dataclass(frozen=True, eq=False)
class Mover:
    """A mesh that drives along the scene's path: lane offset t (m, left), start s (m), speed (m/s,
    negative: oncoming)."""

    mesh: Mesh
    s: float
    t: float
    speed: float

    def at(self, path: Path, time_s: float) -> Mesh:
        """The mesh in the world frame at a time."""
        T = path.pose(self.s + self.speed * time_s, self.t)
        if self.speed < 0:
            T = T @ yaw_pose(0, 0, 0, np.pi)
        return self.mesh.transformed(T)


@dataclass(frozen=True, eq=False)
class Scene:
    """A world to look at: frame z up, metres. Made by street() and indoor()."""

    kind: str
    seed: int
    fixed: Mesh
    materials: MaterialTable
    light: Light
    path: Path
    movers: tuple[Mover, ...] = ()
    time_s: float = 0.0
    speed: float = 8.0  # m/s of a rig that goes with the traffic
    start: float = 0.0  # m along the path where a drive begins
    reach: float = 100.0  # m that a drive can go before the scene thins out
    _shared: dict = field(default_factory=dict, repr=False)

    def at(self, time_s: float) -> Scene:
        """The scene at another time: movers elsewhere, everything else shared."""
        return replace(self, time_s=float(time_s))

    def ground_pose(self, time_s: float) -> np.ndarray:
        """T_world_body (4, 4) of a rig going with the traffic: body on the ground, x forward."""
        return self.path.pose(self.start + self.speed * time_s, 0.0)

    @cached_property
    def moving(self) -> Mesh:
        """The movers' triangles where they are now."""
        return merge([mover.at(self.path, self.time_s) for mover in self.movers])

    @cached_property
    def mesh(self) -> Mesh:
        """All triangles; the fixed ones come first."""
        return merge([self.fixed, self.moving])

    @cached_property
    def _corners(self) -> np.ndarray:
        """Normal and texture coordinates of all corners, (T, 3, 5), to be fetched in one go."""
        return np.concatenate([self.mesh.normals, self.mesh.uv], -1)

    def interpolate(
        self, face: np.ndarray, bary: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit normals (N, 3), texture coordinates (N, 2) m and material rows (N,) of hits."""
        weight = np.empty((len(face), 3), np.float32)
        weight[:, 1:] = bary
        weight[:, 0] = 1 - bary[:, 0] - bary[:, 1]
        mixed = np.einsum('nij,ni->nj', self._corners[face], weight)
        normal = mixed[:, :3]
        normal = normal / np.sqrt(np.einsum('ij,ij->i', normal, normal) + 1e-12)[:, None]
        return normal, mixed[:, 3:], self.mesh.material[face]

    def _casters(self, threads: int) -> tuple[Caster, Caster]:
        if 'fixed' not in self._shared:
            self._shared['fixed'] = Caster(self.fixed, threads)
        if self.__dict__.get('_moving_caster') is None:
            self.__dict__['_moving_caster'] = Caster(self.moving, threads)
        return self._shared['fixed'], self.__dict__['_moving_caster']

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """First hit of rays (N, 6) float32 among all triangles; face indexes `mesh`."""
        fixed, moving = self._casters(threads)
        hits = fixed.cast(rays, threads)
        if not self.movers:
            return hits
        other = moving.cast(rays, threads)
        nearer = other.distance < hits.distance
        return Hits(
            np.where(nearer, other.distance, hits.distance),
            np.where(nearer, other.face + len(self.fixed), hits.face),
            np.where(nearer[:, None], other.bary, hits.bary),
        )

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether anything lies on rays (N, 6) within reach."""
        fixed, moving = self._casters(threads)
        blocked = fixed.blocked(rays, reach, threads)
        return blocked | moving.blocked(rays, reach, threads) if self.movers else blocked


class SceneBuilder:
    """Collects meshes and materials while a scene is laid out; holds its random generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.parts: list[Mesh] = []
        self.movers: list[Mover] = []
        self.rows: list[Material] = []
        self.stripes: list[Stripe] = []

    def material(
        self, color: Sequence[float], color2: Sequence[float] | None = None, **options
    ) -> int:
        """Add a material and return its row; options are Material's fields."""
        second = tuple(color if color2 is None else color2)
        options.setdefault('offset', float(self.rng.uniform(0, 500)))
        self.rows.append(Material(tuple(color), second, **options))
        return len(self.rows) - 1

    def color(self, low: float, high: float) -> np.ndarray:
        """A random albedo (3,) between low and high: mostly greyish, now and then strong."""
        strong = 0.8 if self.rng.random() < 0.15 else 0.15
        grey, hue = self.rng.uniform(low, high), self.rng.uniform(low, high, 3)
        return (1 - strong) * grey + strong * hue

    def add(self, *meshes: Mesh) -> None:
        """Put meshes, already in the world frame, into the scene."""
        self.parts.extend(meshes)

    def scene(self, kind: str, seed: int, light: Light, path: Path, **options) -> Scene:
        """The finished scene."""
        table = MaterialTable.of(self.rows, self.stripes)
        return Scene(
            kind, seed, merge(self.parts), table, light, path, tuple(self.movers), **options
        )
