"""Houses, halls, walls and bridges."""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .mesh import Mesh, box, boxes, merge, quads, relief, tubes, yaw_pose
from .textures import Pattern2D


def wall_material(b: SceneBuilder) -> int:
    """Plaster, brick, concrete, cladding."""
    rng = b.rng
    tone = np.array([1.0, rng.uniform(0.82, 1.0), rng.uniform(0.6, 1.0)]) * rng.uniform(0.12, 0.75)
    kind = rng.choice(['plaster', 'brick', 'concrete', 'planks'], p=[0.45, 0.25, 0.2, 0.1])
    if kind == 'brick':
        red = np.array([0.35, 0.14, 0.09]) * rng.uniform(0.5, 1.5)
        return b.material(
            red, (0.4, 0.37, 0.33), pattern=Pattern2D.BRICK, scale=0.25, contrast=0.3
        )
    if kind == 'concrete':
        grey = rng.uniform(0.15, 0.4)
        return b.material(
            (grey,) * 3,
            (grey * 0.7,) * 3,
            pattern=Pattern2D.TILES,
            scale=rng.uniform(1.0, 3.0),
            contrast=0.35,
        )
    if kind == 'planks':
        return b.material(tone * 0.7, tone * 0.35, pattern=Pattern2D.PLANKS, scale=0.18)
    return b.material(
        tone,
        tone * 0.75,
        pattern=Pattern2D.BLOTCHES,
        scale=rng.uniform(2, 8),
        contrast=rng.uniform(0.1, 0.4),
    )


def pane_material(b: SceneBuilder) -> int:
    """Window glass of a house: dark, mirroring; the laser mostly passes."""
    tone = b.rng.uniform(0.01, 0.12)
    return b.material(
        (tone, tone, tone * 1.1),
        (tone * 2, tone * 2, tone * 1.9),
        contrast=0.5,
        pattern=Pattern2D.BLOTCHES,
        scale=1.5,
        gloss=0.1,
        reflectance=0.12,
        glass=True,
    )


def _borders(
    rng: np.random.Generator, total: float, pitch: float, fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cell borders of bays of about pitch m, each wall, opening, wall; and the opening cells."""
    bays = max(1, round(total / pitch))
    width = total / bays
    edge = width * (1 - fraction) / 2
    start = width * np.arange(bays)
    borders = np.stack([start, start + edge, start + width - edge], 1).ravel()
    return np.r_[borders, total], np.arange(1, 3 * bays, 3)


def facade(b: SceneBuilder, width: float, height: float, wall: int, rows: dict[str, int]) -> Mesh:
    """A front from x = 0 to width (m) in the plane y = 0, facing -y, with windows set back.

    rows: the house's own materials for 'pane', 'frame' and 'rail'.
    """
    rng = b.rng
    us, columns = _borders(rng, width, rng.uniform(1.8, 4.5), rng.uniform(0.3, 0.72))
    vs, floors = _borders(rng, height, rng.uniform(2.7, 3.6), rng.uniform(0.4, 0.65))
    offset = np.zeros((len(vs) - 1, len(us) - 1))
    material = np.full(offset.shape, wall)
    window = np.ix_(floors, columns)
    offset[window] = -rng.uniform(0.05, 0.35)
    shuttered = rng.random((len(floors), len(columns))) < rng.uniform(0, 0.3)
    material[window] = np.where(shuttered, rows['frame'], rows['pane'])
    style = rng.choice(['plain', 'shop', 'pilaster', 'arcade'], p=[0.5, 0.2, 0.2, 0.1])
    if style == 'shop':
        offset[:2, columns], material[:2, columns] = -rng.uniform(0.2, 1.2), rows['pane']
    elif style == 'pilaster':
        offset[:, 2::3] = rng.uniform(0.08, 0.3)
    elif style == 'arcade':
        offset[:2, columns], material[:2, columns] = -rng.uniform(1.5, 3.0), rows['frame']
    door = columns[rng.integers(len(columns))]
    offset[:2, door], material[:2, door] = -rng.uniform(0.1, 0.9), rows['frame']
    parts = [relief(us, vs, offset, material, wall)]
    if rng.random() < 0.3:
        parts.append(_balconies(b, us, vs, columns, floors, rows))
    if rng.random() < 0.5:
        ledge = rng.uniform(0.1, 0.35)
        parts.append(boxes((0, -ledge, height - 0.25), (width, 0, height), rows['frame']))
    return merge(parts)


def _balconies(
    b: SceneBuilder,
    us: np.ndarray,
    vs: np.ndarray,
    columns: np.ndarray,
    floors: np.ndarray,
    rows: dict[str, int],
) -> Mesh:
    """Slabs with a parapet or bars before some of the windows."""
    rng = b.rng
    depth, solid = rng.uniform(0.8, 1.6), rng.random() < 0.4
    parts: list[Mesh] = []
    for floor in floors[1:8]:
        for column in columns[:: rng.integers(1, 3)][:8]:
            x0, x1, z = us[column] - 0.3, us[column + 1] + 0.3, vs[floor] - 0.5
            parts.append(boxes((x0, -depth, z - 0.15), (x1, 0, z), rows['frame']))
            if solid:
                parts.append(boxes((x0, -depth, z), (x1, -depth + 0.08, z + 0.95), rows['frame']))
                continue
            x = np.r_[np.arange(x0, x1, 0.14), x1]
            foot = np.stack([x, 0 * x - depth, 0 * x + z], 1)
            parts.append(tubes(foot, foot + np.array([0, 0, 0.95]), 0.012, rows['rail'], sides=3))
            parts.append(
                boxes((x0, -depth - 0.02, z + 0.92), (x1, -depth + 0.03, z + 0.97), rows['rail'])
            )
    return merge(parts)


def house(b: SceneBuilder, width: float, depth: float, height: float) -> Mesh:
    """A building on x in 0..width, y in 0..depth, front towards -y, flat or gabled roof."""
    rng = b.rng
    wall = wall_material(b)
    rows = {
        'pane': pane_material(b),
        'frame': b.material(b.color(0.03, 0.7), contrast=0.2),
        'rail': b.material(np.full(3, rng.uniform(0.02, 0.4)), contrast=0.1),
    }
    parts = [facade(b, width, height, wall, rows).placed(z=-0.3)]
    for x, angle in ((width, np.pi / 2), (0.0, -np.pi / 2)):
        side = (
            facade(b, depth, height, wall, rows)
            if rng.random() < 0.6
            else quads([[(0, 0, 0), (depth, 0, 0), (depth, 0, height), (0, 0, height)]], wall)
        )
        parts.append(side.placed(x, depth if angle < 0 else 0.0, -0.3, angle))
    parts.append(
        quads(
            [[(width, depth, -0.3), (0, depth, -0.3), (0, depth, height), (width, depth, height)]],
            wall,
        )
    )
    parts.append(_roof(b, width, depth, height - 0.3, wall))
    return merge(parts)


def _roof(b: SceneBuilder, w: float, d: float, h: float, wall: int) -> Mesh:
    rng = b.rng
    tiles = b.material(
        np.array([0.3, 0.12, 0.08]) * rng.uniform(0.3, 1.3),
        (0.05, 0.04, 0.04),
        pattern=Pattern2D.TILES,
        scale=0.35,
    )
    if rng.random() < 0.45:
        return merge(
            [
                boxes((-0.1, -0.1, h), (w + 0.1, d + 0.1, h + 0.3), wall),
                box((2, 2, 1.5), wall, (w * rng.uniform(0.2, 0.8), d / 2, h)),
            ]
        )
    rise, over = rng.uniform(0.25, 0.55) * d, 0.4
    a, c = (-over, -over, h - 0.2), (w + over, -over, h - 0.2)
    e, f = (w + over, d + over, h - 0.2), (-over, d + over, h - 0.2)
    r0, r1 = (-over, d / 2, h + rise), (w + over, d / 2, h + rise)
    parts = [
        quads([[a, c, r1, r0], [e, f, r0, r1]], tiles),
        quads(
            [
                [(0, 0, h), (0, d / 2, h + rise), (0, d, h), (0, d / 2, h)],
                [(w, 0, h), (w, d / 2, h), (w, d, h), (w, d / 2, h + rise)],
            ],
            wall,
        ),
        box((0.6, 0.6, rise + 0.8), wall, (w * rng.uniform(0.1, 0.9), d * 0.6, h)),
    ]
    return merge(parts)


def hall(b: SceneBuilder, width: float, depth: float, height: float) -> Mesh:
    """An industrial hall or shop with gates, painted lettering and ribbed cladding."""
    rng = b.rng
    wall = b.material(
        b.color(0.15, 0.7),
        b.color(0.1, 0.5),
        pattern=Pattern2D.PLANKS,
        scale=rng.uniform(0.2, 0.6),
        contrast=0.15,
    )
    gate = b.material(b.color(0.05, 0.6), contrast=0.2)
    sign = b.material(
        b.color(0, 0.8),
        b.color(0, 0.9),
        pattern=Pattern2D.POSTER,
        scale=rng.uniform(1, 3),
    )
    us, columns = _borders(rng, width, rng.uniform(5, 12), rng.uniform(0.3, 0.7))
    vs = np.array([0, min(rng.uniform(2.5, 4.5), height - 1), height])
    offset = np.zeros((2, len(us) - 1))
    material = np.full(offset.shape, wall)
    offset[0, columns] = np.where(rng.random(len(columns)) < 0.3, -3.0, -0.3)
    material[0, columns] = np.where(rng.random(len(columns)) < 0.4, pane_material(b), gate)
    parts = [
        relief(us, vs, offset, material, wall),
        boxes((0, 0.5, 0), (width, depth, height - 0.02), wall),
    ]
    x = rng.uniform(0, width * 0.6)
    parts.append(boxes((x, -0.2, vs[1] + 0.3), (x + width * 0.3, 0, height - 0.2), sign))
    return merge(parts).placed(z=-0.3)


def wall(b: SceneBuilder, length: float, height: float, thick: float = 0.25) -> Mesh:
    """A free-standing wall along x, centred on the origin."""
    row = wall_material(b)
    return boxes((-length / 2, -thick / 2, -0.4), (length / 2, thick / 2, height), row)


def bridge(b: SceneBuilder, span: float, clearance: float, width: float) -> Mesh:
    """A bridge along y over the origin: deck, girders, pillars, railing."""
    rng = b.rng
    concrete = b.material(
        np.full(3, rng.uniform(0.15, 0.4)),
        (0.08, 0.08, 0.07),
        pattern=Pattern2D.BLOTCHES,
        scale=3.0,
        contrast=0.3,
    )
    steel = b.material(b.color(0.05, 0.4), contrast=0.2)
    half, thick = span / 2, rng.uniform(0.6, 1.6)
    parts = [boxes((-width / 2, -half, clearance), (width / 2, half, clearance + thick), concrete)]
    parts.append(
        boxes(
            (-width / 2 - 0.4, -half, clearance + thick - 0.3),
            (width / 2 + 0.4, half, clearance + thick),
            concrete,
        )
    )
    y = np.arange(-half, half, rng.uniform(0.15, 2.0))
    for x in (-width / 2, width / 2):
        foot = np.stack([0 * y + x, y, 0 * y + clearance + thick], 1)
        parts.append(tubes(foot, foot + np.array([0, 0, 1.1]), 0.02, steel, sides=4))
        for z in (0.55, 1.1):
            parts.append(
                tubes(
                    (x, -half, clearance + thick + z),
                    (x, half, clearance + thick + z),
                    0.03,
                    steel,
                    sides=5,
                )
            )
    side = rng.uniform(9, 14)
    for y0 in (-side, side):
        for x in np.linspace(-width * 0.35, width * 0.35, 2 if width > 6 else 1):
            foot = (x, y0, -2.0)
            parts.append(
                tubes(foot, (x, y0 * 1.0, clearance), rng.uniform(0.4, 0.8), concrete, sides=14)
            )
    slope = 0.6 * span
    for sign in (-1, 1):
        bank = [
            (-width, sign * slope * 0.62, -1),
            (width, sign * slope * 0.62, -1),
            (width / 2, sign * half, clearance),
            (-width / 2, sign * half, clearance),
        ]
        parts.append(quads([bank], concrete))
    return merge(parts).transformed(yaw_pose(0, 0, 0, rng.normal(0, 0.2)))
