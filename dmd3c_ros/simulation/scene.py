"""A scene: triangles, materials, light and the path through it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .mesh import Mesh, merge, yaw_pose
from .path import Path
from .raycasting import Hits
from .solid import Solid
from .textures import MaterialTable


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
    fixed: Solid
    materials: MaterialTable
    light: Light
    path: Path
    movers: tuple[Mover, ...] = ()
    time_s: float = 0.0
    speed: float = 8.0  # m/s of a rig that goes with the traffic
    start: float = 0.0  # m along the path where a drive begins
    reach: float = 100.0  # m that a drive can go before the scene thins out

    def at(self, time_s: float) -> Scene:
        """The scene at another time: movers elsewhere, everything else shared."""
        return replace(self, time_s=float(time_s))

    def ground_pose(self, time_s: float) -> np.ndarray:
        """T_world_body (4, 4) of a rig going with the traffic: body on the ground, x forward."""
        return self.path.pose(self.start + self.speed * time_s, 0.0)

    @cached_property
    def moving(self) -> Solid:
        """The movers' triangles at their current positions."""
        return Solid(merge([mover.at(self.path, self.time_s) for mover in self.movers]))

    @cached_property
    def mesh(self) -> Mesh:
        """All triangles; the fixed ones come first."""
        return merge([self.fixed.mesh, self.moving.mesh])

    def cast(self, rays: np.ndarray, threads: int = 0) -> Hits:
        """First hit of rays (N, 6) float32 among all triangles; face indexes `mesh`."""
        hits = self.fixed.cast(rays, threads)
        if self.movers:
            other = self.moving.cast(rays, threads)
            nearer = np.flatnonzero(other.distance < hits.distance)
            hits.distance[nearer] = other.distance[nearer]
            hits.face[nearer] = other.face[nearer] + len(self.fixed)
            hits.bary[nearer] = other.bary[nearer]
        return hits

    def blocked(self, rays: np.ndarray, reach: float, threads: int = 0) -> np.ndarray:
        """Whether anything lies on rays (N, 6) within reach, in multiples of the direction."""
        blocked = self.fixed.blocked(rays, reach, threads)
        return blocked | self.moving.blocked(rays, reach, threads) if self.movers else blocked

    def interpolate(
        self, face: np.ndarray, bary: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit normals (N, 3), texture coordinates (N, 2) m and material rows (N,) of hits."""
        split = len(self.fixed)
        corners = self.fixed.corners(np.minimum(face, split - 1))
        row = self.fixed.mesh.material[np.minimum(face, split - 1)]
        later = np.flatnonzero(face >= split)
        if len(later):
            corners[later] = self.moving.corners(face[later] - split)
            row[later] = self.moving.mesh.material[face[later] - split]
        weight = np.empty((len(face), 3), np.float32)
        weight[:, 1:] = bary
        weight[:, 0] = 1 - bary[:, 0] - bary[:, 1]
        mixed = np.einsum('nij,ni->nj', corners, weight)
        normal = mixed[:, :3]
        normal = normal / np.sqrt(np.einsum('ij,ij->i', normal, normal) + 1e-12)[:, None]
        return normal, mixed[:, 3:], row
