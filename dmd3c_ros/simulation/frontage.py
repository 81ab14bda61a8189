"""The sides of a street: stretches of houses, gardens, woods, fields, yards."""

from __future__ import annotations

from functools import partial

import numpy as np

from . import buildings, plants, props, trucks
from .site import Site

_FROM_M, _TO_M = -25.0, 165.0


def frontage(site: Site, side: int) -> None:
    """Fill one side of the street with stretches of different character."""
    kinds = _KINDS[site.style]
    crossings = site.layout.crossings
    s = _FROM_M
    while s < _TO_M - 15:
        stops = [c - w / 2 for c, w in crossings if c - w / 2 > s + 1]
        stop = min([s + site.rng.uniform(18, 70), *stops, _TO_M])
        if stop - s > 4:
            kinds[site.rng.integers(len(kinds))](site, side, s, stop)
        crossed = [c + w / 2 for c, w in crossings if abs(c - w / 2 - stop) < 0.5]
        s = max([stop, *crossed]) + 0.2


def border(site: Site, side: int, s: float, stop: float) -> None:
    """A fence, hedge or wall along the pavement, or nothing."""
    rng = site.rng
    kind = rng.choice(['fence', 'hedge', 'wall', 'none'], p=[0.4, 0.3, 0.15, 0.15])
    make = {
        'fence': partial(props.fence, site.b),
        'hedge': lambda n: plants.hedge(site.b, n, rng.uniform(0.7, 2.0), rng.uniform(0.4, 0.9)),
        'wall': lambda n: buildings.wall(site.b, n, rng.uniform(0.5, 2.2)),
    }.get(kind)
    if make is None:
        return
    piece = rng.uniform(6, 12)
    mesh, t = make(piece), site.line(side) + side * 0.4
    for at in np.arange(s + piece / 2, stop - piece / 2 + 0.1, piece):
        if rng.random() < 0.9:
            site.put(mesh, at, t)


def _block(site: Site, side: int, s: float, stop: float) -> None:
    """Houses in a row, now and then a gap."""
    rng = site.rng
    back = rng.choice([0.0, 0.5, 3.0])
    while stop - s > 5:
        width = min(rng.uniform(7, 24), stop - s)
        height = rng.choice([4.0, 7.0, 10.0, 14.0, 19.0], p=[0.1, 0.25, 0.3, 0.25, 0.1])
        house = buildings.house(site.b, width, rng.uniform(8, 15), height * rng.uniform(0.9, 1.1))
        site.face_road(house, side, s, width, back + rng.uniform(0, 0.3))
        s += width + (rng.uniform(1, 6) if rng.random() < 0.25 else 0.0)


def _garden(site: Site, side: int, s: float, stop: float) -> None:
    """Detached houses behind fences, hedges or walls, with plants."""
    rng = site.rng
    border(site, side, s, stop)
    while stop - s > 9:
        width = min(rng.uniform(8, 14), stop - s - 1)
        house = buildings.house(site.b, width, rng.uniform(8, 12), rng.uniform(3.0, 7.5))
        site.face_road(house, side, s + 1, width, rng.uniform(3, 9))
        for _ in range(rng.integers(1, 5)):
            site.green(side, s, s + width + 4, 0.6, 8.0)
        s += width + rng.uniform(3, 9)


def _park(site: Site, side: int, s: float, stop: float) -> None:
    """Trees and bushes, loose or dense."""
    if site.rng.random() < 0.35:
        border(site, side, s, stop)
    density = site.rng.choice([0.15, 0.35, 0.6])
    for _ in range(int(density * (stop - s)) + 2):
        site.green(side, s, stop, 1.0, site.rng.choice([8.0, 30.0]))


def _wood(site: Site, side: int, s: float, stop: float) -> None:
    """A closed wall of trees with bushes at its feet."""
    rng = site.rng
    first = site.line(side) + side * rng.uniform(1.5, 14)
    for row in range(rng.integers(1, 4)):
        for at in np.arange(s, stop, rng.uniform(2.0, 4.5)):
            t = first + side * (3.5 * row + rng.normal(0, 1.0))
            site.tree(at + rng.normal(0, 0.7), t, rng.uniform(0.7, 1.2))
    for at in np.arange(s, stop, rng.uniform(1.0, 3.0)):
        site.bush(at, first + side * rng.normal(-1.0, 0.6), 1.2)


def _field(site: Site, side: int, s: float, stop: float) -> None:
    """Open land with a few things on it."""
    rng = site.rng
    if rng.random() < 0.3:
        border(site, side, s, stop)
    for _ in range(rng.integers(0, 6)):
        site.green(side, s, stop, 2.0, 60.0)
    if rng.random() < 0.3:
        house = buildings.house(site.b, 12, 9, rng.uniform(4, 8))
        site.face_road(house, side, (s + stop) / 2, 12, rng.uniform(20, 60))


def _lot(site: Site, side: int, s: float, stop: float) -> None:
    """A parking lot with rows of cars, perhaps a hall behind."""
    rng = site.rng
    border(site, side, s, stop)
    pool = [trucks.vehicle(site.b)[0] for _ in range(7)]
    first = abs(site.line(side)) + 4.0
    for t in first + np.cumsum([0, 7.0, 12.0])[: rng.integers(1, 4)]:
        for at in np.arange(s + 2, stop - 1, 2.7):
            if rng.random() < 0.6:
                turn = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.03)
                site.put(pool[rng.integers(7)], at, side * t, turn)
    wide = stop - s - 4
    if rng.random() < 0.6 and wide > 11:
        hall = buildings.hall(site.b, wide, 20, rng.uniform(5, 10))
        site.face_road(hall, side, s + 2, wide, 32.0)


def _hall(site: Site, side: int, s: float, stop: float) -> None:
    """An industrial building set back, with a yard."""
    rng = site.rng
    back, wide = rng.uniform(2, 15), stop - s - 2
    hall = buildings.hall(site.b, wide, 25, rng.uniform(4, 11))
    site.face_road(hall, side, s + 1, wide, back)
    border(site, side, s, stop)
    t = site.line(side) + side * back / 2
    for _ in range(rng.integers(0, 4) if back > 6 else 0):
        mesh, _ = trucks.vehicle(site.b, heavy=0.5)
        site.put(mesh, rng.uniform(s, stop), t, rng.choice([0, np.pi]))
    for _ in range(rng.integers(0, 5)):
        site.put(props.container(site.b), rng.uniform(s, stop), t, rng.uniform(0, 3))


_KINDS = {
    'urban': (_block, _block, _block, _garden, _lot, _park),
    'suburb': (_garden, _garden, _garden, _block, _park, _lot, _wood),
    'avenue': (_park, _block, _lot, _hall, _field, _wood, _wood),
    'country': (_field, _park, _field, _garden, _wood),
    'industry': (_hall, _lot, _hall, _park),
}
