"""Simulated HDL-64E sweeps beside real ones: how many points, where, and how far."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw
from rich.table import Table

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.evaluation.drawing import Page
from dmd3c_ros.io.images import write_rgb
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices
from dmd3c_ros.simulation import PATTERNS, Rig, build, camera_mount, capture

RANGE_EDGES_M = np.arange(0, 85, 5)
_ROWS = 15  # bands of image rows
_FEW = 30  # points of a line below which its elevation says nothing


class SweepStatistics(NamedTuple):
    """Of one sweep, as far as the camera sees it.

    points: in the image. density: share of the pixels with depth; hidden: share of those that lie
    past a nearer surface. rows: density by band of image rows, from the top. spacing_deg: median
    elevation step between neighbouring lines of the upper and of the lower block. lines_deg:
    elevation of each line. ranges: share of the points by RANGE_EDGES_M.
    """

    points: float
    density: float
    hidden: float
    rows: np.ndarray
    spacing_deg: np.ndarray
    lines_deg: np.ndarray
    ranges: np.ndarray


def statistics(
    points: np.ndarray, ring: np.ndarray, camera: Camera, T_camera_lidar: np.ndarray
) -> SweepStatistics:
    """Statistics of a sweep (N, 3 or more), m, with the line (N,) of each point, top first."""
    sparse = project_points(points, T_camera_lidar, camera)
    known = sparse > 0
    kept = remove_hidden_points(sparse) > 0
    xyz = points[:, :3].astype(float)
    inside = _in_view(xyz, T_camera_lidar, camera)
    distance = np.linalg.norm(xyz[inside], axis=1)
    elevation = np.degrees(np.arcsin(xyz[inside, 2] / distance))
    of_line = [elevation[ring[inside] == line] for line in range(64)]
    # The lowest lines only graze the lower edge of the image.
    lines = np.array([np.median(e) if len(e) >= _FEW else np.nan for e in of_line])
    steps = -np.diff(lines)
    bands = np.array_split(known.mean(1), _ROWS)
    return SweepStatistics(
        inside.sum(),
        known.mean(),
        1 - kept.sum() / known.sum(),
        np.array([band.mean() for band in bands]),
        np.array([np.nanmedian(steps[:31]), np.nanmedian(steps[32:])]),
        lines,
        np.histogram(distance, RANGE_EDGES_M)[0] / len(distance),
    )


def _in_view(xyz: np.ndarray, T_camera_lidar: np.ndarray, camera: Camera) -> np.ndarray:
    uv, z = camera.project(xyz @ T_camera_lidar[:3, :3].T + T_camera_lidar[:3, 3])
    size = np.array([camera.width, camera.height])
    return (z > 0) & (uv >= -0.5).all(1) & (uv < size - 0.5).all(1)


def real_sweeps(drive: KittiDrive, count: int) -> Iterator[SweepStatistics]:
    """Statistics of evenly spread sweeps of a drive."""
    for index in np.linspace(0, len(drive), min(count, len(drive)), endpoint=False).astype(int):
        points = drive[int(index)].points
        yield statistics(points, ring_indices(points), drive.camera, drive.T_camera_lidar)


def simulated_sweeps(drive: KittiDrive, count: int) -> Iterator[SweepStatistics]:
    """Statistics of sweeps of as many streets, with the drive's own camera and mount."""
    camera = drive.camera
    rig = Rig(camera, drive.T_camera_lidar, PATTERNS['hdl64e'], camera_mount(1.65))
    for seed in range(count):
        frame = capture(build('street', 1000 + seed), rig, time_s=1.0)
        yield statistics(frame.points, frame.ring, camera, rig.T_camera_lidar)


def compare(drive: str | Path, count: int, figure: str | Path | None = None) -> Table:
    """Table, and figure where a path is given, of real and simulated sweeps."""
    kitti = KittiDrive(drive)
    groups = {
        'real (KITTI)': list(real_sweeps(kitti, count)),
        'simulated': list(simulated_sweeps(kitti, count)),
    }
    table = Table('', *groups)
    rows = {
        'sweeps': lambda g: f'{len(g)}',
        'points in the image': lambda g: _spread([s.points for s in g], '.0f'),
        'pixels with depth, %': lambda g: _spread([100 * s.density for s in g], '.2f'),
        'of these, behind a nearer surface, %': lambda g: _spread(
            [100 * s.hidden for s in g], '.2f'
        ),
        'line spacing, upper block, deg': lambda g: _spread([s.spacing_deg[0] for s in g], '.3f'),
        'line spacing, lower block, deg': lambda g: _spread([s.spacing_deg[1] for s in g], '.3f'),
        'median range, m': lambda g: _spread([_median_range(s.ranges) for s in g], '.1f'),
        'beyond 40 m, %': lambda g: _spread([100 * s.ranges[8:].sum() for s in g], '.1f'),
    }
    for name, value in rows.items():
        table.add_row(name, *(value(group) for group in groups.values()))
    if figure:
        write_rgb(figure, draw(groups))
    return table


def _spread(values: list[float], form: str) -> str:
    return f'{np.nanmean(values):{form}} ± {np.nanstd(values):{form}}'


def _median_range(shares: np.ndarray) -> float:
    total = np.cumsum(shares)
    return float(np.interp(0.5 * total[-1], np.r_[0, total], RANGE_EDGES_M))


_COLORS = ((94, 176, 255), (255, 170, 80))
_GRID = (52, 58, 70)
_CHART = (400, 290)  # width, height


def draw(groups: dict[str, list[SweepStatistics]]) -> np.ndarray:
    """Three charts side by side: (H, W, 3) uint8."""
    page = Page(1500, 430)
    ranges = (RANGE_EDGES_M[:-1] + RANGE_EDGES_M[1:]) / 2
    charts = (
        ('Points by range (m), %', ranges, lambda s: 100 * s.ranges),
        ('Pixels with depth by row, %, top to bottom', np.arange(_ROWS), lambda s: 100 * s.rows),
        ('Elevation of each line (deg)', np.arange(64), lambda s: s.lines_deg),
    )
    for number, (title, x, values) in enumerate(charts):
        curves = [np.array([values(s) for s in group]) for group in groups.values()]
        page.text(40 + number * 490, 16, title, 18)
        _chart(page, (80 + number * 490, 70), x, curves)
    pen = ImageDraw.Draw(page.image)
    for number, (name, color) in enumerate(zip(groups, _COLORS, strict=True)):
        pen.line([(50 + 220 * number, 407), (80 + 220 * number, 407)], fill=color, width=5)
        page.text(90 + 220 * number, 396, name, 18)
    return np.array(page.image)


def _chart(page: Page, corner: tuple[int, int], x: np.ndarray, curves: list[np.ndarray]) -> None:
    """Mean of each group of curves (sweeps, len(x)), with the spread between sweeps as a band."""
    (left, top), (width, height) = corner, _CHART
    means, spreads = [], []
    for curve in curves:
        rows = np.ma.masked_invalid(curve)  # a line may have no point in any sweep
        means.append(rows.mean(0).filled(np.nan))
        spreads.append(rows.std(0).filled(0))
    low = min(0.0, *(np.nanmin(mean) for mean in means))
    high = max(np.nanmax(m + s) for m, s in zip(means, spreads, strict=True))

    def at(values: np.ndarray) -> list[tuple[float, float]]:
        columns = left + width * (x - x[0]) / (x[-1] - x[0])
        rows = top + height * (high - values) / (high - low)
        return [(c, r) for c, r in zip(columns, rows, strict=True) if np.isfinite(r)]

    pen = ImageDraw.Draw(page.image, 'RGBA')
    for level in np.linspace(low, high, 5):
        row = top + height * (high - level) / (high - low)
        pen.line([(left, row), (left + width, row)], fill=_GRID)
        page.text(left - 6, round(row) - 9, f'{level:.3g}', 14, faint=True, right=True)
    for value in np.linspace(x[0], x[-1], 5):
        column = left + width * (value - x[0]) / (x[-1] - x[0])
        page.text(round(column), top + height + 6, f'{value:.0f}', 14, faint=True)
    for color, mean, spread in zip(_COLORS, means, spreads, strict=True):
        below = np.maximum(mean - spread, low)
        pen.polygon(at(mean + spread) + at(below)[::-1], fill=(*color, 60))
        pen.line(at(mean), fill=color, width=2)
