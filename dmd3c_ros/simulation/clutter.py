"""Halls, corridors and yards full of unrelated objects at random poses.

Nothing is where it would be in a room or a street, so a network cannot memorize the layout and has
to use the image: shapes, textures, occlusion and shading are the only depth cues (domain
randomization, Tobin et al., IROS 2017).
"""

from __future__ import annotations

import numpy as np

from . import plants, props
from .builder import SceneBuilder
from .furniture import Furniture
from .light import daylight, lamplight
from .mesh import Mesh, box, boxes, ellipsoids, leaves, merge, tubes
from .path import Path
from .scene import Light, Scene
from .textures import Pattern2D

_PATTERNS = (
    Pattern2D.PLAIN,
    Pattern2D.BLOTCHES,
    Pattern2D.BRICK,
    Pattern2D.TILES,
    Pattern2D.PLANKS,
    Pattern2D.CHECKER,
    Pattern2D.POSTER,
    Pattern2D.DIAGONAL,
    Pattern2D.ROUNDEL,
)


def clutter(seed: int) -> Scene:
    """A hall, a corridor or a yard full of things; the same seed gives the same arrays."""
    return _Hall(np.random.default_rng([seed, 3])).scene(seed)


class _Hall:
    """A floor on x in 0..length, y in -width/2..width/2, mostly with walls and a ceiling."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.b = rng, SceneBuilder(rng)
        # Sizes spread evenly over the logarithm: closets as often as halls.
        self.length = float(np.exp(rng.uniform(np.log(2.5), np.log(45))))
        self.width = float(np.clip(self.length * np.exp(rng.uniform(-2.2, 0)), 1.6, 20))
        self.height = float(rng.uniform(2.2, 3.2 + 0.25 * self.width))
        self.roofed = rng.random() < 0.8
        self.stock = Furniture(self.b)
        self.rows = [self._material() for _ in range(24)]

    def _material(self) -> int:
        rng = self.rng
        bright = self.b.color(0.02, 0.85)
        second = self.b.color(0.02, 0.85) if rng.random() < 0.5 else bright * rng.uniform(0.5, 1.3)
        return self.b.material(
            bright,
            np.clip(second, 0.01, 0.9),
            pattern=rng.choice(_PATTERNS),
            scale=float(np.exp(rng.uniform(np.log(0.03), np.log(1.5)))),
            contrast=float(rng.choice([0.03, 0.15, 0.35])),
            gloss=float(rng.choice([0.0, 0.0, 0.0, 0.06])),
            reflectance=float(rng.choice([0.05, 0.3, 0.6])),
        )

    def pick(self) -> int:
        """One of the materials."""
        return self.stock.pick(self.rows)

    def scene(self, seed: int) -> Scene:
        """Build shell, columns, things on the floor, on walls and in the air, and the light."""
        rng = self.rng
        self.shell()
        self.columns()
        crowd = min(1.0, self.length * self.width / 25)
        for _ in range(int(rng.integers(10, 60) * (0.3 + 0.7 * crowd))):
            self.b.add(self.thing())
        s = np.arange(-2.0, self.length + 2.0, 0.25)
        y = np.full_like(s, rng.uniform(-0.3, 0.3) * self.width)
        path = Path(-2.0, 0.25, s, y, 0 * s, 0 * s)
        start = float(rng.uniform(0.05, 0.6) * self.length)
        return self.b.scene(
            'clutter', seed, self.light(), path, speed=0.3, start=start, reach=self.length - start
        )

    def light(self) -> Light:
        """Lamps under a ceiling, daylight without one."""
        rng = self.rng
        if not self.roofed:
            return daylight(rng)
        lamps = np.c_[
            rng.uniform(0.1, 0.9, 2) * self.length,
            rng.uniform(-0.4, 0.4, 2) * self.width,
            np.full(2, self.height - 0.3),
        ]
        return lamplight(rng, lamps)

    def shell(self) -> None:
        """Floor, walls and ceiling; a wall may be missing and show what is farther off."""
        rng, L, W, H = self.rng, self.length, self.width, self.height
        far = rng.uniform(4, 30)
        self.b.add(boxes((-far, -W - far, -0.2), (L + far, W + far, 0.0), self.pick()))
        if self.roofed:
            self.b.add(boxes((-far, -W - far, H), (L + far, W + far, H + 0.2), self.pick()))
        for low, high in (
            ((-0.3, -W / 2, 0), (-0.1, W / 2, H)),
            ((L, -W / 2, 0), (L + 0.2, W / 2, H)),
            ((-far, -W / 2 - 0.2, 0), (L + far, -W / 2, H)),
            ((-far, W / 2, 0), (L + far, W / 2 + 0.2, H)),
        ):
            if rng.random() < (0.85 if self.roofed else 0.5):
                self.b.add(boxes(low, high, self.pick()))
        # What is seen through a missing wall.
        self.b.add(boxes((L + far, -W - far, 0), (L + far + 0.2, W + far, H), self.pick()))
        self.b.add(boxes((-far, W + far, 0), (L + far, W + far + 0.2, H), self.pick()))
        self.b.add(boxes((-far, -W - far - 0.2, 0), (L + far, -W - far, H), self.pick()))

    def columns(self) -> None:
        """Rows of columns along both sides of long halls, at even distances."""
        rng = self.rng
        if self.length < 6 or rng.random() < 0.5:
            return
        x = np.arange(rng.uniform(0.5, 3), self.length, rng.uniform(1.5, 5))
        y = rng.uniform(0.3, 0.48) * self.width
        foot = np.array([[a, side * y, 0] for a in x for side in (-1, 1)])
        top = foot + np.array([0, 0, self.height])
        sides = int(rng.choice([4, 6, 16]))
        self.b.add(tubes(foot, top, rng.uniform(0.06, 0.45), self.pick(), sides=sides))

    def thing(self) -> Mesh:
        """One random object at a random pose, mostly standing, sometimes tilted in the air."""
        rng = self.rng
        mesh = self._object()
        place = np.array(
            [rng.uniform(-0.05, 1.0) * self.length, rng.uniform(-0.5, 0.5) * self.width, 0.0]
        )
        T = np.eye(4)
        T[:3, :3] = _turn(rng, 0.0 if rng.random() < 0.7 else 1.0)
        if rng.random() < 0.25:
            place[2] = rng.uniform(0, 0.8) * self.height
        T[:3, 3] = place
        return mesh.transformed(T, float(np.exp(rng.uniform(np.log(0.4), np.log(1.6)))))

    def _object(self) -> Mesh:
        rng, draw = self.rng, self.rng.random()
        if draw < 0.3:
            return self.stock.any()[0]
        if draw < 0.38:
            return props.person(self.b)
        if draw < 0.45:
            return plants.bush(self.b)
        size = np.exp(rng.uniform(np.log(0.06), np.log(1.6), 3))
        if draw < 0.65:
            return box(size, self.pick())
        if draw < 0.78:
            return ellipsoids((0, 0, size[2] / 2), size / 2, self.pick(), rows=11, columns=20)
        if draw < 0.88:
            ends = rng.normal(0, 1, (int(rng.integers(1, 9)), 3)) * [0.5, 0.5, 0.9]
            return tubes(ends * 0, np.abs(ends), rng.uniform(0.01, 0.06), self.pick())
        if draw < 0.94:
            low = np.zeros((6, 3))
            low[:, 2] = np.arange(6) * size[2] / 4
            return boxes(low, low + np.array([size[0], size[1], 0.02]), self.pick())
        spots = rng.normal(0, 0.25, (int(rng.integers(30, 300)), 3)) + np.array([0, 0, 0.5])
        return merge([leaves(rng, spots, rng.uniform(0.03, 0.15), self.pick())])


def _turn(rng: np.random.Generator, tilt: float) -> np.ndarray:
    """Rotation (3, 3): a random heading, and where tilt is 1 any attitude at all."""
    yaw = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(yaw), np.sin(yaw)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    if not tilt:
        return R
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))
