"""Procedural street scenes."""

from __future__ import annotations

import numpy as np

from . import buildings, cars, props, trucks
from .frontage import frontage
from .ground import AHEAD_M
from .light import daylight
from .mesh import box, boxes, merge, tubes
from .scene import Mover, Scene
from .site import Site
from .textures import Pattern2D

STYLES = ('urban', 'suburb', 'avenue', 'country', 'industry')
_PROBABILITIES = (0.28, 0.22, 0.28, 0.13, 0.09)


def street(seed: int, style: str | None = None) -> Scene:
    """A street scene; the same seed gives the same arrays.

    style is one of STYLES, by default drawn from the seed. Raises ValueError for another.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f'street: expected a style of {", ".join(STYLES)}, got {style!r}')
    rng = np.random.default_rng([seed, 1])
    drawn = str(rng.choice(STYLES, p=_PROBABILITIES))
    site = Site(rng, style or drawn)
    for side in (-1, 1):
        _kerbside(site, side)
        _people(site, side)
        frontage(site, side)
    speed = _traffic(site)
    _overhead(site)
    _background(site)
    return site.b.scene('street', seed, daylight(rng), site.path, speed=speed, reach=110.0)


def _kerbside(site: Site, side: int) -> None:
    """Parked cars, trees, posts, signs and small things along the road's edge."""
    rng, lay, b = site.rng, site.layout, site.b
    line = lay.edge(side) + side * rng.uniform(0.4, 0.9)
    to_road = 0.0 if side < 0 else np.pi
    if lay.parking[side > 0]:
        _parked(site, side)
    lamp = props.lamp_post(b) if rng.random() < 0.7 else props.pole(b)
    for s in np.arange(-20 + rng.uniform(0, 15), AHEAD_M - 20, rng.uniform(14, 40)):
        site.put(lamp, s, line, to_road)
    if rng.random() < 0.5 and site.style != 'country':
        spacing = rng.uniform(6, 16)
        for s in np.arange(-15 + rng.uniform(0, spacing), 130, spacing):
            if rng.random() < 0.8 and not lay.in_crossing(s, 3):
                site.tree(s, line + side * 0.5, 0.7)
    for _ in range(rng.integers(3, 14)):
        make = _SMALL_THINGS[rng.integers(len(_SMALL_THINGS))]
        s = rng.uniform(4, 90)
        if not lay.in_crossing(s, 1):
            turn = to_road if make is props.traffic_light else rng.normal(0, 0.15)
            site.put(make(b), s, line + side * rng.uniform(0, 0.8), turn)
    if rng.random() < 0.35:
        make = (props.bollards, props.guard_rail, props.barrier)[rng.integers(3)]
        row = make(b, rng.uniform(8, 40))
        site.put(row, rng.uniform(10, 60), lay.edge(side) + side * 0.35, to_road)
    if rng.random() < 0.15:
        t = lay.edge(side) + side * 1.5
        site.put(props.shelter(b), rng.uniform(10, 60), t, to_road + np.pi)


_SMALL_THINGS = (
    props.sign,
    props.sign,
    props.bin_,
    props.traffic_light,
    props.bench,
    props.pole,
    props.bicycle,
    props.cone,
)


def _parked(site: Site, side: int) -> None:
    """A row of parked vehicles."""
    rng, lay = site.rng, site.layout
    t = lay.edge(side) - side * 1.05
    s, occupied = rng.uniform(-8, 2), rng.uniform(0.4, 0.95)
    while s < 95:
        mesh, room = trucks.vehicle(site.b) if rng.random() < 0.15 else (cars.car(site.b), 5.2)
        if rng.random() < occupied and not lay.in_crossing(s, 5):
            turn = np.pi * (side > 0 and rng.random() < 0.9)
            site.put(mesh, s + room / 2, t + rng.normal(0, 0.08), turn + rng.normal(0, 0.02))
        s += room + rng.uniform(0.3, 2.5)


def _people(site: Site, side: int) -> None:
    """Pedestrians on the pavement, cyclists at the road's edge."""
    rng = site.rng
    edge, wide = site.layout.edge(side), site.layout.pavement[side > 0]
    for _ in range(rng.poisson({'urban': 6, 'suburb': 2, 'avenue': 2}.get(site.style, 0.6))):
        t = edge + side * rng.uniform(0.3, max(wide, 0.6))
        site.put(props.person(site.b), rng.uniform(4, 60), t, rng.uniform(0, 6.3))
    for _ in range(rng.poisson(0.6)):
        turn = np.pi if side > 0 else 0.0
        site.put(props.cyclist(site.b), rng.uniform(5, 50), edge - side * 0.7, turn)


def _traffic(site: Site) -> float:
    """Vehicles on the lanes; returns the speed (m/s) of the rig's own lane."""
    rng = site.rng
    standing = rng.random() < 0.3
    speed = float(rng.uniform(0.3, 2.0) if standing else rng.uniform(5, 14))
    density = rng.uniform(2, 9) if standing else rng.choice([10.0, 22.0, 60.0])
    heavy = rng.choice([0.15, 0.5]) if site.style in ('avenue', 'industry') else 0.12
    for t, way in site.layout.lanes:
        ours = way > 0 and abs(t) < 0.5
        pace = speed if ours else max(0.0, speed + rng.normal(0, 1.5))
        s = rng.uniform(7, 12) + rng.exponential(density) if ours else rng.uniform(-15, 10)
        while s < 130:
            mesh, room = trucks.vehicle(site.b, heavy)
            offset = t + rng.normal(0, 0.12)
            site.b.movers.append(Mover(mesh, s + room / 2, offset, way * pace))
            s += room + 1.2 + rng.exponential(density)
    return speed


def _overhead(site: Site) -> None:
    """Bridges, wires and sign gantries over the road."""
    rng, b = site.rng, site.b
    if rng.random() < (0.35 if site.style == 'avenue' else 0.1):
        for s in rng.uniform(18, 120, rng.integers(1, 3)):
            clearance, width = rng.uniform(4.6, 7.5), rng.uniform(3, 16)
            site.put(buildings.bridge(b, rng.uniform(50, 120), clearance, width), s, 0.0)
    if rng.random() < 0.3:
        dark = b.material((0.01, 0.01, 0.01))
        height, lanes = rng.uniform(4.8, 8.0), rng.uniform(-6, 6, 2)
        s = np.arange(-10, 140, rng.uniform(20, 35))
        for t in lanes:
            nodes = site.path.points(s, np.full_like(s, t), height)
            b.add(props.wires(nodes[:-1], nodes[1:], rng.uniform(0.05, 0.5), dark))
    if site.style == 'avenue' and rng.random() < 0.3:
        _gantry(site, rng.uniform(20, 80))


def _gantry(site: Site, s: float) -> None:
    """A frame over the road with boards."""
    lay, metal = site.layout, props.steel(site.b)
    board = site.b.material(
        (0.02, 0.1, 0.4), (0.7, 0.7, 0.7), pattern=Pattern2D.POSTER, scale=0.8, reflectance=0.9
    )
    right, left = lay.right - 0.8, lay.left + 0.8
    parts = [tubes((0, t, -0.5), (0, t, 6.5), 0.15, metal) for t in (right, left)]
    parts += [boxes((-0.1, right, z), (0.1, left, z + 0.12), metal) for z in (5.6, 6.4)]
    for t, way in lay.lanes:
        if way > 0:
            parts.append(boxes((-0.2, t - 1.2, 5.2), (-0.12, t + 1.2, 6.8), board))
    site.put(merge(parts), s, 0.0)


def _background(site: Site) -> None:
    """Woods and tall buildings far off and at the end of the road."""
    rng, b = site.rng, site.b
    for _ in range(rng.integers(5, 30)):
        s, t = rng.uniform(30, 185), rng.choice([-1, 1]) * rng.uniform(38, 90)
        site.tree(s, t, rng.uniform(0.9, 1.6))
    if rng.random() < 0.7:
        for t in np.arange(-60, 60, rng.uniform(3, 12)):
            site.tree(rng.uniform(140, 186), t + rng.normal(0, 2), rng.uniform(0.8, 1.5))
    plain = buildings.wall_material(b)
    panes = b.material(b.color(0.1, 0.6), (0.03, 0.04, 0.05), scale=3.2, pattern=Pattern2D.WINDOWS)
    tall = {'urban': 5, 'suburb': 2, 'avenue': 4, 'industry': 3}.get(site.style, 0.6)
    for _ in range(rng.poisson(tall)):
        s, t = rng.uniform(40, 185), rng.choice([-1, 1]) * rng.uniform(45, 90)
        size = rng.uniform([10, 10, 10], [25, 25, 40])
        tower = box(size, panes if rng.random() < 0.7 else plain, (0, 0, -2))
        site.put(tower, s, t, rng.uniform(0, 1.5))
