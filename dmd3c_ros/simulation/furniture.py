"""Furniture; local frame with its back towards +y, origin on the floor."""

from __future__ import annotations

import numpy as np

from . import plants, props
from .builder import SceneBuilder
from .mesh import Mesh, box, boxes, ellipsoids, merge, relief, tubes
from .textures import Pattern2D


class Furniture:
    """Makes pieces from a few woods and cloths that a home has in common.

    Every piece comes with whether it stands at a wall.
    """

    def __init__(self, b: SceneBuilder) -> None:
        self.b, self.rng = b, b.rng
        self.wood = [self._wood() for _ in range(3)]
        self.cloth = [self._cloth() for _ in range(4)]

    def _wood(self) -> int:
        tone = np.array([0.35, 0.2, 0.1]) * self.rng.uniform(0.3, 1.8)
        if self.rng.random() < 0.3:
            tone = np.full(3, self.rng.uniform(0.02, 0.75))
        return self.b.material(
            tone,
            tone * 0.7,
            pattern=Pattern2D.PLANKS,
            contrast=0.2,
            scale=self.rng.uniform(0.1, 0.4),
            gloss=self.rng.choice([0.0, 0.03]),
        )

    def _cloth(self) -> int:
        patterns = [Pattern2D.PLAIN, Pattern2D.CHECKER, Pattern2D.BLOTCHES, Pattern2D.DIAGONAL]
        return self.b.material(
            self.b.color(0.02, 0.6),
            self.b.color(0.02, 0.6),
            pattern=self.rng.choice(patterns),
            scale=self.rng.uniform(0.05, 0.4),
        )

    def any(self) -> tuple[Mesh, bool]:
        """A random piece."""
        makers = (
            self.table, self.table, self.shelf, self.shelf, self.sofa, self.cabinet, self.bed,
            self.plant, self.lamp, self.clutter, self.chair, self.desk,
        )  # fmt: skip
        return makers[self.rng.integers(len(makers))]()

    def pick(self, rows: list[int]) -> int:
        """One of some materials."""
        return rows[self.rng.integers(len(rows))]

    def table(self) -> tuple[Mesh, bool]:
        """A table on thin legs with chairs and things on it."""
        rng, row = self.rng, self.pick(self.wood)
        a, c, h = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.78)
        legs = np.array([[x * a * 0.9, y * c * 0.9, 0] for x in (-1, 1) for y in (-1, 1)])
        parts = [
            boxes((-a, -c, h), (a, c, h + 0.03), row),
            tubes(legs, legs + np.array([0, 0, h]), rng.uniform(0.012, 0.035), row, sides=6),
        ]
        for _ in range(rng.integers(0, 6)):
            size = rng.uniform(0.04, 0.3, 3)
            spot = (rng.uniform(-0.7, 0.7) * a, rng.uniform(-0.7, 0.7) * c, h + 0.03)
            parts.append(box(size, self.pick(self.cloth), spot))
        for _ in range(rng.integers(0, 4)):
            angle = rng.uniform(0, 6.3)
            chair = self.chair()[0].placed(
                1.2 * a * np.cos(angle), 1.5 * c * np.sin(angle), 0, angle - np.pi / 2
            )
            parts.append(chair)
        return merge(parts), False

    def desk(self) -> tuple[Mesh, bool]:
        """A desk at the wall with screens."""
        black = self.b.material((0.01, 0.01, 0.012), gloss=0.05, reflectance=0.06)
        parts = [boxes((-0.8, -0.4, 0.7), (0.8, 0.3, 0.73), self.pick(self.wood))]
        parts += [boxes((x, -0.35, 0), (x + 0.04, 0.25, 0.7), self.wood[0]) for x in (-0.78, 0.74)]
        for x in (-0.3, 0.35)[: self.rng.integers(1, 3)]:
            parts.append(boxes((x - 0.28, 0.1, 0.85), (x + 0.28, 0.13, 1.2), black))
            parts.append(box((0.05, 0.05, 0.15), black, (x, 0.14, 0.73)))
        parts.append(self.chair()[0].placed(0, -0.6, 0, np.pi))
        return merge(parts), True

    def chair(self) -> tuple[Mesh, bool]:
        """A chair on thin legs, its back towards +y, sometimes with bars."""
        row, seat = self.pick(self.wood), self.pick(self.cloth)
        legs = np.array([[x, y, 0] for x in (-0.2, 0.2) for y in (-0.2, 0.2)])
        tops = np.where(legs[:, 1:2] > 0, [[0, 0.05, 0.92]], [[0, 0, 0.45]])
        parts = [
            tubes(legs, legs + tops, 0.016, row, sides=5),
            boxes((-0.23, -0.23, 0.43), (0.23, 0.23, 0.48), seat),
        ]
        if self.rng.random() < 0.5:
            parts.append(boxes((-0.2, 0.22, 0.6), (0.2, 0.25, 0.92), seat))
        else:
            parts += [
                boxes((-0.2, 0.23, z), (0.2, 0.25, z + 0.05), row) for z in (0.6, 0.73, 0.86)
            ]
        return merge(parts), False

    def shelf(self) -> tuple[Mesh, bool]:
        """An open shelf with boards, books and boxes; some have no back."""
        rng, row = self.rng, self.pick(self.wood)
        wide, high = rng.uniform(0.6, 2.2), rng.uniform(0.8, 2.2)
        levels = np.arange(0.05, high, rng.uniform(0.28, 0.42))
        parts = [boxes((-wide / 2, 0, z), (wide / 2, 0.32, z + 0.025), row) for z in levels]
        parts += [boxes((x, 0, 0), (x + 0.025, 0.32, high), row) for x in (-wide / 2, wide / 2)]
        if rng.random() < 0.5:
            parts.append(boxes((-wide / 2, 0.31, 0), (wide / 2, 0.33, high), row))
        colors = [self.b.material(self.b.color(0.02, 0.7), contrast=0.1) for _ in range(6)]
        for z in levels[:-1]:
            count = rng.integers(0, 16)
            x = np.sort(rng.uniform(-wide / 2 + 0.05, wide / 2 - 0.1, count))
            low = np.stack([x, rng.uniform(0.02, 0.1, count), 0 * x + z + 0.025], 1)
            size = rng.uniform([0.02, 0.12, 0.1], [0.06, 0.2, 0.25], (count, 3))
            if count:
                parts.append(boxes(low, low + size, rng.choice(colors, count)))
        return merge(parts), True

    def sofa(self) -> tuple[Mesh, bool]:
        """A sofa or armchair with rounded cushions."""
        row, wide = self.pick(self.cloth), self.rng.uniform(0.9, 2.4)
        half = wide / 2
        parts = [
            boxes((-half, -0.4, 0.1), (half, 0.3, 0.42), row),
            boxes((-half, 0.15, 0.3), (half, 0.38, 0.85), row),
            boxes((-half - 0.15, -0.4, 0.1), (-half, 0.38, 0.6), row),
            boxes((half, -0.4, 0.1), (half + 0.15, 0.38, 0.6), row),
        ]
        for x in np.arange(-half + 0.35, half, 0.6):
            parts.append(ellipsoids((x, 0.08, 0.58), (0.24, 0.1, 0.2), self.pick(self.cloth)))
        return merge(parts), True

    def cabinet(self) -> tuple[Mesh, bool]:
        """A closed cupboard with fronts standing out."""
        rng, row = self.rng, self.pick(self.wood)
        wide, high = rng.uniform(0.5, 2.0), rng.uniform(0.6, 2.2)
        us = np.linspace(0, wide, 2 * rng.integers(1, 4) + 1)
        vs = np.linspace(0, high, 2 * rng.integers(1, 4) + 1)
        offset = rng.choice([0.0, 0.02, -0.2], (len(vs) - 1, len(us) - 1), p=[0.4, 0.5, 0.1])
        front = relief(us, vs, offset, np.full(offset.shape, row), row).placed(-wide / 2, -0.25)
        back = boxes((-wide / 2, -0.04, 0), (wide / 2, 0.38, high), row)
        sides = [boxes((x, -0.25, 0), (x + 0.02, 0.38, high), row) for x in (-wide / 2, wide / 2)]
        top = boxes((-wide / 2, -0.27, high), (wide / 2, 0.38, high + 0.03), row)
        return merge([front, back, top, *sides]), True

    def bed(self) -> tuple[Mesh, bool]:
        """A bed with pillows."""
        sheet_row, row = self.pick(self.cloth), self.pick(self.wood)
        parts = [
            boxes((-0.7, -1.6, 0.1), (0.7, 0.35, 0.3), row),
            boxes((-0.68, -1.58, 0.3), (0.68, 0.33, 0.52), sheet_row),
            boxes((-0.7, 0.33, 0.1), (0.7, 0.38, 1.0), row),
            ellipsoids([(-0.3, 0.1, 0.56), (0.3, 0.1, 0.56)], (0.3, 0.2, 0.1), self.cloth[0]),
        ]
        return merge(parts), True

    def plant(self) -> tuple[Mesh, bool]:
        """A pot plant."""
        pot = self.pick(self.cloth)
        green = plants.bush(self.b, size=self.rng.uniform(0.3, 0.8))
        return merge(
            [
                tubes((0, 0, 0), (0, 0, 0.35), 0.14, pot, 0.19, sides=12, caps=True),
                green.placed(z=0.3),
            ]
        ), False

    def lamp(self) -> tuple[Mesh, bool]:
        """A standard lamp on a thin stem."""
        metal, shade = props.steel(self.b), self.b.material((0.8, 0.7, 0.5), emission=1.0)
        high = self.rng.uniform(1.2, 1.8)
        return merge(
            [
                tubes((0, 0, 0), (0, 0, 0.03), 0.15, metal, caps=True),
                tubes((0, 0, 0), (0, 0, high), 0.012, metal, sides=6),
                tubes((0, 0, high - 0.1), (0, 0, high + 0.2), 0.2, shade, 0.12, sides=14),
            ]
        ), False

    def clutter(self) -> tuple[Mesh, bool]:
        """Boxes, balls and a step ladder's frame on the floor."""
        rng = self.rng
        parts = []
        for _ in range(rng.integers(1, 6)):
            size = rng.uniform(0.1, 0.6, 3)
            piece = box(size, self.pick(self.cloth))
            parts.append(piece.placed(*rng.normal(0, 0.4, 2), 0, rng.uniform(0, 3)))
        parts.append(
            ellipsoids((*rng.normal(0, 0.5, 2), 0.12), (0.12,) * 3, self.pick(self.cloth))
        )
        return merge(parts), False
