"""Street furniture, fences and people: the thin and small things of a street."""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .mesh import Mesh, box, boxes, ellipsoids, merge, quads, tubes
from .textures import Pattern2D


def steel(b: SceneBuilder) -> int:
    """Galvanized or painted metal."""
    tone = b.rng.uniform(0.03, 0.5)
    return b.material((tone, tone, tone), contrast=0.15, gloss=0.02)


def lamp_post(b: SceneBuilder) -> Mesh:
    """Street lamp, its arm towards +y."""
    rng, metal = b.rng, steel(b)
    height, arm, thick = rng.uniform(4, 11), rng.uniform(0.3, 2.5), rng.uniform(0.05, 0.1)
    return merge(
        [
            tubes((0, 0, -0.3), (0, 0, height), thick, metal, 0.6 * thick, sides=10),
            tubes((0, 0, height), (0, arm, height + 0.3), 0.04, metal, sides=7),
            box((0.25, 0.7, 0.14), metal, (0, arm + 0.2, height + 0.22)),
        ]
    )


def pole(b: SceneBuilder) -> Mesh:
    """Bare mast of wood or steel."""
    thick = b.rng.uniform(0.04, 0.16)
    return tubes((0, 0, -0.3), (0, 0, b.rng.uniform(3, 10)), thick, steel(b), 0.8 * thick, sides=9)


def sign(b: SceneBuilder) -> Mesh:
    """Traffic sign facing -x: disc, triangle, board, on one or two posts."""
    rng, metal = b.rng, steel(b)
    strong = np.array(
        [
            [0.5, 0.02, 0.03],
            [0.02, 0.08, 0.45],
            [0.6, 0.5, 0.03],
            [0.6, 0.6, 0.6],
            [0.02, 0.25, 0.08],
        ]
    )
    first, second = strong[rng.integers(5)], strong[rng.integers(5)]
    shape = rng.choice(['disc', 'triangle', 'plate', 'board'], p=[0.35, 0.2, 0.3, 0.15])
    size = rng.uniform(0.3, 0.45)
    height = rng.uniform(1.9, 3.2)
    row = b.material(
        first, second, pattern=Pattern2D.ROUNDEL, scale=2 * size, offset=size, reflectance=0.95
    )
    middle = np.array([-0.05, 0, height])
    parts = [tubes((0, 0, -0.2), (0, 0, height + size), 0.035, metal, sides=8)]
    if shape in ('disc', 'triangle'):
        count = 20 if shape == 'disc' else 3
        angle = np.linspace(0, 2 * np.pi, count + 1) + np.pi / 2
        rim = np.stack([0 * angle, np.cos(angle), np.sin(angle)], 1) * size + [0, 0, 0.0]
        corners = np.stack([rim[:-1], rim[1:], 0 * rim[1:], 0 * rim[1:]], 1) + middle
        uv = corners[..., 1:] - middle[1:]
        parts.append(quads(corners, row, uv=uv))
        parts.append(quads(corners[:, ::-1] + [0.02, 0, 0], metal))
        return merge(parts)
    wide = size if shape == 'plate' else rng.uniform(0.8, 2.2)
    text = b.material(
        first, second, pattern=Pattern2D.POSTER, scale=rng.uniform(0.15, 0.5), reflectance=0.95
    )
    parts.append(
        boxes(middle - [0.01, wide, size * 1.2], middle + np.array([0.01, wide, size * 1.2]), text)
    )
    if shape == 'board':
        for y in (-0.7 * wide, 0.7 * wide):
            parts.append(tubes((0, y, -0.2), (0, y, height), 0.04, metal, sides=8))
    return merge(parts)


def traffic_light(b: SceneBuilder) -> Mesh:
    """Signal on a post, sometimes also on an arm towards +y over the road."""
    rng, metal = b.rng, steel(b)
    black = b.material((0.015, 0.02, 0.015), contrast=0.1, reflectance=0.15)
    lit = b.material((0.5, 0.05, 0.02), emission=6.0, contrast=0.0)
    spots = [(0.0, 2.5)]
    parts = [tubes((0, 0, -0.2), (0, 0, 3.4), 0.06, metal, sides=9)]
    if rng.random() < 0.5:
        reach, height = rng.uniform(2, 6), rng.uniform(5, 6)
        parts.append(tubes((0, 0, 3.0), (0, 0, height), 0.08, metal, sides=9))
        parts.append(tubes((0, 0, height), (0, reach, height + 0.2), 0.06, metal, sides=8))
        spots.append((reach, height - 0.6))
    for y, z in spots:
        parts.append(box((0.22, 0.3, 0.9), black, (-0.12, y, z)))
        parts.append(ellipsoids((-0.24, y, z + 0.7), (0.03, 0.1, 0.1), lit, 5, 10))
    return merge(parts)


def bollards(b: SceneBuilder, length: float) -> Mesh:
    """A row of posts along x."""
    x = np.arange(-length / 2, length / 2, b.rng.uniform(1.2, 2.5))
    foot = np.stack([x, 0 * x, 0 * x - 0.1], 1)
    return tubes(
        foot,
        foot + np.array([0, 0, b.rng.uniform(0.7, 1.2)]),
        b.rng.uniform(0.04, 0.1),
        steel(b),
        sides=8,
        caps=True,
    )


def fence(b: SceneBuilder, length: float) -> Mesh:
    """Fence along x: bars, pickets, rails or mesh wire, on posts."""
    rng = b.rng
    kind = rng.choice(['bars', 'pickets', 'rails', 'wire'], p=[0.4, 0.2, 0.2, 0.2])
    height = rng.uniform(0.8, 2.0)
    wood = kind == 'pickets'
    row = (
        b.material(b.color(0.1, 0.6), pattern=Pattern2D.BLOTCHES, scale=0.4) if wood else steel(b)
    )
    half = length / 2
    posts = np.arange(-half, half + 0.1, 2.5)
    foot = np.stack([posts, 0 * posts, 0 * posts - 0.3], 1)
    parts = [tubes(foot, foot + np.array([0, 0, height + 0.35]), 0.04, row, sides=6)]
    levels = {
        'bars': [0.1, height - 0.1],
        'pickets': [0.25, height - 0.2],
        'rails': np.arange(0.3, height + 0.1, 0.35),
        'wire': [0.05, height],
    }[kind]
    for z in levels:
        parts.append(boxes((-half, -0.02, z - 0.025), (half, 0.02, z + 0.025), row))
    if kind in ('bars', 'pickets'):
        x = np.arange(-half, half, rng.uniform(0.1, 0.16) if kind == 'bars' else 0.13)
        wide = 0.012 if kind == 'bars' else 0.045
        low = np.stack([x - wide, 0 * x - 0.012, 0 * x + 0.05], 1)
        parts.append(boxes(low, low + np.array([2 * wide, 0.024, height - 0.05]), row))
    elif kind == 'wire':
        x = np.arange(-half - height, half, 0.25)
        a = np.stack([x, 0 * x, 0 * x], 1)
        parts.append(tubes(a, a + np.array([height, 0, height]), 0.004, row, sides=3))
        parts.append(
            tubes(a + np.array([height, 0, 0]), a + np.array([0, 0, height]), 0.004, row, sides=3)
        )
    return merge(parts)


def guard_rail(b: SceneBuilder, length: float) -> Mesh:
    """Crash barrier along x."""
    row, half = steel(b), length / 2
    x = np.arange(-half, half, 2.0)
    low = np.stack([x, 0 * x + 0.04, 0 * x - 0.2], 1)
    profile = np.array([[0.0, 0.45], [0.06, 0.5], [0.0, 0.58], [0.06, 0.68], [0.0, 0.75]])
    points = (
        np.stack([np.r_[[-half, *p]] for p in profile]),
        np.stack([np.r_[[half, *p]] for p in profile]),
    )
    strip = np.stack([points[0][:-1], points[1][:-1], points[1][1:], points[0][1:]], 1)
    return merge([boxes(low, low + np.array([0.1, 0.1, 0.85]), row), quads(strip, row)])


def bin_(b: SceneBuilder) -> Mesh:
    """Waste bin, electric cabinet, container or stone block."""
    rng = b.rng
    size = rng.uniform([0.4, 0.4, 0.7], [1.6, 0.8, 1.5])
    return box(size, b.material(rng.uniform(0.02, 0.6, 3), contrast=0.3), (0, 0, -0.05))


def bench(b: SceneBuilder) -> Mesh:
    """Park bench along x."""
    row, metal = b.material((0.2, 0.12, 0.06), pattern=Pattern2D.PLANKS, scale=0.1), steel(b)
    parts = [boxes((-0.8, y, 0.42), (0.8, y + 0.1, 0.46), row) for y in (-0.2, -0.06, 0.08)]
    parts += [boxes((-0.8, 0.22, z), (0.8, 0.25, z + 0.1), row) for z in (0.55, 0.72)]
    parts += [boxes((x, -0.2, -0.05), (x + 0.05, 0.24, 0.42), metal) for x in (-0.7, 0.65)]
    return merge(parts)


def shelter(b: SceneBuilder) -> Mesh:
    """Bus stop along x, open towards -y."""
    metal = steel(b)
    pane = b.material((0.05, 0.06, 0.06), contrast=0.2, gloss=0.08, glass=True)
    poster = b.material(b.color(0, 0.8), b.color(0, 0.8), pattern=Pattern2D.POSTER, scale=0.5)
    posts = np.array([[x, y, -0.1] for x in (-2.0, 0, 2.0) for y in (0.0, 1.4)])
    return merge(
        [
            tubes(posts, posts + np.array([0, 0, 2.5]), 0.04, metal, sides=7),
            boxes((-2.2, -0.3, 2.4), (2.2, 1.6, 2.5), metal),
            boxes((-2.0, 1.38, 0.25), (2.0, 1.4, 2.2), pane),
            boxes((1.97, 0.1, 0.25), (2.0, 1.3, 2.1), poster),
        ]
    )


def person(b: SceneBuilder) -> Mesh:
    """A standing or walking person, facing +x."""
    rng = b.rng
    tall = rng.uniform(1.5, 1.9) / 1.75
    cloth = b.material(b.color(0.02, 0.6), contrast=0.3, reflectance=rng.uniform(0.2, 0.7))
    trousers = b.material(b.color(0.01, 0.25), contrast=0.3, reflectance=0.3)
    skin = b.material(np.array([0.45, 0.28, 0.2]) * rng.uniform(0.3, 1.2), contrast=0.1)
    stride = rng.uniform(-0.35, 0.35)
    hips = np.array([[0, -0.09, 0.85], [0, 0.09, 0.85]])
    feet = np.array([[stride, -0.1, 0.03], [-stride, 0.1, 0.03]])
    shoulders = np.array([[0, -0.21, 1.38], [0, 0.21, 1.38]])
    hands = np.array([[-stride * 0.8, -0.28, 0.82], [stride * 0.8, 0.28, 0.82]])
    body = merge(
        [
            tubes(hips, feet, 0.085, trousers, 0.055, sides=8),
            tubes(shoulders, hands, 0.055, cloth, 0.04, sides=7),
            ellipsoids((0, 0, 1.15), (0.13, 0.2, 0.38), cloth),
            ellipsoids((0.01, 0, 1.63), (0.1, 0.085, 0.13), skin),
            ellipsoids((-0.02, 0, 1.67), (0.1, 0.09, 0.11), trousers),
        ]
    )
    return body.placed(scale=tall)


def bicycle(b: SceneBuilder) -> Mesh:
    """A bicycle along x."""
    metal = b.material(b.color(0.02, 0.5), contrast=0.1)
    black = b.material((0.02, 0.02, 0.02), reflectance=0.1)
    angle = np.linspace(0, 2 * np.pi, 17)
    parts = []
    for x in (-0.52, 0.52):
        ring = np.stack([x + 0.33 * np.cos(angle), 0 * angle, 0.33 + 0.33 * np.sin(angle)], 1)
        parts.append(tubes(ring[:-1], ring[1:], 0.02, black, sides=4))
        hub = np.broadcast_to([x, 0, 0.33], ring[:-1:2].shape)
        parts.append(tubes(hub, ring[:-1:2], 0.003, metal, sides=3))
    nodes = {
        'r': (-0.52, 0, 0.33),
        'f': (0.52, 0, 0.33),
        'c': (-0.1, 0, 0.3),
        's': (-0.22, 0, 0.85),
        'h': (0.38, 0, 0.85),
        'g': (0.36, 0, 1.02),
    }
    for a, e in (
        ('r', 'c'),
        ('c', 's'),
        ('r', 's'),
        ('c', 'h'),
        ('s', 'h'),
        ('h', 'f'),
        ('h', 'g'),
    ):
        parts.append(tubes(nodes[a], nodes[e], 0.018, metal, sides=5))
    parts.append(tubes((0.36, -0.28, 1.02), (0.36, 0.28, 1.02), 0.015, black, sides=5))
    parts.append(box((0.25, 0.14, 0.05), black, (-0.22, 0, 0.88)))
    return merge(parts)


def cyclist(b: SceneBuilder) -> Mesh:
    """A bicycle with its rider, facing +x."""
    cloth = b.material(b.color(0.02, 0.6), contrast=0.3)
    trousers = b.material(b.color(0.01, 0.2), contrast=0.3)
    skin = b.material((0.4, 0.25, 0.18), contrast=0.1)
    hips = np.array([[-0.2, -0.09, 0.98], [-0.2, 0.09, 0.98]])
    knees = np.array([[0.15, -0.1, 0.75], [0.1, 0.1, 0.9]])
    feet = np.array([[-0.05, -0.12, 0.2], [0.0, 0.12, 0.42]])
    shoulders = np.array([[0.1, -0.2, 1.42], [0.1, 0.2, 1.42]])
    grips = np.array([[0.36, -0.26, 1.04], [0.36, 0.26, 1.04]])
    return merge(
        [
            bicycle(b),
            tubes(hips, knees, 0.085, trousers, 0.06, sides=7),
            tubes(knees, feet, 0.06, trousers, 0.045, sides=7),
            tubes(shoulders, grips, 0.05, cloth, 0.035, sides=6),
            tubes((-0.2, 0, 1.0), (0.12, 0, 1.45), 0.15, cloth, 0.17, sides=9, caps=True),
            ellipsoids((0.2, 0, 1.66), (0.11, 0.09, 0.13), skin),
        ]
    )


def wires(start: np.ndarray, end: np.ndarray, sag: float, material: int) -> Mesh:
    """Hanging wires between points (K, 3)."""
    t = np.linspace(0, 1, 9)[:, None, None]
    nodes = start + t * (end - start) - np.array([0, 0, 4 * sag]) * t * (1 - t)
    return tubes(nodes[:-1].reshape(-1, 3), nodes[1:].reshape(-1, 3), 0.012, material, sides=3)


def container(b: SceneBuilder) -> Mesh:
    """A freight container or skip."""
    ribbed = b.material(
        b.color(0.05, 0.6), b.color(0.05, 0.3), pattern=Pattern2D.PLANKS, scale=0.3
    )
    return box((6.0, 2.4, b.rng.choice([1.4, 2.6])), ribbed, (0, 0, -0.05))


def cone(b: SceneBuilder) -> Mesh:
    """A group of traffic cones."""
    orange = b.material((0.6, 0.15, 0.02), (0.8, 0.8, 0.8), pattern=Pattern2D.CHECKER, scale=0.25)
    foot = np.c_[b.rng.normal(0, 0.5, (3, 2)), np.zeros(3)]
    return merge(
        [
            tubes(foot, foot + np.array([0, 0, 0.7]), 0.15, orange, 0.03, sides=10),
            boxes(foot - 0.18, foot + np.array([0.18, 0.18, 0.03]), orange),
        ]
    )


def barrier(b: SceneBuilder, length: float) -> Mesh:
    """Red and white boards of road works along x, on feet."""
    board = b.material(
        (0.5, 0.03, 0.03),
        (0.75, 0.75, 0.75),
        pattern=Pattern2D.DIAGONAL,
        scale=0.5,
        reflectance=0.8,
    )
    x = np.arange(-length / 2, length / 2, 2.2)
    parts, feet = [], steel(b)
    for low, high, height in ((-1.0, 1.0, 0.85), (-0.95, -0.9, 0.0), (0.9, 0.95, 0.0)):
        base = np.stack([x + low, 0 * x, 0 * x + height], 1)
        top = np.stack([x + high, 0 * x + 0.04, 0 * x + (1.1 if height else 0.9)], 1)
        parts.append(boxes(base, top, board if height else feet))
    return merge(parts)
