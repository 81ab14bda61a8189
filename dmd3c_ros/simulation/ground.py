"""The ground of a street scene: road, kerbs, pavements and the land beside, over a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .builder import SceneBuilder
from .mesh import Mesh, sheet
from .path import Path
from .textures import Pattern2D, Stripe

BEHIND_M, AHEAD_M, ASIDE_M = 40.0, 190.0, 95.0


@dataclass(frozen=True)
class Layout:
    """Cross-section of a street, metres; t is positive to the left, the rig drives at t = 0."""

    right: float  # the road's edges
    left: float
    lanes: tuple[tuple[float, int], ...]  # each lane's middle and direction (1: with the rig)
    lane_width: float
    kerb: float
    pavement: tuple[float, float]  # widths right, left
    crossings: tuple[tuple[float, float], ...]  # s and width of crossing roads
    parking: tuple[bool, bool]  # parked cars along the right, left edge

    def edge(self, side: int) -> float:
        """The road's edge at the side -1 (right) or 1 (left)."""
        return self.left if side > 0 else self.right

    def in_crossing(self, s: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Whether s lies on a crossing road."""
        inside = np.zeros(np.shape(s), bool)
        for middle, width in self.crossings:
            inside |= np.abs(np.asarray(s) - middle) < width / 2 + margin
        return inside


def random_path(rng: np.random.Generator) -> Path:
    """A gently winding, gently hilly way."""
    s = np.arange(-BEHIND_M, AHEAD_M + 1.0)
    bend = rng.choice([0.0, 1 / 400, 1 / 160], p=[0.4, 0.35, 0.25])
    curvature = bend * np.sin(s / rng.uniform(25, 90) + rng.uniform(0, 6.3))
    slope = rng.uniform(-0.03, 0.03) + rng.choice([0.0, 0.02, 0.05]) * np.sin(
        s / rng.uniform(20, 60) + rng.uniform(0, 6.3)
    )
    return Path.integrate(curvature, slope, -BEHIND_M, 1.0)


def random_layout(rng: np.random.Generator, style: str) -> Layout:
    """A street of the style 'urban', 'suburb', 'avenue', 'country' or 'industry'."""
    lane_width = rng.uniform(2.9, 3.7)
    with_us, against = {'avenue': (rng.integers(2, 4), rng.integers(1, 4))}.get(style, (1, 1))
    ours = int(rng.integers(with_us))  # lanes to the right of the rig
    lanes = [(lane_width * (i - ours), 1) for i in range(with_us)]
    median = rng.uniform(1, 6) if style == 'avenue' and rng.random() < 0.5 else 0.0
    first = lane_width * (with_us - ours) + median
    lanes += [(first + lane_width * i, -1) for i in range(against)]
    parking = tuple(
        bool(x) for x in rng.random(2) < {'urban': 0.6, 'suburb': 0.5}.get(style, 0.08)
    )
    right = lanes[0][0] - lane_width / 2 - (2.2 if parking[0] else rng.uniform(0.1, 1.2))
    left = lanes[-1][0] + lane_width / 2 + (2.2 if parking[1] else rng.uniform(0.1, 1.2))
    rural = style == 'country' or (style == 'avenue' and rng.random() < 0.4)
    kerb = 0.0 if rural else rng.uniform(0.04, 0.17)
    pavement = (0.6, 0.6) if rural else tuple(rng.uniform(1.2, 5.0, 2).tolist())
    count = rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2])
    crossings = tuple(
        (float(rng.uniform(15, 60) + 60 * i), float(rng.uniform(6, 14))) for i in range(count)
    )
    return Layout(right, left, tuple(lanes), lane_width, kerb, pavement, crossings, parking)


class Ground:
    """Heights and the mesh of the ground."""

    def __init__(self, b: SceneBuilder, path: Path, layout: Layout, green: float) -> None:
        self.path, self.layout = path, layout
        self.s = np.arange(-BEHIND_M, AHEAD_M, 1.5)
        self.t, zone = self._columns(b.rng)
        self.h = self._heights(b.rng)
        materials = self._materials(b, green)
        cells = np.broadcast_to(np.array([materials[z] for z in zone]), self._cells()).copy()
        crossing = layout.in_crossing((self.s[:-1] + self.s[1:]) / 2)
        cells[crossing] = materials['road']
        points = path.points(self.s[:, None], self.t[None], self.h)
        uv = np.stack(np.broadcast_arrays(self.s[:, None], self.t[None]), -1)
        b.add(sheet(points, cells, uv))
        b.add(self._far_plane(materials['land']))

    def _cells(self) -> tuple[int, int]:
        return len(self.s) - 1, len(self.t) - 1

    def _columns(self, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        lay = self.layout
        t = np.linspace(lay.right, lay.left, 8).tolist()
        zone = ['road'] * 7
        for side in (-1, 1):
            edge, wide = lay.edge(side), lay.pavement[side > 0]
            reach = ASIDE_M - abs(edge) - wide
            land = abs(edge) + wide + reach * np.linspace(0, 1, 14)[1:] ** 2
            out = [edge + side * 0.02, edge + side * 0.22, edge + side * wide, *(side * land)]
            kinds = ['kerb', 'kerb', 'pavement'] + ['land'] * 13
            if side > 0:
                t, zone = t + out, zone + kinds
            else:
                t, zone = out[::-1] + t, kinds[::-1] + zone
        return np.array(t), zone

    def _heights(self, rng: np.random.Generator) -> np.ndarray:
        lay, s, t = self.layout, self.s[:, None], self.t[None]
        beyond = np.where(t > 0, t - lay.left, lay.right - t)
        paved = np.where(t > 0, lay.pavement[1], lay.pavement[0])
        raised = np.where(beyond > 0.01, lay.kerb, 0.0)
        away = np.clip(beyond - paved, 0, None)
        bank = np.where(t > 0, rng.normal(0, 0.06), rng.normal(0, 0.06))
        relief = np.clip(away * bank, -4, 7)
        for _ in range(4):
            wave = rng.uniform(8, 60)
            turn = rng.uniform(0, 2 * np.pi, 2)
            relief = relief + 0.006 * wave * np.clip(away / 15, 0, 1) * np.sin(
                s / wave * 4 + turn[0]
            ) * np.cos(t / wave * 4 + turn[1])
        calm = np.ones_like(s)
        for middle, width in lay.crossings:
            calm = np.minimum(calm, np.clip((np.abs(s - middle) - width / 2) / 2.0, 0, 1))
        # The crown's height at the rig's lane is about 0, where the vehicles drive.
        crown = 0.02 * np.clip(np.minimum(t - lay.right, lay.left - t), 0, 3) - 0.05
        return (raised + relief) * calm + crown

    def _materials(self, b: SceneBuilder, green: float) -> dict[str, int]:
        rng = b.rng
        grey = rng.uniform(0.05, 0.24)
        stone = rng.uniform(0.15, 0.4)
        tint = np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.0)])
        road = b.material(
            grey * tint,
            grey * rng.uniform(0.5, 0.8) * tint,
            pattern=Pattern2D.ROAD,
            scale=rng.uniform(1, 3),
            contrast=rng.uniform(0.15, 0.5),
            reflectance=rng.uniform(0.12, 0.3),
            offset=0.0,
        )
        if rng.random() < 0.08:  # cobbles
            road = b.material((grey,) * 3, (grey * 0.4,) * 3, pattern=Pattern2D.TILES, scale=0.16)
        pave = rng.choice([Pattern2D.TILES, Pattern2D.PLAIN, Pattern2D.BRICK])
        pavement = b.material(
            stone * tint,
            stone * 0.6 * tint,
            pattern=pave,
            scale=rng.uniform(0.2, 0.7),
            contrast=0.25,
        )
        kerb = b.material(
            (stone * 1.2,) * 3, (stone * 0.6,) * 3, pattern=Pattern2D.PLANKS, scale=1.0
        )
        if rng.random() < green:
            grass = np.array([0.09, 0.15, 0.03]) * rng.uniform(0.5, 1.6)
            dry = np.array([0.22, 0.17, 0.08]) * rng.uniform(0.5, 1.3)
            land = b.material(
                grass,
                dry,
                pattern=Pattern2D.BLOTCHES,
                scale=rng.uniform(1, 6),
                contrast=0.6,
                reflectance=0.45,
            )
        else:
            land = b.material(
                stone * tint * 0.8,
                stone * tint * 0.5,
                pattern=Pattern2D.BLOTCHES,
                scale=4.0,
                contrast=0.35,
            )
        paved = land if self.layout.kerb == 0 else pavement
        return {
            'road': road,
            'pavement': paved,
            'kerb': kerb if self.layout.kerb else paved,
            'land': land,
        }

    def _far_plane(self, material: int) -> Mesh:
        """Land out to the horizon, below the modelled ground."""
        angle = np.linspace(0, 2 * np.pi, 25)
        radius = np.array([60.0, 200.0, 900.0])[:, None]
        middle = self.path.points(np.array(70.0), np.array(0.0))
        low = float(self.h.min() + self.path.z.min()) - 1.5
        rise = np.array([0.0, 0.0, 15.0])[:, None]
        points = np.stack(
            [
                middle[0] + radius * np.cos(angle),
                middle[1] + radius * np.sin(angle),
                low + rise + 0 * angle,
            ],
            -1,
        )
        return sheet(points, material)

    def height(self, s: float, t: float) -> float:
        """Height (m) of the ground above the path at (s, t)."""
        row = int(np.clip(np.searchsorted(self.s, s) - 1, 0, len(self.s) - 2))
        fraction = np.clip((s - self.s[row]) / (self.s[row + 1] - self.s[row]), 0, 1)
        heights = (1 - fraction) * self.h[row] + fraction * self.h[row + 1]
        return float(np.interp(t, self.t, heights))

    def pose(self, s: float, t: float, yaw: float = 0.0) -> np.ndarray:
        """Upright pose (4, 4) on the ground at (s, t), turned by yaw (rad) from the path."""
        T = self.path.pose(s, t, level=True)
        T[2, 3] += self.height(s, t)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        return T @ turn


def stripes(rng: np.random.Generator, layout: Layout) -> list[Stripe]:
    """Lane lines, edge lines, and stop lines with zebra crossings at crossing roads."""
    wide = rng.uniform(0.1, 0.18)
    dash, period = rng.uniform(2, 6), rng.uniform(7, 13)
    marks = []
    for (a, way_a), (c, way_c) in zip(layout.lanes, layout.lanes[1:], strict=False):
        middle = (a + c) / 2
        solid = way_a != way_c and rng.random() < 0.5
        marks.append(
            Stripe(middle - wide / 2, middle + wide / 2, *(() if solid else (dash, period)))
        )
    if rng.random() < 0.6:
        for t, inward in ((layout.right, 1), (layout.left, -1)):
            low = t + inward * 0.25
            marks.append(Stripe(min(low, low + inward * wide), max(low, low + inward * wide)))
    for s, width in layout.crossings:
        before = s - width / 2
        marks.append(
            Stripe(layout.right, layout.lane_width / 2, start=before - 4.9, stop=before - 4.5)
        )
        if rng.random() < 0.7:
            for t in np.arange(layout.right + 0.3, layout.left - 0.3, 1.0):
                marks.append(Stripe(t, t + 0.5, start=before - 3.8, stop=before - 0.8))
    return marks
