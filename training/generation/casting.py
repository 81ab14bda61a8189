"""Rays against the surface of a depth image, without building a tree of its triangles.

In coordinates (u, v, w) of pixel and inverse depth the surface is a function over the image,
straight rays stay straight and flat triangles stay flat. So a LiDAR's ray is a short line over
the image (it begins at the nearest depth that the line could meet), and a pyramid of the largest
and smallest inverse depth says where along the line the surface may be crossed. There the two
triangles of a cell are intersected exactly: the result is that of ray casting against the mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dmd3c_ros.simulation.raycasting import triangles
from training.generation.mesh import GridSurface

Caster = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SLACK = 1e-4  # relative, of the bounds in inverse depth; float32 must not miss a grazing hit
_BESIDE = 1e-3  # pixels; a ray through a corner or along an edge touches the cells beside it too
_EDGE = 1e-6  # of a cell, so that rays do not slip between two triangles


class _Segments(NamedTuple):
    """Pieces of lines: ray number, and where each begins and ends as a share of its line."""

    ray: np.ndarray
    start: np.ndarray
    end: np.ndarray


class HeightField:
    """A depth image's surface, ready for casting.

    surface: the triangles. Building takes a few milliseconds for an image of 352x1216.
    """

    def __init__(self, surface: GridSurface) -> None:
        self.surface = surface
        inverse = surface.inverse
        corners = inverse[:-1, :-1], inverse[:-1, 1:], inverse[1:, :-1], inverse[1:, 1:]
        cells = surface.upper | surface.lower
        # fmax and fmin pass over the hole in a cell of which one triangle exists.
        high = np.fmax(np.fmax(corners[0], corners[1]), np.fmax(corners[2], corners[3]))
        low = np.fmin(np.fmin(corners[0], corners[1]), np.fmin(corners[2], corners[3]))
        high = np.where(cells, high * np.float32(1 + _SLACK), np.float32(-np.inf))
        low = np.where(cells, low * np.float32(1 - _SLACK), np.float32(np.inf))
        self._high, self._low, self._offset, self._width = _pyramid(high, low)
        self._flat = inverse.ravel()
        self._has = surface.upper.ravel() + 2 * surface.lower.ravel().astype(np.uint8)
        self._cells = cells.any()

    def cast(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Distance (N,) float32, m, to the first hit of each ray; inf for none.

        origin: (3,) of all rays or (N, 3), m, and directions: (N, 3) unit vectors, in the camera's
        optical frame.
        """
        distance = np.full(len(directions), np.inf, np.float32)
        if not self._cells or not len(directions):
            return distance
        origin = np.broadcast_to(np.asarray(origin, float), directions.shape)
        rays, first, last = self._lines(origin, np.asarray(directions, float))
        if not len(rays):
            return distance
        share = self._first_hits(first, last)
        hit = np.flatnonzero(share < np.inf)
        place = first[hit] + share[hit, None] * (last[hit] - first[hit])
        K = self.surface.camera.K
        z = 1 / place[:, 2]
        x, y = (place[:, 0] - K[0, 2]) / K[0, 0] * z, (place[:, 1] - K[1, 2]) / K[1, 1] * z
        points = np.stack([x, y, z], 1)
        distance[rays[hit]] = np.linalg.norm(points - origin[rays[hit]], axis=1)
        return distance

    def _lines(
        self, origin: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rays that pass through the view, and their ends (u, v, w) there, (M, 3) each.

        A ray is a + t b in homogeneous pixels; the view's bounds are linear in t (Liang-Barsky).
        """
        a, b = origin @ self.surface.camera.K.T, directions @ self.surface.camera.K.T
        height, width = self.surface.inverse.shape
        near, far = 1 / self._high[-1], 1 / self._low[-1]
        enter, leave = np.zeros(len(b)), np.full(len(b), np.inf)
        bounds = [(a[:, 2] - near, b[:, 2]), (far - a[:, 2], -b[:, 2])]
        for axis, size in ((0, width), (1, height)):
            last = size - 1 + _BESIDE
            bounds.append((a[:, axis] + _BESIDE * a[:, 2], b[:, axis] + _BESIDE * b[:, 2]))
            bounds.append((last * a[:, 2] - a[:, axis], last * b[:, 2] - b[:, axis]))
        with np.errstate(divide='ignore', invalid='ignore'):
            for value, slope in bounds:  # value + t slope >= 0
                t = -value / slope
                np.maximum(enter, t, out=enter, where=slope > 0)
                np.minimum(leave, t, out=leave, where=slope < 0)
                leave[(slope == 0) & (value < 0)] = -np.inf
        rays = np.flatnonzero((enter < leave) & np.isfinite(leave))
        ends = []
        for t in (enter[rays], leave[rays]):
            h = a[rays] + t[:, None] * b[rays]
            ends.append(np.concatenate([h[:, :2], np.ones((len(h), 1))], 1) / h[:, 2:])
        return rays, ends[0], ends[1]

    def _first_hits(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Where along each line from first to last (N, 3) the surface is met, inf for nowhere."""
        best = np.full(len(first), np.inf)
        head, run = first.astype(np.float32), (last - first).astype(np.float32)
        count = len(first)
        open_ = _Segments(
            np.arange(count), np.zeros(count, np.float32), np.ones(count, np.float32)
        )
        while len(open_.ray):
            open_ = _select(open_, open_.start <= best[open_.ray])
            open_ = self._narrow(open_, head, run)
            length = np.abs(run[open_.ray, :2]).max(1) * (open_.end - open_.start)
            short = length <= 1
            self._intersect(_select(open_, short), first, last - first, best)
            open_ = _halve(_select(open_, ~short))
        return best

    def _narrow(self, segments: _Segments, head: np.ndarray, run: np.ndarray) -> _Segments:
        """Cut the segments to where the pyramid's bounds let the surface be, dropping the rest."""
        ray, start, end = segments
        h, r = head[ray], run[ray]
        height, width = self.surface.inverse.shape
        ends = h[:, :2] + start[:, None] * r[:, :2], h[:, :2] + end[:, None] * r[:, :2]
        limit = np.array([width - 2, height - 2])
        lo = np.clip((np.minimum(*ends) - _BESIDE).astype(np.int64), 0, limit)
        hi = np.clip((np.maximum(*ends) + _BESIDE).astype(np.int64), 0, limit)
        # The level whose texels are as large as the segment: it touches two of them an axis.
        level = np.frexp((hi - lo).max(1).astype(np.float32))[1]
        offset, stride = self._offset[level], self._width[level]
        low_u, high_u = lo[:, 0] >> level, hi[:, 0] >> level
        low_v = offset + (lo[:, 1] >> level) * stride
        high_v = offset + (hi[:, 1] >> level) * stride
        texels = (low_v + low_u, low_v + high_u, high_v + low_u, high_v + high_u)
        top = np.maximum.reduce([self._high[texel] for texel in texels])
        bottom = np.minimum.reduce([self._low[texel] for texel in texels])
        with np.errstate(divide='ignore', invalid='ignore'):
            w_start, w_end = h[:, 2] + start * r[:, 2], h[:, 2] + end * r[:, 2]
            falling = r[:, 2] < 0
            enter = (np.where(falling, top, bottom) - h[:, 2]) / r[:, 2]
            leave = (np.where(falling, bottom, top) - h[:, 2]) / r[:, 2]
        level_ray = r[:, 2] == 0
        start = np.where(level_ray, start, np.maximum(start, enter))
        end = np.where(level_ray, end, np.minimum(end, leave))
        alive = (start <= end) & (np.minimum(w_start, w_end) <= top)
        alive &= np.maximum(w_start, w_end) >= bottom
        return _select(_Segments(ray, start, end), alive)

    def _intersect(
        self, segments: _Segments, first: np.ndarray, run: np.ndarray, best: np.ndarray
    ) -> None:
        """Meet short segments with the triangles of the cells they touch; lowers best."""
        ray, start, end = segments
        if not len(ray):
            return
        height, width = self.surface.inverse.shape
        slack = _BESIDE / np.maximum(np.abs(run[ray, :2]).max(1), 1e-3)
        start, end = start - slack, end + slack
        ends = (first[ray] + s[:, None] * run[ray] for s in (start, end))
        (u0, v0), (u1, v1) = (e[:, :2].T for e in ends)
        low_u, high_u = _cells(u0, u1, width - 2)
        low_v, high_v = _cells(v0, v1, height - 2)
        for du in (0, 1):
            for dv in (0, 1):
                touched = np.flatnonzero((low_u + du <= high_u) & (low_v + dv <= high_v))
                cell = low_u[touched] + du, low_v[touched] + dv
                part = _Segments(ray[touched], start[touched], end[touched])
                self._intersect_cell(part, cell, first, run, best)

    def _intersect_cell(
        self,
        segments: _Segments,
        cell: tuple[np.ndarray, np.ndarray],
        first: np.ndarray,
        run: np.ndarray,
        best: np.ndarray,
    ) -> None:
        """Meet segments with the two triangles of one cell each."""
        ray, start, end = segments
        u, v = cell
        width = self.surface.inverse.shape[1]
        has = self._has[v * (width - 1) + u]
        corner = v * width + u
        w00, w01 = self._flat[corner], self._flat[corner + 1]
        w10, w11 = self._flat[corner + width], self._flat[corner + width + 1]
        x, y, w = first[ray, 0] - u, first[ray, 1] - v, first[ray, 2]
        dx, dy, dw = run[ray].T
        for bit, base, slope_x, slope_y in (
            (1, w00, w01 - w00, w10 - w00),
            (2, w10 + w01 - w11, w11 - w10, w11 - w01),
        ):
            with np.errstate(divide='ignore', invalid='ignore'):
                s = (base + slope_x * x + slope_y * y - w) / (dw - slope_x * dx - slope_y * dy)
                px, py = x + s * dx, y + s * dy
                side = px + py - 1 if bit == 1 else 1 - px - py
                inside = (np.minimum(px, py) >= -_EDGE) & (np.maximum(px, py) <= 1 + _EDGE)
                hit = (has & bit > 0) & inside & (side <= _EDGE) & (s >= start) & (s <= end)
            np.minimum.at(best, ray[hit], s[hit])


def _cells(a: np.ndarray, b: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last cell of an axis that segments between a and b touch."""
    low, high = np.minimum(a, b) - _BESIDE, np.maximum(a, b) + _BESIDE
    return np.clip(low, 0, last).astype(np.int64), np.clip(high, 0, last).astype(np.int64)


def _pyramid(
    high: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All levels of maximum and minimum, one after the other, with their starts and widths."""
    highs, lows, widths, offsets = [], [], [], [0]
    while True:
        highs.append(high.ravel())
        lows.append(low.ravel())
        widths.append(high.shape[1])
        offsets.append(offsets[-1] + high.size)
        if high.size == 1:
            break
        high = _pool(_even(high, -np.inf), np.maximum)
        low = _pool(_even(low, np.inf), np.minimum)
    return (
        np.concatenate(highs),
        np.concatenate(lows),
        np.array(offsets[:-1]),
        np.array(widths),
    )


def _even(image: np.ndarray, fill: float) -> np.ndarray:
    """The image with even sides; np.pad takes as long as the rest of the pyramid."""
    height, width = (n + n % 2 for n in image.shape)
    if (height, width) == image.shape:
        return image
    even = np.full((height, width), fill, image.dtype)
    even[: image.shape[0], : image.shape[1]] = image
    return even


def _pool(image: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    rows = extreme(image[::2], image[1::2])
    return extreme(rows[:, ::2], rows[:, 1::2])


def _select(segments: _Segments, which: np.ndarray) -> _Segments:
    return _Segments(*(values[which] for values in segments))


def _halve(segments: _Segments) -> _Segments:
    """Both halves of each segment, the nearer halves first."""
    middle = (segments.start + segments.end) / 2
    return _Segments(
        np.concatenate([segments.ray, segments.ray]),
        np.concatenate([segments.start, middle]),
        np.concatenate([middle, segments.end]),
    )


def mesh_caster(vertices: np.ndarray, indices: np.ndarray, threads: int = 1) -> Caster:
    """Ray casting against any triangles; same arguments and result as HeightField's.

    vertices: (N, 3) float32; indices: (M, 3) uint32. Raises as ``triangles``.
    """
    tree = triangles(np.nan_to_num(vertices), indices)

    def cast(origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], 1)
        return tree.cast(rays, threads).distance

    return cast
