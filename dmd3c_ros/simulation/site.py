"""A building site: ground, random generator and stock of plants, and ways to put things on it."""

from __future__ import annotations

import numpy as np

from . import plants
from .builder import SceneBuilder
from .ground import Ground, random_layout, random_path, stripes
from .mesh import Mesh

_NEAR_M = (36.0, 20.0)  # along and next to the path: plants within are detailed
_GREEN = {'urban': 0.25, 'industry': 0.4}  # probability that the land is grown over; else 0.9


def _near(s: float, t: float) -> bool:
    return s < _NEAR_M[0] and abs(t) < _NEAR_M[1]


class Site:
    """A street's ground, on which the layout functions place objects.

    Sides are -1 (right) and 1 (left); s runs along the path and t to its left, m.
    """

    def __init__(self, rng: np.random.Generator, style: str) -> None:
        self.rng, self.style = rng, style
        self.b = SceneBuilder(rng)
        self.path = random_path(rng)
        self.layout = random_layout(rng, style)
        self.ground = Ground(self.b, self.path, self.layout, _GREEN.get(style, 0.9))
        self.b.stripes.extend(stripes(rng, self.layout))
        self.trees = [self._tree(1.0) for _ in range(5)]
        self.far_trees = [self._tree(0.2) for _ in range(6)]
        self.bushes = [plants.bush(self.b) for _ in range(4)]
        self.far_bushes = [plants.bush(self.b, 0.2) for _ in range(4)]

    def _tree(self, detail: float) -> Mesh:
        make = plants.conifer if self.rng.random() < 0.25 else plants.tree
        return make(self.b, detail)

    def put(self, mesh: Mesh, s: float, t: float, yaw: float = 0.0, scale: float = 1.0) -> None:
        """Stand a mesh on the ground at (s, t), rotated by yaw (rad) from the path."""
        self.b.add(mesh.transformed(self.ground.pose(s, t, yaw), scale))

    def tree(self, s: float, t: float, scale: float = 1.0) -> None:
        """Place one of the site's trees, a coarse one if it is far away."""
        trees = self.trees if _near(s, t) else self.far_trees
        mesh = trees[self.rng.integers(len(trees))]
        self.put(mesh, s, t, self.rng.uniform(0, 6.3), scale * self.rng.uniform(0.75, 1.25))

    def bush(self, s: float, t: float, scale: float = 1.0) -> None:
        """Put one of the site's bushes."""
        bushes = self.bushes if _near(s, t) else self.far_bushes
        mesh = bushes[self.rng.integers(len(bushes))]
        self.put(mesh, s, t, self.rng.uniform(0, 6.3), scale * self.rng.uniform(0.6, 1.4))

    def green(self, side: int, s: float, stop: float, near: float, far: float) -> None:
        """Put a tree or a bush between s and stop, near to far m beyond the pavement."""
        at, t = self.rng.uniform(s, stop), self.line(side) + side * self.rng.uniform(near, far)
        put = self.bush if self.rng.random() < 0.5 else self.tree
        put(at, t)

    def line(self, side: int) -> float:
        """Where the pavement of that side ends (t)."""
        return self.layout.edge(side) + side * self.layout.pavement[side > 0]

    def face_road(self, mesh: Mesh, side: int, s: float, width: float, back: float) -> None:
        """Put a building, front along x from 0 to width facing -y, back m beyond the pavement."""
        t = self.line(side) + side * back
        if side > 0:
            self.put(mesh, s, t)
        else:
            self.put(mesh, s + width, t, np.pi)
