"""Procedural colour of surfaces from hashed noise; every function is vectorized over hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import lru_cache

import numpy as np

_SIZE = 1024  # edge of the noise tables, a power of two so that wrapping is a bit mask


class Pattern2D(IntEnum):
    """Textures of surfaces, in surface coordinates (u, v)."""

    PLAIN = 0
    BRICK = 1
    TILES = 2
    PLANKS = 3
    CHECKER = 4
    WINDOWS = 5
    POSTER = 6
    ROAD = 7
    LEAF = 8
    DIAGONAL = 9
    BLOTCHES = 10
    ROUNDEL = 11


@lru_cache(maxsize=1)
def noise_tables() -> tuple[np.ndarray, np.ndarray]:
    """Two tileable tables (1024, 1024) float32 in 0..1: fractal noise and white noise."""
    rng = np.random.default_rng(20240229)
    white = rng.random((_SIZE, _SIZE), np.float32)
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(white - 0.5) / frequency**1.25
    fractal = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    fractal = np.clip(0.5 + fractal / (5 * fractal.std()), 0, 1)
    return fractal.astype(np.float32), white


def _lookup(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    column = np.floor(u).astype(np.int32) & (_SIZE - 1)
    row = np.floor(v).astype(np.int32) & (_SIZE - 1)
    return table.ravel()[(row << 10) | column]


def fractal(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Fractal noise in 0..1 at table coordinates (u, v), with features of all sizes."""
    return _lookup(noise_tables()[0], u, v)


def grain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """White noise in 0..1, constant on unit cells of (u, v)."""
    return _lookup(noise_tables()[1], u, v)


@dataclass(frozen=True)
class Material:
    """One row of the material table.

    color, color2: linear RGB albedo in 0..1; scale: size of the pattern's unit (m); contrast:
    fraction of the noise; gloss: mirror reflection at normal incidence in 0..1; reflectance:
    fraction of the laser's light scattered back, 0..1; glass: the laser mostly passes or is lost;
    offset: shift of the pattern (m); emission: own light, as an irradiance.
    """

    color: tuple[float, float, float]
    color2: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pattern: Pattern2D = Pattern2D.PLAIN
    scale: float = 1.0
    contrast: float = 0.3
    gloss: float = 0.0
    reflectance: float = 0.4
    glass: bool = False
    offset: float = 0.0
    emission: float = 0.0


@dataclass(frozen=True)
class Stripe:
    """Paint on a road: the band low..high (m) of t, dash of every period m of s (0: all along)."""

    low: float
    high: float
    dash: float = 0.0
    period: float = 0.0
    start: float = -np.inf
    stop: float = np.inf


@dataclass(frozen=True, eq=False)
class MaterialTable:
    """Materials as columns, so that hits look them up by one index array."""

    columns: dict[str, np.ndarray] = field(repr=False)
    stripes: tuple[Stripe, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Material], stripes: Sequence[Stripe] = ()) -> MaterialTable:
        """Collect rows into columns."""
        columns = {}
        for item in fields(Material):
            column = np.array([getattr(row, item.name) for row in rows])
            columns[item.name] = column if column.dtype == bool else column.astype(np.float32)
        columns['pattern'] = columns['pattern'].astype(np.int8)
        return cls(columns, tuple(stripes))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]


def albedo(
    table: MaterialTable, row: np.ndarray, uv: np.ndarray, face: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Linear RGB (N, 3) of N hits: table row, surface (u, v) m, triangle number, distance m."""
    u = uv[:, 0] + table['offset'][row]
    v = uv[:, 1] + table['offset'][row]
    mix = np.zeros(len(row), np.float32)
    kinds = table['pattern'][row]
    scale = table['scale'][row]
    for kind, draw in _DRAW.items():
        index = np.flatnonzero(kinds == kind)
        if len(index):
            mix[index] = draw(u[index] / scale[index], v[index] / scale[index], face[index])
    # Detail smaller than a pixel averages out with distance.
    fade = 1.0 / (1.0 + (distance * 0.03) ** 2)
    rough = 0.6 * (fractal(u * 19, v * 19) - 0.5) + 0.9 * (fractal(u * 140, v * 140) - 0.5) * fade
    rough += 0.35 * (grain(u * 70, v * 70) - 0.5) * fade
    tone = np.maximum(1 + 2 * table['contrast'][row] * rough, 0.05)
    mix = mix[:, None]
    color = table['color'][row] * (1 - mix) + table['color2'][row] * mix
    color *= tone[:, None]
    road = np.flatnonzero(kinds == Pattern2D.ROAD)
    if len(road) and table.stripes:
        paint = _painted(table.stripes, uv[road]) * (0.65 + 0.7 * rough[road])
        paint = np.clip(paint, 0, 1)[:, None]
        color[road] = color[road] * (1 - paint) + 0.72 * paint
    return color


def _painted(stripes: Sequence[Stripe], uv: np.ndarray) -> np.ndarray:
    s, t = uv[:, 0], uv[:, 1]
    paint = np.zeros(len(s), bool)
    for stripe in stripes:
        inside = (t > stripe.low) & (t < stripe.high) & (s > stripe.start) & (s < stripe.stop)
        if stripe.period:
            inside &= np.mod(s, stripe.period) < stripe.dash
        paint |= inside
    return paint.astype(np.float32)


def _brick(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    row = np.floor(v * 3)
    along = u + 0.5 * np.mod(row, 2)
    mortar = (np.mod(v * 3, 1) < 0.16) | (np.mod(along, 1) < 0.05)
    return np.where(mortar, 1.0, 0.35 * grain(along, row))


def _tiles(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    joint = (np.mod(u, 1) < 0.05) | (np.mod(v, 1) < 0.05)
    return np.where(joint, 1.0, 0.3 * grain(u, v))


def _planks(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    gap = np.mod(u, 1) < 0.08
    return np.where(gap, 1.0, 0.5 * grain(u, v * 0.15) + 0.3 * (fractal(u * 90, v * 9) - 0.5))


def _checker(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    return np.mod(np.floor(u) + np.floor(v), 2)


def _windows(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    pane = (np.abs(np.mod(u, 1) - 0.5) < 0.24) & (np.abs(np.mod(v, 1) - 0.55) < 0.27)
    return np.where(pane, 0.7 + 0.3 * grain(u, v), 0.0)


def _poster(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    letters = (grain(u * 4, v * 3) > 0.5) & (np.mod(v, 1) > 0.35)
    return np.where(letters, 1.0, 0.25 * (grain(u / 3, v / 2) > 0.6))


def _leaf(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    return grain(face >> 1, (face >> 1) >> 10)


def _diagonal(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    return (np.mod(u + v, 1) < 0.5).astype(np.float32)


def _blotches(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    return np.clip((fractal(u * 12, v * 12) - 0.45) * 6, 0, 1)


def _roundel(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    radius = np.hypot(np.mod(u, 1) - 0.5, np.mod(v, 1) - 0.5)
    return (radius > 0.36).astype(np.float32)


def _road(u: np.ndarray, v: np.ndarray, face: np.ndarray) -> np.ndarray:
    patch = np.clip((fractal(u * 3, v * 9) - 0.62) * 12, 0, 1)
    crack = np.abs(fractal(u * 21, v * 27) - 0.5) < 0.006
    return np.clip(0.8 * patch + crack, 0, 1)


_DRAW = {
    Pattern2D.BRICK: _brick,
    Pattern2D.TILES: _tiles,
    Pattern2D.PLANKS: _planks,
    Pattern2D.CHECKER: _checker,
    Pattern2D.WINDOWS: _windows,
    Pattern2D.POSTER: _poster,
    Pattern2D.ROAD: _road,
    Pattern2D.LEAF: _leaf,
    Pattern2D.DIAGONAL: _diagonal,
    Pattern2D.BLOTCHES: _blotches,
    Pattern2D.ROUNDEL: _roundel,
}
