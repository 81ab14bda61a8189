"""Cars and vans; local frame x forward, y left, z up, origin on the ground."""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .mesh import Mesh, box, merge, sheet, tubes
from .textures import Pattern2D

_PAINTS = (
    (0.55, 0.56, 0.58),
    (0.2, 0.2, 0.22),
    (0.02, 0.02, 0.025),
    (0.75, 0.75, 0.74),
    (0.05, 0.08, 0.25),
    (0.4, 0.02, 0.03),
    (0.03, 0.12, 0.07),
    (0.45, 0.4, 0.3),
    (0.1, 0.25, 0.45),
    (0.6, 0.35, 0.05),
)
_PAINT_PROBABILITIES = (0.18, 0.17, 0.17, 0.16, 0.09, 0.07, 0.03, 0.05, 0.05, 0.03)  # fmt: skip


def paint(b: SceneBuilder, gloss: float = 0.06) -> int:
    """A car paint; dark ones send little of the laser back."""
    color = np.array(_PAINTS[b.rng.choice(len(_PAINTS), p=_PAINT_PROBABILITIES)]) * b.rng.uniform(
        0.7, 1.2
    )
    reflectance = float(np.clip(color.mean() * 0.9 + b.rng.uniform(0.02, 0.25), 0.04, 0.7))
    return b.material(color, contrast=0.03, gloss=gloss, reflectance=reflectance)


def glass(b: SceneBuilder) -> int:
    """Tinted pane: mirrors the sky, lets the laser through."""
    color = np.full(3, b.rng.uniform(0.008, 0.05))
    return b.material(color, contrast=0.3, gloss=0.08, reflectance=0.1, glass=True)


def rubber(b: SceneBuilder) -> int:
    """Tyres and other black plastic."""
    return b.material((0.018, 0.018, 0.018), contrast=0.2, reflectance=0.1)


def lamp(b: SceneBuilder, color: tuple[float, float, float]) -> int:
    """Tail lamps, sometimes lit."""
    lit = float(b.rng.choice([0.0, 0.5]))
    return b.material(color, contrast=0.1, gloss=0.05, reflectance=0.7, emission=6 * lit)


def wheels(
    b: SceneBuilder, xs: np.ndarray, width: float, radius: float, tyre: float = 0.22
) -> Mesh:
    """Pairs of wheels at xs (m), their outer faces width apart."""
    black = rubber(b)
    rim = b.material(np.full(3, b.rng.uniform(0.15, 0.5)), contrast=0.5, gloss=0.05)
    xs = np.repeat(np.asarray(xs, float), 2)
    side = np.tile([-1.0, 1.0], len(xs) // 2)
    outer = np.stack([xs, side * width / 2, np.full_like(xs, radius)], 1)
    inner = outer - np.stack([0 * xs, side * tyre, 0 * xs], 1)
    face = outer + np.stack([0 * xs, side * 0.004, 0 * xs], 1)
    return merge(
        [
            tubes(inner, outer, radius, black, sides=14, caps=True),
            tubes(outer, face, 0.62 * radius, rim, sides=10, caps=True),
        ]
    )


def _superellipse(count: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """A rounded square of half width 1: count + 1 points at equal distances, closed."""
    angle = np.linspace(0, 2 * np.pi, 721)
    c, s = np.cos(angle), np.sin(angle)
    x, y = np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)
    along = np.r_[0, np.cumsum(np.hypot(np.diff(x), np.diff(y)))]
    even = np.linspace(0, along[-1], count + 1)
    x, y = np.interp(even, along, x), np.interp(even, along, y)
    x[-1], y[-1] = x[0], y[0]
    return x, y


def body(profile: np.ndarray, width: float, material: int, power: float = 4.5) -> Mesh:
    """Rounded hull through stations profile (K, 4): x, bottom z, top z, fraction of the width."""
    y, z = _superellipse(24, power)
    x, low, high, fraction = (profile[:, i, None] for i in range(4))
    points = np.stack(
        [x + 0 * y, 0.5 * width * fraction * y, 0.5 * (low + high) + 0.5 * (high - low) * z], -1
    )
    # The hull leans inwards a little towards the top, as doors do.
    points[..., 1] *= 1 - 0.08 * np.clip(z, 0, 1)
    nose, tail = points[:1].copy(), points[-1:].copy()
    nose[:] = points[0].mean(0)
    tail[:] = points[-1].mean(0)
    return sheet(np.concatenate([nose, points, tail]), material)


def cabin(
    front: tuple[float, float],
    rear: tuple[float, float],
    belt: float,
    roof: float,
    width: float,
    paint_row: int,
    glass_row: int,
    pillars: tuple[float, ...],
    side_row: int | None = None,
    taper: float = 1.0,
) -> Mesh:
    """Greenhouse between the heights belt and roof (m).

    front and rear are x (m) at (belt, roof); pillars: their places as fractions of the length;
    side_row: material of the side panes where it is not glass_row; taper: how far the sides lean.
    """
    px, py = _superellipse(64, 7.0)
    levels = np.array([0.0, 0.1, 0.5, 0.82, 0.95, 1.0, 1.0])
    inset = np.array([0.0, 0.0, 0.06, 0.11, 0.14, 0.24, 0.97])
    inset[:-1] *= taper
    z = belt + (roof - belt) * levels
    z[-1] += 0.03
    xf = front[0] + (front[1] - front[0]) * levels
    xr = rear[0] + (rear[1] - rear[0]) * levels
    xf[-2:] -= [0.12, 0.4 * (front[1] - rear[1])]
    xr[-2:] += [0.12, 0.4 * (front[1] - rear[1])]
    middle, half = (xf + xr) / 2, (xf - xr) / 2
    points = np.stack(
        [
            middle[:, None] + half[:, None] * px,
            0.5 * width * (1 - inset)[:, None] * py,
            np.broadcast_to(z[:, None], (len(z), len(px))),
        ],
        -1,
    )
    cells = np.full((len(z) - 1, len(px) - 1), paint_row)
    cx, cy = (px[:-1] + px[1:]) / 2, (py[:-1] + py[1:]) / 2
    at_side = np.abs(cy) > np.abs(cx)
    panes = np.where(at_side, glass_row if side_row is None else side_row, glass_row)
    panes[(np.abs(cx) > 0.85) & (np.abs(cy) > 0.85)] = paint_row
    for fraction in pillars:
        for side in (-1, 1):
            apart = np.abs((cx + 1) / 2 - fraction) + 9.0 * (cy * side < 0.7)
            panes[apart.argmin()] = paint_row
    cells[1:3] = panes
    return sheet(points, cells)


def car(b: SceneBuilder) -> Mesh:
    """A passenger car: saloon, hatchback, estate or SUV, of random proportions and paint."""
    rng = b.rng
    style = rng.choice(['saloon', 'hatch', 'estate', 'suv'], p=[0.25, 0.3, 0.25, 0.2])
    length = {'saloon': 4.6, 'hatch': 3.9, 'estate': 4.6, 'suv': 4.5}[style]
    length *= rng.uniform(0.94, 1.06)
    width = rng.uniform(1.68, 1.85)
    roof = (1.68 if style == 'suv' else 1.45) * rng.uniform(0.97, 1.06)
    clear = (0.24 if style == 'suv' else 0.17) + rng.uniform(0, 0.04)
    belt, hood = roof * rng.uniform(0.61, 0.66), roof * rng.uniform(0.53, 0.6)
    half = length / 2
    windscreen = half - length * rng.uniform(0.24, 0.29)
    boot = -half + (length * rng.uniform(0.14, 0.18) if style == 'saloon' else 0.12)
    deck = belt * (0.98 if style == 'saloon' else 1.0)
    profile = np.array(
        [
            [half, 0.4, 0.58, 0.72], [half - 0.06, 0.26, hood - 0.14, 0.86],
            [half - 0.2, clear, hood - 0.04, 0.95], [half - 0.5, clear, hood, 0.99],
            [windscreen, clear, belt - 0.04, 1.0], [0.0, clear, belt, 1.0],
            [boot + 0.2, clear, belt, 1.0], [-half + 0.3, clear, deck, 0.98],
            [-half + 0.1, clear + 0.04, deck - 0.05, 0.94],
            [-half + 0.03, 0.3, deck - 0.16, 0.9], [-half, 0.4, deck - 0.3, 0.8],
        ]
    )  # fmt: skip
    skin, pane = paint(b), glass(b)
    lean = {'saloon': 0.55, 'hatch': 0.35, 'estate': 0.2, 'suv': 0.25}[style]
    rake = (roof - belt) * rng.uniform(1.2, 1.7)
    parts = [
        body(profile, width, skin),
        cabin(
            (windscreen + 0.05, windscreen - rake),
            (boot, boot + lean),
            belt - 0.06,
            roof,
            0.97 * width,
            skin,
            pane,
            (0.05, 0.33, 0.62),
        ),
    ]
    radius = rng.uniform(0.3, 0.36) if style == 'suv' else rng.uniform(0.28, 0.32)
    axles = np.array([half - length * 0.19, -half + length * 0.2])
    parts += [_arches(b, axles, width, radius), wheels(b, axles, width + 0.02, radius, 0.2)]
    parts.append(_trim(b, half, width, belt, hood, windscreen))
    if rng.random() < 0.25:
        start = np.array([[boot + lean + 0.1, y, roof + 0.05] for y in (-0.5, 0.5)])
        end = start + np.array([windscreen - rake - boot - lean - 0.3, 0, 0])
        parts.append(tubes(start, end, 0.02, rubber(b), sides=5))
    return merge(parts)


def _arches(b: SceneBuilder, axles: np.ndarray, width: float, radius: float) -> Mesh:
    dark = b.material((0.008, 0.008, 0.008), contrast=0.1, reflectance=0.04)
    x, side = np.repeat(axles, 2), np.tile([-1.0, 1.0], len(axles))
    outer = np.stack([x, side * (width / 2 + 0.002), np.full_like(x, radius + 0.02)], 1)
    inner = outer - np.stack([0 * x, side * 0.3, 0 * x], 1)
    return tubes(inner, outer, radius + 0.055, dark, sides=16, caps=True)


def _trim(
    b: SceneBuilder, half: float, width: float, belt: float, hood: float, windscreen: float
) -> Mesh:
    red, white = lamp(b, (0.5, 0.02, 0.02)), lamp(b, (0.7, 0.7, 0.65))
    plate = b.material(
        (0.7, 0.7, 0.65), (0.05, 0.05, 0.05), pattern=Pattern2D.POSTER, scale=0.3, reflectance=0.9
    )
    black = rubber(b)
    parts = []
    for side in (-1, 1):
        y = side * 0.36 * width
        parts.append(box((0.14, 0.26, 0.2), red, (-half + 0.08, y, belt - 0.32)))
        parts.append(box((0.16, 0.3, 0.12), white, (half - 0.14, y, hood - 0.24)))
        parts.append(box((0.1, 0.2, 0.12), black, (windscreen - 0.2, side * width / 2, belt)))
    parts.append(box((0.05, 0.5, 0.11), plate, (-half, 0, belt - 0.45)))
    parts.append(box((0.04, 0.5, 0.11), plate, (half, 0, 0.42)))
    parts.append(box((0.06, width * 0.8, 0.14), black, (-half + 0.02, 0, 0.3)))
    parts.append(box((0.06, width * 0.6, 0.12), black, (half - 0.04, 0, 0.5)))
    return merge(parts)


def van(b: SceneBuilder) -> Mesh:
    """A delivery van or minibus."""
    rng = b.rng
    length, width, roof = rng.uniform(4.8, 6.2), rng.uniform(1.9, 2.1), rng.uniform(1.95, 2.7)
    half, clear = length / 2, 0.22
    nose = half - rng.uniform(0.7, 1.0)
    profile = np.array(
        [
            [half, 0.4, 0.7, 0.8], [half - 0.08, clear, 0.95, 0.93], [nose, clear, 1.15, 1.0],
            [nose - 0.4, clear, 1.22, 1.0], [-half + 0.1, clear, 1.22, 1.0],
            [-half, 0.35, 1.1, 0.96],
        ]
    )  # fmt: skip
    skin = paint(b)
    side_glass = glass(b) if rng.random() < 0.4 else skin
    parts = [
        body(profile, width, skin, 6.0),
        cabin(
            (nose + 0.1, nose - rng.uniform(0.4, 0.8)),
            (-half + 0.03, -half + 0.1),
            1.1,
            roof,
            width * 0.99,
            skin,
            glass(b),
            (0.3, 0.55, 0.75),
            side_glass,
            0.5,
        ),
    ]
    axles = np.array([half - 0.9, -half + 1.0])
    parts += [_arches(b, axles, width, 0.34), wheels(b, axles, width + 0.02, 0.34)]
    parts.append(_trim(b, half, width, 1.2, 1.0, nose))
    return merge(parts)
