"""Lorries and buses, and vehicles of any sort; local frame as in cars."""

from __future__ import annotations

import numpy as np

from .builder import SceneBuilder
from .cars import cabin, car, glass, lamp, paint, rubber, van, wheels
from .mesh import Mesh, box, boxes, merge, sheet
from .textures import Pattern2D


def _lorry_cab(b: SceneBuilder, x: float, width: float, height: float) -> Mesh:
    skin, pane, black = paint(b), glass(b), rubber(b)
    front, back = x + 1.9, x
    parts = [
        cabin((front, front - 0.12), (back, back), 0.9, height, width, skin, skin, (), taper=0.3),
        boxes((back + 0.05, -width / 2, 0.45), (front, width / 2, 0.95), skin),
        boxes(
            (front - 0.02, -width * 0.44, height * 0.58),
            (front + 0.01, width * 0.44, height * 0.82),
            pane,
        ),
        boxes(
            (front - 1.1, -width * 0.49, height * 0.58),
            (front - 0.3, width * 0.49, height * 0.8),
            pane,
        ),
        boxes((front, -width * 0.45, 0.35), (front + 0.08, width * 0.45, 0.7), black),
    ]
    for side in (-1, 1):
        parts.append(
            box((0.12, 0.2, 0.6), black, (front - 0.1, side * (width / 2 + 0.2), height * 0.6))
        )
    return merge(parts)


def _tank(b: SceneBuilder, low: float, x0: float, x1: float, width: float) -> Mesh:
    grey = b.rng.uniform(0.35, 0.75)
    skin = b.material(
        (grey, grey, grey * 0.95),
        (0.1, 0.15, 0.35),
        pattern=Pattern2D.POSTER,
        scale=b.rng.uniform(2, 4),
        contrast=0.15,
        gloss=0.06,
    )
    angle = np.linspace(0, 2 * np.pi, 25)
    radius = width / 2 * np.array([0.3, 0.8, 1.0, 1.0, 0.8, 0.3])
    along = np.array([x0, x0 + 0.25, x0 + 0.8, x1 - 0.8, x1 - 0.25, x1])
    points = np.stack(
        [
            along[:, None] + 0 * angle,
            radius[:, None] * np.cos(angle),
            low + width / 2 + radius[:, None] * np.sin(angle),
        ],
        -1,
    )
    return sheet(points, skin)


def lorry(b: SceneBuilder) -> Mesh:
    """A lorry: cab and box, curtain, tank, tipper or bare flatbed, open below."""
    rng = b.rng
    length, width, height = rng.uniform(6.5, 15.0), rng.uniform(2.3, 2.55), rng.uniform(2.5, 3.4)
    x1 = length / 2
    x0, bed = -length / 2, rng.uniform(0.95, 1.25)
    black = rubber(b)
    parts = [_lorry_cab(b, x1 - 2.0, width, height)]
    parts.append(boxes((x0, -0.45, 0.7), (x1 - 1.0, 0.45, bed), black))
    parts.append(boxes((x0, -width / 2, bed - 0.12), (x1 - 2.2, width / 2, bed), black))
    style = rng.choice(['box', 'curtain', 'tank', 'tipper', 'flat'], p=[0.3, 0.25, 0.2, 0.15, 0.1])
    end = x1 - 2.0 - rng.uniform(0.2, 0.8)
    if style == 'tank':
        parts.append(_tank(b, bed, x0 + 0.1, end, width))
    elif style in ('box', 'curtain'):
        color, second = b.color(0.1, 0.8), b.color(0.05, 0.8)
        pattern = rng.choice([Pattern2D.POSTER, Pattern2D.PLAIN, Pattern2D.PLANKS])
        skin = b.material(color, second, pattern=pattern, scale=rng.uniform(0.8, 3), contrast=0.15)
        top = rng.uniform(2.6, 4.0)
        parts.append(boxes((x0, -width / 2, bed), (end, width / 2, top), skin))
    elif style == 'tipper':
        skin = b.material(b.color(0.1, 0.7), contrast=0.4)
        for low, high in (
            ((x0, -width / 2, bed), (end, -width / 2 + 0.08, bed + 1.1)),
            ((x0, width / 2 - 0.08, bed), (end, width / 2, bed + 1.1)),
            ((x0, -width / 2, bed), (x0 + 0.08, width / 2, bed + 1.0)),
            ((end - 0.1, -width / 2, bed), (end, width / 2, bed + 1.4)),
        ):
            parts.append(boxes(low, high, skin))
    parts.append(_lorry_details(b, x0, width))
    axles = [x1 - 1.3, x0 + 1.2] + [x0 + 2.5] * (length > 9) + [x0 + 3.8] * (length > 12)
    parts.append(wheels(b, np.array(axles), width, 0.5, 0.35))
    return merge(parts)


def _lorry_details(b: SceneBuilder, x0: float, width: float) -> Mesh:
    hazard = b.material(
        (0.6, 0.45, 0.02),
        (0.45, 0.02, 0.02),
        pattern=Pattern2D.DIAGONAL,
        scale=0.3,
        reflectance=0.8,
    )
    bar = b.material(np.full(3, 0.35), contrast=0.2)
    red = lamp(b, (0.5, 0.02, 0.02))
    parts = [
        boxes((x0 - 0.03, -width / 2, 0.8), (x0, width / 2, 0.95), hazard),
        boxes((x0 + 0.1, -width * 0.48, 0.45), (x0 + 0.2, width * 0.48, 0.57), bar),
    ]
    for side in (-1, 1):
        parts.append(box((0.06, 0.4, 0.15), red, (x0 - 0.02, side * width * 0.36, 0.62)))
        for z in (0.5, 0.8):
            rail = (x0 + 4.6, side * width * 0.48, z)
            parts.append(
                boxes(rail, (x0 + 8.0, side * width * 0.48 + 0.04, z + 0.1), bar)
                if b.rng.random() < 0.5
                else box((0.3, 0.06, 0.08), bar, rail)
            )
    return merge(parts)


def bus(b: SceneBuilder) -> Mesh:
    """A city bus or tram car."""
    rng = b.rng
    length, width, roof = rng.uniform(9, 16), 2.5, rng.uniform(2.9, 3.3)
    skin, pane = paint(b), glass(b)
    half = length / 2
    pillars = tuple(np.arange(0.06, 1.0, 1.5 / length))
    ends = (half, half - 0.15), (-half, -half + 0.05)
    parts = [
        boxes((-half, -width / 2, 0.3), (half, width / 2, 1.05), skin),
        cabin(ends[0], ends[1], 1.05, roof, width, skin, pane, pillars, taper=0.15),
        wheels(b, np.array([half - 2.4, -half + 2.6]), width + 0.01, 0.48, 0.3),
    ]
    return merge(parts)


def vehicle(b: SceneBuilder, heavy: float = 0.12) -> tuple[Mesh, float]:
    """A random vehicle and the room (m) it takes along the lane; heavy: fraction of big ones."""
    if b.rng.random() < heavy:
        return (lorry(b), 15.5) if b.rng.random() < 0.75 else (bus(b), 16.5)
    return (van(b), 6.6) if b.rng.random() < 0.13 else (car(b), 5.2)
