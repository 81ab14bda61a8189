"""Trees, bushes and hedges: trunks, branches and many small leaves to see through."""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .mesh import Mesh, boxes, ellipsoids, leaves, merge, tubes
from .textures import Pattern2D


def foliage(b: SceneBuilder) -> int:
    """Leaf colour: greens, sometimes yellow or red-brown."""
    rng = b.rng
    green = np.array([0.05, 0.11, 0.02]) * rng.uniform(0.4, 1.6)
    if rng.random() < 0.2:
        green = np.array([0.22, 0.14, 0.03]) * rng.uniform(0.5, 1.4)
    second = green * rng.uniform(1.4, 2.4) + np.array([0.03, 0.02, 0.0])
    return b.material(
        green, second, pattern=Pattern2D.LEAF, contrast=0.4, reflectance=rng.uniform(0.35, 0.6)
    )


def bark(b: SceneBuilder) -> int:
    """Wood of trunks and branches."""
    return b.material(
        np.array([0.11, 0.085, 0.06]) * b.rng.uniform(0.5, 1.6),
        (0.03, 0.025, 0.02),
        pattern=Pattern2D.BLOTCHES,
        scale=0.2,
        contrast=0.6,
    )


def _in_balls(
    rng: np.random.Generator, centres: np.ndarray, radii: np.ndarray, count: int
) -> np.ndarray:
    """count points near the surfaces of ellipsoids (K, 3), (K, 3)."""
    chosen = rng.choice(
        len(centres), count, p=radii.prod(1) ** 0.67 / (radii.prod(1) ** 0.67).sum()
    )
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    reach = rng.uniform(0, 1, (count, 1)) ** 0.25
    return centres[chosen] + direction * reach * radii[chosen]


def tree(b: SceneBuilder, detail: float = 1.0) -> Mesh:
    """A broad-leaved tree on the origin, now and then bare; detail scales the number of leaves."""
    rng = b.rng
    height = rng.uniform(4, 14)
    wood = bark(b)
    stem = height * rng.uniform(0.18, 0.4)
    crown = np.array([1, 1, 0]) * height * rng.uniform(0.17, 0.32) + [0, 0, (height - stem) * 0.55]
    middle = np.array([0, 0, stem + 0.45 * (height - stem)])
    thick = height * rng.uniform(0.012, 0.025)
    lean = np.r_[rng.normal(0, 0.04, 2) * height, stem + 0.3 * (height - stem)]
    parts = [tubes((0, 0, -0.3), lean, 1.2 * thick, wood, 0.75 * thick, sides=9)]
    clusters = rng.integers(7, 15)
    centres = _in_balls(rng, middle[None], 0.75 * crown[None], clusters)
    parts.append(
        tubes(
            np.broadcast_to(lean, centres.shape)
            - rng.uniform(0, 0.2 * stem, (clusters, 1)) * [0, 0, 1],
            centres,
            0.5 * thick,
            wood,
            0.12 * thick,
            sides=5,
        )
    )
    if rng.random() < 0.06:
        twigs = _in_balls(rng, centres, np.broadcast_to(0.5 * crown, centres.shape), 90)
        parts.append(
            tubes(centres[rng.integers(clusters, size=90)], twigs, 0.02, wood, 0.005, sides=4)
        )
        return merge(parts)
    radii = crown * rng.uniform(0.3, 0.55, (clusters, 1))
    count = int(rng.uniform(1800, 4500) * detail)
    size = rng.uniform(0.1, 0.22, count) * (height / 8 / detail) ** 0.5
    parts.append(leaves(rng, _in_balls(rng, centres, radii, count), size, foliage(b)))
    return merge(parts)


def conifer(b: SceneBuilder, detail: float = 1.0) -> Mesh:
    """A spruce- or cypress-like cone of needles; detail scales the number of twigs."""
    rng = b.rng
    height, foot = rng.uniform(4, 16), rng.uniform(0.3, 1.2)
    radius = height * rng.uniform(0.08, 0.22)
    count = int(rng.uniform(2000, 4000) * detail)
    level = 1 - np.sqrt(rng.uniform(0, 1, count))
    angle = rng.uniform(0, 2 * np.pi, count)
    out = (
        radius
        * (1 - level)
        * rng.uniform(0.5, 1, count)
        * (0.75 + 0.25 * np.cos(level * height * 9))
    )
    points = np.stack(
        [out * np.cos(angle), out * np.sin(angle), foot + level * (height - foot)], 1
    )
    return merge(
        [
            tubes((0, 0, -0.3), (0, 0, height * 0.9), height * 0.015, bark(b), 0.02, sides=7),
            leaves(rng, points, rng.uniform(0.12, 0.3, count) / detail**0.5, foliage(b)),
        ]
    )


def bush(b: SceneBuilder, detail: float = 1.0, size: float | None = None) -> Mesh:
    """A rounded shrub of about size m, dense within; detail scales the number of leaves."""
    rng = b.rng
    size = rng.uniform(0.5, 2.2) if size is None else size
    knots = rng.integers(2, 6)
    centres = np.c_[rng.normal(0, 0.35 * size, (knots, 2)), rng.uniform(0.3, 0.6, knots) * size]
    radii = size * rng.uniform(0.3, 0.55, (knots, 3))
    green = foliage(b)
    count = int(detail * (600 * size + 200))
    return merge(
        [
            ellipsoids(centres, 0.75 * radii, green, rows=6, columns=9),
            leaves(
                rng,
                _in_balls(rng, centres, radii, count),
                rng.uniform(0.06, 0.16, count) / detail**0.5,
                green,
            ),
        ]
    )


def hedge(b: SceneBuilder, length: float, height: float, depth: float) -> Mesh:
    """A clipped hedge along x, centred on the origin."""
    rng = b.rng
    green = foliage(b)
    low = np.array([-length / 2, -depth / 2, -0.2])
    high = np.array([length / 2, depth / 2, height])
    count = int(length * (2 * height + depth) * 40)
    points = rng.uniform(low, high, (count, 3))
    side = rng.integers(0, 3, count)
    points[side == 0, 1], points[side == 1, 1], points[side == 2, 2] = low[1], high[1], high[2]
    points += rng.normal(0, 0.05, points.shape)
    return merge(
        [
            boxes(low + np.array([0, 0.06, 0]), high - [0, 0.06, 0.06], green),
            leaves(rng, points, rng.uniform(0.06, 0.16, count), green),
        ]
    )
