"""Procedural indoor scenes."""

from __future__ import annotations

import numpy as np

from dmd3c_ros.simulation import plants, props
from dmd3c_ros.simulation.buildings import pane_material
from dmd3c_ros.simulation.light import lamplight
from dmd3c_ros.simulation.mesh import Mesh, box, boxes, ellipsoids, merge, relief, tubes
from dmd3c_ros.simulation.path import Path
from dmd3c_ros.simulation.scene import Scene, SceneBuilder
from dmd3c_ros.simulation.textures import Pattern2D


def indoor(seed: int) -> Scene:
    """A furnished room with doors to neighbouring rooms; the same seed gives the same arrays."""
    rng = np.random.default_rng([seed, 2])
    return _Room(rng).scene(seed)


class _Room:
    """One main room on x in 0..length, y in -width/2..width/2, a corridor or rooms around it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.b = rng, SceneBuilder(rng)
        self.length, self.width = rng.uniform(4, 14), rng.uniform(3, 9)
        self.height = rng.uniform(2.4, 3.6)
        self.wood = [self._wood() for _ in range(3)]
        self.cloth = [self._cloth() for _ in range(4)]
        self.wall = self._wall()

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

    def _wall(self) -> int:
        tone = np.array([1.0, self.rng.uniform(0.85, 1), self.rng.uniform(0.7, 1)])
        tone = tone * self.rng.uniform(0.3, 0.8)
        pattern = self.rng.choice(
            [Pattern2D.PLAIN, Pattern2D.BLOTCHES, Pattern2D.BRICK, Pattern2D.POSTER],
            p=[0.55, 0.25, 0.1, 0.1],
        )
        return self.b.material(
            tone, tone * 0.8, pattern=pattern, scale=self.rng.uniform(0.2, 1.5), contrast=0.12
        )

    def scene(self, seed: int) -> Scene:
        """Build shell, furniture and lamps."""
        rng = self.rng
        self.shell()
        self.neighbours()
        makers = (
            self.table,
            self.table,
            self.shelf,
            self.shelf,
            self.sofa,
            self.cabinet,
            self.bed,
            self.plant,
            self.lamp,
            self.clutter,
            self.chair,
            self.desk,
        )
        for _ in range(rng.integers(6, 18)):
            mesh, along_wall = makers[rng.integers(len(makers))]()
            self.furnish(mesh, along_wall)
        for _ in range(rng.poisson(0.7)):
            self.furnish(props.person(self.b), False)
        self.on_walls()
        lamps = np.c_[
            rng.uniform(1, self.length - 1, 2),
            rng.uniform(-1, 1, 2),
            np.full(2, self.height - 0.25),
        ]
        glow = self.b.material((0.9, 0.9, 0.85), emission=1.5)
        self.b.add(
            *[ellipsoids(p + np.array([0, 0, 0.12]), (0.15, 0.15, 0.06), glow) for p in lamps]
        )
        s = np.arange(-2.0, self.length + 2.0, 0.25)
        bend = 0.15 * np.sin(s / rng.uniform(1, 3) + rng.uniform(0, 6))
        y0 = rng.uniform(-0.25, 0.25) * self.width
        path = Path(-2.0, 0.25, s + 0.6, y0 + bend, 0 * s, np.arctan(np.gradient(bend, s)))
        start = float(rng.uniform(0, 0.3 * self.length))
        return self.b.scene('indoor', seed, lamplight(rng, lamps), path, speed=0.4, start=start)

    def shell(self) -> None:
        """Floor, ceiling and four walls with doors, windows and niches."""
        L, W, H = self.length, self.width, self.height
        floors = [Pattern2D.PLANKS, Pattern2D.TILES, Pattern2D.CHECKER, Pattern2D.PLAIN]
        tone = np.array([0.4, 0.3, 0.2]) * self.rng.uniform(0.3, 1.5)
        floor = self.b.material(
            tone,
            tone * 0.6,
            pattern=self.rng.choice(floors),
            scale=self.rng.uniform(0.12, 0.6),
            gloss=self.rng.choice([0, 0.04]),
        )
        white = self.b.material(np.full(3, self.rng.uniform(0.5, 0.85)), contrast=0.05)
        far = 9.0
        self.b.add(boxes((-far, -W / 2 - far, -0.2), (L + far, W / 2 + far, 0.0), floor))
        self.b.add(boxes((-far, -W / 2 - far, H), (L + far, W / 2 + far, H + 0.2), white))
        # relief faces -y; turned so that it faces the room.
        for x, y, yaw, wide in (
            (0, W / 2, 0, L),
            (L, -W / 2, np.pi, L),
            (L, W / 2, -np.pi / 2, W),
            (0, -W / 2, np.pi / 2, W),
        ):
            self.b.add(self.wall_front(wide, H).placed(x, y, 0, yaw))

    def wall_front(self, wide: float, high: float) -> Mesh:
        """A wall with openings, thick enough to show its reveals."""
        rng = self.rng
        us, vs = [0.0], np.array([0.0, 0.9, 2.05, high])
        depth, rows = [[0.0], [0.0], [0.0]], [[self.wall]] * 3
        depth, rows = [[], [], []], [[], [], []]
        pane, door = pane_material(self.b), self.wood[0]
        while us[-1] < wide - 0.05:
            part = min(rng.uniform(0.5, 2.2), wide - us[-1])
            us.append(us[-1] + part)
            kind = (
                rng.choice(
                    ['wall', 'window', 'door', 'open', 'niche'], p=[0.6, 0.14, 0.08, 0.12, 0.06]
                )
                if 0.7 < part < 1.9
                else 'wall'
            )
            column = {
                'wall': (0, 0, 0),
                'window': (0, -0.15, 0),
                'door': (-0.08, -0.08, 0),
                'open': (np.nan, np.nan, 0),
                'niche': (0, -0.3, 0),
            }[kind]
            paint = {'window': (self.wall, pane, self.wall), 'door': (door, door, self.wall)}.get(
                kind, (self.wall,) * 3
            )
            for r in range(3):
                depth[r].append(column[r])
                rows[r].append(paint[r])
        return relief(np.array(us), vs, np.array(depth, float), np.array(rows), self.wall)

    def neighbours(self) -> None:
        """Walls of the rooms seen through openings."""
        other, L, W, H = self._wall(), self.length, self.width, self.height
        gap = self.rng.uniform(1.2, 6.0, 4)
        self.b.add(
            boxes((-9, W / 2 + gap[0], 0), (L + 9, W / 2 + gap[0] + 0.2, H), other),
            boxes((-9, -W / 2 - gap[1] - 0.2, 0), (L + 9, -W / 2 - gap[1], H), other),
            boxes((L + gap[2], -W / 2 - 9, 0), (L + gap[2] + 0.2, W / 2 + 9, H), other),
            boxes((-gap[3] - 0.2, -W / 2 - 9, 0), (-gap[3], W / 2 + 9, H), other),
        )

    def furnish(self, mesh: Mesh, along_wall: bool) -> None:
        """Place furniture (its back towards +y) at a wall, or anywhere off the middle line."""
        rng, L, W = self.rng, self.length, self.width
        if along_wall:
            wall = rng.integers(3)
            if wall == 2:
                self.b.add(mesh.placed(L - 0.4, rng.uniform(-W / 2 + 1, W / 2 - 1), 0, -np.pi / 2))
                return
            x, side = rng.uniform(0.8, L - 0.8), 1 if wall else -1
            self.b.add(mesh.placed(x, side * (W / 2 - 0.4), 0, 0 if side > 0 else np.pi))
            return
        x = rng.uniform(0.35 * L + 1.0, L - 0.5)
        self.b.add(mesh.placed(x, rng.uniform(-W / 2 + 0.5, W / 2 - 0.5), 0, rng.uniform(0, 6.3)))

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
        green = plants.bush(self.b, self.rng.uniform(0.3, 0.8))
        return merge(
            [
                tubes((0, 0, 0), (0, 0, 0.35), 0.14, pot, 0.19, sides=12, caps=True),
                green.placed(z=0.3),
            ]
        ), False

    def lamp(self) -> tuple[Mesh, bool]:
        """A standard lamp on a thin stem."""
        metal, shade = props.steel(self.b), self.b.material((0.8, 0.7, 0.5), emission=0.3)
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

    def on_walls(self) -> None:
        """Pictures, radiators, pendant lamps, pillars and beams."""
        rng, L, W, H = self.rng, self.length, self.width, self.height
        for _ in range(rng.integers(1, 7)):
            row = self.b.material(
                self.b.color(0, 0.7),
                self.b.color(0, 0.7),
                scale=0.2,
                pattern=rng.choice([Pattern2D.POSTER, Pattern2D.BLOTCHES]),
            )
            x, z, side = rng.uniform(0.5, L - 1), rng.uniform(1.0, 1.7), rng.choice([-1, 1])
            y, a, c = side * (W / 2 - 0.02), rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.5)
            self.b.add(boxes((x - a, y - 0.02, z - c), (x + a, y + 0.02, z + c), row))
        for _ in range(rng.poisson(0.5)):
            x, y = rng.uniform(1.5, L), rng.choice([-1, 1]) * rng.uniform(0.25, 0.5) * W
            self.b.add(tubes((x, y, 0), (x, y, H), rng.uniform(0.03, 0.2), self.wall, sides=16))
        for _ in range(rng.poisson(0.6)):
            x = rng.uniform(1, L)
            self.b.add(boxes((x, -W / 2, H - 0.25), (x + 0.2, W / 2, H), self.pick(self.wood)))
