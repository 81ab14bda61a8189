"""Triangle soups and the primitives that scenes are made of (metres, z up, normals outward)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FloatArray = np.ndarray


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with what shading needs at each corner.

    corners (T, 3, 3) float32 m; normals (T, 3, 3) float32 unit; uv (T, 3, 2) float32 m along the
    surface; material (T,) int32, a row of the scene's material table.
    """

    corners: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    material: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)

    def placed(
        self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0
    ) -> Mesh:
        """The mesh scaled, turned about z by yaw (rad) and moved to (x, y, z)."""
        return self.transformed(yaw_pose(x, y, z, yaw), scale)

    def transformed(self, T: np.ndarray, scale: float = 1.0) -> Mesh:
        """The mesh scaled, then moved by the rigid transform T (4, 4)."""
        R = np.asarray(T[:3, :3], np.float32)
        corners = self.corners @ (scale * R.T) + np.asarray(T[:3, 3], np.float32)
        return Mesh(corners, self.normals @ R.T, self.uv, self.material)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of all triangles, in order."""
    if not meshes:
        return empty()
    return Mesh(
        *(
            np.concatenate([getattr(mesh, name) for mesh in meshes])
            for name in ('corners', 'normals', 'uv', 'material')
        )
    )


def empty() -> Mesh:
    """A mesh without triangles."""
    zeros = np.zeros((0, 3, 3), np.float32)
    return Mesh(zeros, zeros, np.zeros((0, 3, 2), np.float32), np.zeros(0, np.int32))


def yaw_pose(x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """Rigid transform (4, 4): a rotation about z by yaw (rad), then a translation to (x, y, z)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def _unit(v: FloatArray) -> FloatArray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def surface_uv(points: FloatArray, normals: FloatArray) -> FloatArray:
    """Texture coordinates (..., 2) in metres: x, y on floors; along the wall and z on walls."""
    nx, ny, nz = np.moveaxis(normals, -1, 0)
    flat = np.abs(nz) > 0.75
    length = np.maximum(np.hypot(nx, ny), 1e-6)
    along = (points[..., 1] * nx - points[..., 0] * ny) / length
    return np.stack(
        [np.where(flat, points[..., 0], along), np.where(flat, points[..., 1], points[..., 2])], -1
    )


def quads(
    corners: FloatArray,
    material: int | np.ndarray,
    normals: FloatArray | None = None,
    uv: FloatArray | None = None,
) -> Mesh:
    """Two triangles for each of corners (Q, 4, 3), counter-clockwise seen from outside."""
    corners = np.asarray(corners, np.float32).reshape(-1, 4, 3)
    if normals is None:
        face = _unit(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]))
        normals = np.repeat(face[:, None], 4, axis=1)
    if uv is None:
        face = np.repeat(normals.mean(1, keepdims=True), 4, axis=1)
        uv = surface_uv(corners, face)
    pick = [0, 1, 2, 0, 2, 3]
    count = 2 * len(corners)
    material = np.broadcast_to(np.asarray(material, np.int32), (len(corners),))
    return Mesh(
        corners[:, pick].reshape(count, 3, 3),
        np.asarray(normals, np.float32)[:, pick].reshape(count, 3, 3),
        np.asarray(uv, np.float32)[:, pick].reshape(count, 3, 2),
        np.repeat(material, 2),
    )


_BOX = np.array(
    [
        [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]],
        [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
    ],
    np.float32,
)


def boxes(low: FloatArray, high: FloatArray, material: int | np.ndarray) -> Mesh:
    """Axis-parallel boxes between the corners low and high, each (3,) or (K, 3)."""
    low = np.atleast_2d(np.asarray(low, np.float32))
    high = np.atleast_2d(np.asarray(high, np.float32))
    corners = low[:, None, None] + _BOX * (high - low)[:, None, None]
    material = np.repeat(np.broadcast_to(np.asarray(material, np.int32), (len(low),)), 6)
    return quads(corners.reshape(-1, 4, 3), material)


def box(size: Sequence[float], material: int, base: Sequence[float] = (0, 0, 0)) -> Mesh:
    """A box of the given size (x, y, z) standing with the middle of its floor on base."""
    half = np.array([size[0] / 2, size[1] / 2, 0.0])
    low = np.asarray(base, float) - half
    return boxes(low, low + np.asarray(size, float), material)


def sheet(points: FloatArray, material: int | np.ndarray, uv: FloatArray | None = None) -> Mesh:
    """Smooth surface through a grid of points (R, C, 3); columns x rows is the outward side.

    material is a row index or one for each cell (R - 1, C - 1); uv (R, C, 2) defaults to arc
    lengths.
    """
    points = np.asarray(points, np.float32)
    if uv is None:
        rows = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1)
        columns = np.linalg.norm(np.diff(points, axis=1), axis=-1).mean(0)
        v, u = np.meshgrid(np.r_[0, np.cumsum(rows)], np.r_[0, np.cumsum(columns)], indexing='ij')
        uv = np.stack([u, v], -1)
    along = _end_differences(points, axis=1)
    across = _end_differences(points, axis=0)
    normals = _unit(np.cross(along, across))

    def cells(grid: FloatArray) -> FloatArray:
        parts = (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1])
        return np.stack(parts, 2).reshape(-1, 4, grid.shape[-1])

    material = np.broadcast_to(np.asarray(material), (len(points) - 1, points.shape[1] - 1))
    return quads(cells(points), material.reshape(-1), cells(normals), cells(uv))


def _end_differences(points: FloatArray, axis: int) -> FloatArray:
    """Central differences, wrapping around where the grid closes on itself."""
    points = np.moveaxis(points, axis, 0)
    ahead = np.concatenate([points[1:], points[-1:]])
    behind = np.concatenate([points[:1], points[:-1]])
    if np.allclose(points[0], points[-1], atol=1e-5) and len(points) > 2:
        ahead[-1], behind[0] = points[1], points[-2]
    return np.moveaxis(ahead - behind, 0, axis)


def tubes(
    start: FloatArray,
    end: FloatArray,
    radius_start: FloatArray | float,
    material: int,
    radius_end: FloatArray | float | None = None,
    sides: int = 8,
    caps: bool = False,
) -> Mesh:
    """Round bars from start to end, each (3,) or (K, 3); radii (m) are scalars or (K,)."""
    start = np.atleast_2d(np.asarray(start, float))
    end = np.atleast_2d(np.asarray(end, float))
    radius_end = radius_start if radius_end is None else radius_end
    r0 = np.broadcast_to(np.asarray(radius_start, float), (len(start),))[:, None, None]
    r1 = np.broadcast_to(np.asarray(radius_end, float), (len(start),))[:, None, None]
    axis = _unit(end - start)
    helper = np.where(np.abs(axis[:, 2:]) < 0.9, [[0.0, 0, 1]], [[1.0, 0, 0]])
    side = _unit(np.cross(helper, axis))
    up = np.cross(axis, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * up[:, None]
    low, high = start[:, None] + r0 * ring, end[:, None] + r1 * ring
    corners = np.stack([low[:, :-1], low[:, 1:], high[:, 1:], high[:, :-1]], 2)
    normals = np.stack([ring[:, :-1], ring[:, 1:], ring[:, 1:], ring[:, :-1]], 2)
    around = np.broadcast_to(angle * r0[..., 0], ring.shape[:2])
    length = np.broadcast_to(np.linalg.norm(end - start, axis=1)[:, None], around.shape)
    foot, top = np.stack([around, 0 * length], -1), np.stack([around, length], -1)
    uv = np.stack([foot[:, :-1], foot[:, 1:], top[:, 1:], top[:, :-1]], 2)
    parts = [
        quads(corners.reshape(-1, 4, 3), material, normals.reshape(-1, 4, 3), uv.reshape(-1, 4, 2))
    ]
    if caps:
        parts.append(_fan(high, end, material))
        parts.append(_fan(low[:, ::-1], start, material))
    return merge(parts)


def _fan(rings: FloatArray, centres: FloatArray, material: int) -> Mesh:
    middle = np.repeat(centres[:, None], rings.shape[1] - 1, axis=1)
    corners = np.stack([rings[:, :-1], rings[:, 1:], middle, middle], 2)
    return quads(corners.reshape(-1, 4, 3), material)


def ellipsoids(
    centre: FloatArray, radii: FloatArray, material: int, rows: int = 7, columns: int = 12
) -> Mesh:
    """Ellipsoids at centre (K, 3) with half axes radii (K, 3), both also accepted as (3,)."""
    polar = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    angle = np.linspace(0, 2 * np.pi, columns + 1)
    unit = np.stack(
        [np.cos(polar) * np.cos(angle), np.cos(polar) * np.sin(angle), np.sin(polar) + 0 * angle],
        -1,
    )
    cells = np.stack([unit[:-1, :-1], unit[:-1, 1:], unit[1:, 1:], unit[1:, :-1]], 2)
    cells = cells.reshape(1, -1, 4, 3)
    centre = np.atleast_2d(np.asarray(centre, float))[:, None, None]
    radii = np.atleast_2d(np.asarray(radii, float))[:, None, None]
    corners = centre + cells * radii
    normals = np.broadcast_to(_unit(cells / radii), corners.shape)
    return quads(corners.reshape(-1, 4, 3), material, normals.reshape(-1, 4, 3))


def leaves(
    rng: np.random.Generator, centres: FloatArray, size: FloatArray | float, material: int
) -> Mesh:
    """Randomly turned square leaves (edge size, m) at centres (K, 3)."""
    count = len(centres)
    first = _unit(rng.normal(size=(count, 3)))
    second = _unit(np.cross(first, rng.normal(size=(count, 3))))
    half = np.broadcast_to(np.asarray(size, float), (count,))[:, None] / 2
    first, second = first * half, second * half
    corners = np.stack(
        [
            centres - first - second,
            centres + first - second,
            centres + first + second,
            centres - first + second,
        ],
        1,
    )
    return quads(corners, material)


def relief(
    us: FloatArray, vs: FloatArray, offset: FloatArray, material: FloatArray, jamb: int
) -> Mesh:
    """Wall in the x, z plane facing -y, whose cells stand out or back.

    us (C + 1,) are the cells' borders along x, vs (R + 1,) along z, m; offset (R, C) is how far
    a cell stands out of the wall (m), NaN for an opening; material (R, C); steps between
    neighbouring cells get faces of the material jamb.
    """
    us, vs = np.asarray(us, float), np.asarray(vs, float)
    x0, z0 = np.meshgrid(us[:-1], vs[:-1])
    x1, z1 = np.meshgrid(us[1:], vs[1:])
    y = -offset
    front = np.stack(
        [np.stack(c, -1) for c in ((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1))], 2
    )
    solid = np.isfinite(offset)
    parts = [quads(front[solid], np.asarray(material)[solid])]
    y = np.where(solid, y, np.nanmax(np.where(solid, y, -np.inf)) + 0.3)
    r, c = np.nonzero(y[:, 1:] != y[:, :-1])
    parts.append(_step(us[c + 1], vs[r], vs[r + 1], y[r, c], y[r, c + 1], jamb, upright=True))
    r, c = np.nonzero(y[1:] != y[:-1])
    parts.append(_step(vs[r + 1], us[c], us[c + 1], y[r, c], y[r + 1, c], jamb, upright=False))
    return merge(parts)


def _step(
    at: FloatArray,
    low: FloatArray,
    high: FloatArray,
    y0: FloatArray,
    y1: FloatArray,
    material: int,
    upright: bool,
) -> Mesh:
    corners = []
    for side, along in ((y0, low), (y1, low), (y1, high), (y0, high)):
        corners.append(np.stack([at, side, along] if upright else [along, side, at], -1))
    return quads(np.stack(corners, 1), material)
