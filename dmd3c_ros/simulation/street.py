"""Procedural street scenes."""

from __future__ import annotations

from functools import partial

import numpy as np

from dmd3c_ros.simulation import buildings, plants, props, vehicles
from dmd3c_ros.simulation.ground import AHEAD_M, Ground, random_layout, random_path, stripes
from dmd3c_ros.simulation.light import daylight
from dmd3c_ros.simulation.mesh import Mesh, box, boxes, merge, tubes
from dmd3c_ros.simulation.scene import Mover, Scene, SceneBuilder
from dmd3c_ros.simulation.textures import Pattern2D

STYLES = ('urban', 'suburb', 'avenue', 'country', 'industry')
_SHARES = (0.28, 0.24, 0.24, 0.14, 0.10)


def street(seed: int, style: str | None = None) -> Scene:
    """A street scene; the same seed gives the same arrays.

    style is one of STYLES, by default drawn from the seed. Raises ValueError for another.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f'street: expected a style of {", ".join(STYLES)}, got {style!r}')
    rng = np.random.default_rng([seed, 1])
    drawn = str(rng.choice(STYLES, p=_SHARES))
    return _Street(rng, style or drawn).scene(seed)


class _Street:
    """Lays out one street; every method adds one sort of thing."""

    def __init__(self, rng: np.random.Generator, style: str) -> None:
        self.rng, self.style = rng, style
        self.b = SceneBuilder(rng)
        self.path = random_path(rng)
        self.layout = random_layout(rng, style)
        green = {'urban': 0.25, 'industry': 0.4}.get(style, 0.9)
        self.ground = Ground(self.b, self.path, self.layout, green)
        self.b.stripes.extend(stripes(rng, self.layout))
        self.trees, self.far_trees = (
            [self.any_tree(detail) for _ in range(count)] for count, detail in ((5, 1.0), (6, 0.2))
        )
        self.bushes = [plants.bush(self.b) for _ in range(4)]

    def scene(self, seed: int) -> Scene:
        """Fill both sides, the road and the background."""
        for side in (-1, 1):
            self.kerbside(side)
            self.people(side)
            self.frontage(side)
        self.traffic()
        self.overhead()
        self.background()
        speed = float(self.speed)
        return self.b.scene('street', seed, daylight(self.rng), self.path, speed=speed)

    def put(self, mesh: Mesh, s: float, t: float, yaw: float = 0.0, scale: float = 1.0) -> None:
        """Stand a mesh on the ground at (s, t)."""
        self.b.add(mesh.transformed(self.ground.pose(s, t, yaw), scale))

    def any_tree(self, detail: float) -> Mesh:
        """A tree of some sort."""
        make = plants.conifer if self.rng.random() < 0.25 else plants.tree
        return make(self.b, detail)

    def plant(self, s: float, t: float, scale: float = 1.0) -> None:
        """Put one of the scene's trees, a coarse one where it is far."""
        trees = self.trees if s < 50 and abs(t) < 22 else self.far_trees
        mesh = trees[self.rng.integers(len(trees))]
        self.put(mesh, s, t, self.rng.uniform(0, 6.3), scale * self.rng.uniform(0.75, 1.25))

    def kerbside(self, side: int) -> None:
        """Parked cars, trees, posts, signs and small things along the road's edge."""
        rng, lay = self.rng, self.layout
        edge, inset = lay.edge(side), rng.uniform(0.4, 0.9)
        line = edge + side * inset
        facing_road = 0.0 if side < 0 else np.pi
        if lay.parking[side > 0]:
            self.parked(side)
        spacing, start = rng.uniform(14, 40), rng.uniform(0, 15)
        lamps = props.lamp_post(self.b) if rng.random() < 0.7 else props.pole(self.b)
        for s in np.arange(-20 + start, AHEAD_M - 20, spacing):
            self.put(lamps, s, line, facing_road)
        if rng.random() < 0.5 and self.style != 'country':
            spacing = rng.uniform(6, 16)
            for s in np.arange(-15 + rng.uniform(0, spacing), 130, spacing):
                if rng.random() < 0.8 and not lay.in_crossing(s, 3):
                    self.plant(s, line + side * 0.5, 0.7)
        choices = (
            props.sign,
            props.sign,
            props.bin_,
            props.traffic_light,
            props.bench,
            props.pole,
        )
        for _ in range(rng.integers(3, 14)):
            make = choices[rng.integers(len(choices))]
            s = rng.uniform(4, 90)
            if not lay.in_crossing(s, 1):
                turn = facing_road if make is props.traffic_light else rng.normal(0, 0.15)
                self.put(make(self.b), s, line + side * rng.uniform(0, 0.8), turn)
        if rng.random() < 0.3:
            length = rng.uniform(8, 40)
            row = (props.bollards if rng.random() < 0.5 else props.guard_rail)(self.b, length)
            self.put(row, rng.uniform(10, 60), edge + side * 0.35, facing_road)
        if rng.random() < 0.15:
            self.put(
                props.shelter(self.b), rng.uniform(10, 60), edge + side * 1.5, facing_road + np.pi
            )

    def parked(self, side: int) -> None:
        """A row of parked vehicles."""
        rng, lay = self.rng, self.layout
        t = lay.edge(side) - side * 1.05
        s = rng.uniform(-8, 2)
        occupied = rng.uniform(0.4, 0.95)
        while s < 95:
            mesh, room = (
                vehicles.vehicle(self.b) if rng.random() < 0.15 else (vehicles.car(self.b), 5.2)
            )
            if rng.random() < occupied and not lay.in_crossing(s, 5):
                turn = np.pi * (side > 0 and rng.random() < 0.9)
                self.put(mesh, s + room / 2, t + rng.normal(0, 0.08), turn + rng.normal(0, 0.02))
            s += room + rng.uniform(0.3, 2.5)

    def people(self, side: int) -> None:
        """Pedestrians on the pavement, cyclists at the road's edge."""
        rng, lay = self.rng, self.layout
        edge, wide = lay.edge(side), lay.pavement[side > 0]
        for _ in range(rng.poisson({'urban': 6, 'suburb': 2, 'avenue': 2}.get(self.style, 0.6))):
            t = edge + side * rng.uniform(0.3, max(wide, 0.6))
            self.put(props.person(self.b), rng.uniform(4, 60), t, rng.uniform(0, 6.3))
        for _ in range(rng.poisson(0.6)):
            turn = np.pi if side > 0 else 0.0
            self.put(props.cyclist(self.b), rng.uniform(5, 50), edge - side * 0.7, turn)

    def frontage(self, side: int) -> None:
        """What stands beyond the pavement, in stretches of different character."""
        kinds = {
            'urban': ('block', 'block', 'block', 'garden', 'lot', 'park'),
            'suburb': ('garden', 'garden', 'garden', 'block', 'park', 'lot'),
            'avenue': ('park', 'block', 'lot', 'hall', 'field', 'park'),
            'country': ('field', 'park', 'field', 'garden'),
            'industry': ('hall', 'lot', 'hall', 'park'),
        }[self.style]
        s = -25.0
        while s < 150:
            length = self.rng.uniform(18, 70)
            stops = [c - w / 2 for c, w in self.layout.crossings if c - w / 2 > s + 1]
            stop = min([s + length, *stops, 165.0])
            kind = kinds[self.rng.integers(len(kinds))]
            if stop - s > 4:
                getattr(self, f'_{kind}')(side, s, stop)
            crossed = [c + w / 2 for c, w in self.layout.crossings if abs(c - w / 2 - stop) < 0.5]
            s = max([stop, *crossed]) + 0.2

    def _line(self, side: int) -> float:
        return self.layout.edge(side) + side * self.layout.pavement[side > 0]

    def _block(self, side: int, s: float, stop: float) -> None:
        """Houses in a row."""
        rng = self.rng
        back = rng.choice([0.0, 0.5, 3.0])
        while stop - s > 5:
            width = min(rng.uniform(7, 24), stop - s)
            height = rng.choice([4.0, 7.0, 10.0, 14.0, 19.0], p=[0.1, 0.25, 0.3, 0.25, 0.1])
            house = buildings.house(
                self.b, width, rng.uniform(8, 15), height * rng.uniform(0.9, 1.1)
            )
            self._face_road(house, side, s, width, back + rng.uniform(0, 0.3))
            s += width + (rng.uniform(1, 6) if rng.random() < 0.25 else 0.0)

    def _face_road(self, mesh: Mesh, side: int, s: float, width: float, back: float) -> None:
        """Put a building whose front runs along x so that it faces the road."""
        t = self._line(side) + side * back
        if side > 0:
            self.put(mesh, s, t)
        else:
            self.put(mesh, s + width, t, np.pi)

    def _garden(self, side: int, s: float, stop: float) -> None:
        """Detached houses behind fences, hedges or walls, with plants."""
        rng = self.rng
        self._border(side, s, stop)
        while stop - s > 9:
            width = min(rng.uniform(8, 14), stop - s - 1)
            house = buildings.house(self.b, width, rng.uniform(8, 12), rng.uniform(3.0, 7.5))
            self._face_road(house, side, s + 1, width, rng.uniform(3, 9))
            for _ in range(rng.integers(1, 5)):
                self._green(side, s, s + width + 4, 0.6, 8.0)
            s += width + rng.uniform(3, 9)

    def _border(self, side: int, s: float, stop: float) -> None:
        rng = self.rng
        kind = rng.choice(['fence', 'hedge', 'wall', 'none'], p=[0.4, 0.3, 0.15, 0.15])
        make = {
            'fence': partial(props.fence, self.b),
            'hedge': lambda n: plants.hedge(
                self.b, n, rng.uniform(0.7, 2.0), rng.uniform(0.4, 0.9)
            ),
            'wall': lambda n: buildings.wall(self.b, n, rng.uniform(0.5, 2.2)),
        }.get(kind)
        if make is None:
            return
        piece = rng.uniform(6, 12)
        t = self._line(side) + side * 0.4
        mesh = make(piece)
        for at in np.arange(s + piece / 2, stop - piece / 2 + 0.1, piece):
            if rng.random() < 0.9:
                self.put(mesh, at, t)

    def _green(self, side: int, s: float, stop: float, near: float, far: float) -> None:
        rng = self.rng
        at, t = rng.uniform(s, stop), self._line(side) + side * rng.uniform(near, far)
        if rng.random() < 0.5:
            bush = self.bushes[rng.integers(len(self.bushes))]
            self.put(bush, at, t, rng.uniform(0, 6.3), rng.uniform(0.6, 1.4))
        else:
            self.plant(at, t)

    def _park(self, side: int, s: float, stop: float) -> None:
        """Trees and bushes, loose or dense."""
        if self.rng.random() < 0.35:
            self._border(side, s, stop)
        density = self.rng.choice([0.15, 0.35, 0.6])
        for _ in range(int(density * (stop - s)) + 2):
            self._green(side, s, stop, 1.0, self.rng.choice([8.0, 30.0]))

    def _field(self, side: int, s: float, stop: float) -> None:
        """Open land with a few things on it."""
        rng = self.rng
        if rng.random() < 0.3:
            self._border(side, s, stop)
        for _ in range(rng.integers(0, 6)):
            self._green(side, s, stop, 2.0, 60.0)
        if rng.random() < 0.3:
            house = buildings.house(self.b, 12, 9, rng.uniform(4, 8))
            self._face_road(house, side, (s + stop) / 2, 12, rng.uniform(20, 60))

    def _lot(self, side: int, s: float, stop: float) -> None:
        """A parking lot with rows of cars, a hall behind."""
        rng = self.rng
        self._border(side, s, stop)
        pool = [vehicles.vehicle(self.b)[0] for _ in range(7)]
        first = abs(self._line(side)) + 4.0
        for t in first + np.cumsum([0, 7.0, 12.0])[: rng.integers(1, 4)]:
            for at in np.arange(s + 2, stop - 1, 2.7):
                if rng.random() < 0.6:
                    turn = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.03)
                    self.put(pool[rng.integers(7)], at, side * t, turn)
        if rng.random() < 0.6 and stop - s > 15:
            self._face_road(
                buildings.hall(self.b, stop - s - 4, 20, rng.uniform(5, 10)),
                side,
                s + 2,
                stop - s - 4,
                32.0,
            )

    def _hall(self, side: int, s: float, stop: float) -> None:
        """An industrial building set back, with a yard."""
        rng = self.rng
        back = rng.uniform(2, 15)
        self._face_road(
            buildings.hall(self.b, stop - s - 2, 25, rng.uniform(4, 11)),
            side,
            s + 1,
            stop - s - 2,
            back,
        )
        self._border(side, s, stop)
        for _ in range(rng.integers(0, 4)):
            mesh, _ = vehicles.vehicle(self.b)
            if back > 6:
                self.put(
                    mesh,
                    rng.uniform(s + 4, stop - 4),
                    self._line(side) + side * back / 2,
                    rng.choice([0, np.pi]),
                )

    def traffic(self) -> None:
        """Vehicles on the lanes; those of the rig's lane keep their distance to it."""
        rng, lay = self.rng, self.layout
        standing = rng.random() < 0.25
        self.speed = rng.uniform(0.3, 2.0) if standing else rng.uniform(5, 14)
        density = rng.uniform(3, 9) if standing else rng.choice([10.0, 22.0, 60.0])
        for t, way in lay.lanes:
            ours = way > 0 and abs(t) < 0.5
            pace = self.speed if ours else max(0.0, self.speed + rng.normal(0, 1.5))
            s = rng.uniform(7, 12) + rng.exponential(density) if ours else rng.uniform(-15, 10)
            while s < 130:
                mesh, room = vehicles.vehicle(self.b)
                offset = t + rng.normal(0, 0.12)
                self.b.movers.append(Mover(mesh, s + room / 2, offset, way * pace))
                s += room + 1.2 + rng.exponential(density)

    def overhead(self) -> None:
        """Bridges, wires and sign gantries over the road."""
        rng = self.rng
        if rng.random() < (0.35 if self.style == 'avenue' else 0.1):
            for s in rng.uniform(18, 120, rng.integers(1, 3)):
                clearance, width = rng.uniform(4.6, 7.5), rng.uniform(3, 16)
                deck = buildings.bridge(self.b, rng.uniform(50, 120), clearance, width)
                self.put(deck, s, 0.0)
        if rng.random() < 0.3:
            dark = self.b.material((0.01, 0.01, 0.01))
            height, t = rng.uniform(4.8, 8.0), rng.uniform(-6, 6, 2)
            s = np.arange(-10, 140, rng.uniform(20, 35))
            for lane in t:
                nodes = self.path.points(s, np.full_like(s, lane), height)
                self.b.add(props.wires(nodes[:-1], nodes[1:], rng.uniform(0.05, 0.5), dark))
        if self.style == 'avenue' and rng.random() < 0.3:
            self.gantry(rng.uniform(20, 80))

    def gantry(self, s: float) -> None:
        """A frame over the road with boards."""
        lay, metal = self.layout, props.steel(self.b)
        board = self.b.material(
            (0.02, 0.1, 0.4), (0.7, 0.7, 0.7), pattern=Pattern2D.POSTER, scale=0.8, reflectance=0.9
        )
        right, left = lay.right - 0.8, lay.left + 0.8
        parts = [tubes((0, t, -0.5), (0, t, 6.5), 0.15, metal) for t in (right, left)]
        parts += [boxes((-0.1, right, z), (0.1, left, z + 0.12), metal) for z in (5.6, 6.4)]
        for t, way in lay.lanes:
            if way > 0:
                parts.append(boxes((-0.2, t - 1.2, 5.2), (-0.12, t + 1.2, 6.8), board))
        self.put(merge(parts), s, 0.0)

    def background(self) -> None:
        """Woods and tall buildings far off and at the end of the road."""
        rng = self.rng
        tall = {'urban': 0.8, 'suburb': 0.3, 'avenue': 0.6, 'industry': 0.5}.get(self.style, 0.1)
        for _ in range(rng.integers(5, 30)):
            s, t = rng.uniform(30, 185), rng.choice([-1, 1]) * rng.uniform(38, 90)
            self.plant(s, t, rng.uniform(0.9, 1.6))
        if rng.random() < 0.7:
            for t in np.arange(-60, 60, rng.uniform(4, 12)):
                self.plant(rng.uniform(150, 186), t + rng.normal(0, 2), rng.uniform(0.8, 1.5))
        plain = buildings.wall_material(self.b)
        panes = self.b.material(
            self.b.color(0.1, 0.6), (0.03, 0.04, 0.05), scale=3.2, pattern=Pattern2D.WINDOWS
        )
        for _ in range(rng.poisson(6 * tall)):
            s, t = rng.uniform(40, 185), rng.choice([-1, 1]) * rng.uniform(45, 90)
            size = (rng.uniform(10, 25), rng.uniform(10, 25), rng.uniform(10, 40))
            self.put(
                box(size, panes if rng.random() < 0.7 else plain, (0, 0, -2)),
                s,
                t,
                rng.uniform(0, 1.5),
            )
