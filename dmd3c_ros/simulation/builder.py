"""Collecting a scene's parts while it is laid out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .mesh import Mesh, merge
from .path import Path
from .scene import Light, Mover, Scene
from .solid import Solid
from .textures import Material, MaterialTable, Stripe


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
        fixed = Solid(merge(self.parts))
        return Scene(kind, seed, fixed, table, light, path, tuple(self.movers), **options)
