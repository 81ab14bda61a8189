"""Procedural indoor scenes."""

from __future__ import annotations

import numpy as np

from . import props
from .builder import SceneBuilder
from .buildings import pane_material
from .furniture import Furniture
from .light import lamplight
from .mesh import Mesh, boxes, ellipsoids, relief, tubes
from .path import Path
from .scene import Scene
from .textures import Pattern2D


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
        self.stock = Furniture(self.b)
        self.wood, self.cloth = self.stock.wood, self.stock.cloth
        self.wall = self._wall()

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
        for _ in range(rng.integers(6, 18)):
            self.furnish(*self.stock.any())
        for _ in range(rng.poisson(0.7)):
            self.furnish(props.person(self.b), False)
        self.on_walls()
        lamps = np.c_[
            rng.uniform(1, self.length - 1, 2),
            rng.uniform(-1, 1, 2),
            np.full(2, self.height - 0.25),
        ]
        glow = self.b.material((0.9, 0.9, 0.85), emission=4.0)
        self.b.add(
            *[ellipsoids(p + np.array([0, 0, 0.12]), (0.15, 0.15, 0.06), glow) for p in lamps]
        )
        s = np.arange(-2.0, self.length + 2.0, 0.25)
        bend = 0.15 * np.sin(s / rng.uniform(1, 3) + rng.uniform(0, 6))
        y0 = rng.uniform(-0.25, 0.25) * self.width
        path = Path(-2.0, 0.25, s + 0.6, y0 + bend, 0 * s, np.arctan(np.gradient(bend, s)))
        start = float(rng.uniform(0, 0.3 * self.length))
        way = {'speed': 0.4, 'start': start, 'reach': self.length - start - 1.0}
        return self.b.scene('indoor', seed, lamplight(rng, lamps), path, **way)

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
            self.b.add(
                boxes((x, -W / 2, H - 0.25), (x + 0.2, W / 2, H), self.stock.pick(self.wood))
            )
