"""Checks extrinsics and clocks without a target, from the alignment of points and image.

Depth edges must line up with image edges. The image edges are blurred so that a near miss counts
too; the depth edges are shifted over them, and the mean edge strength at their positions has its
maximum at the correct shift (Levinson and Thrun, "Automatic online calibration of cameras and
lasers", RSS 2013, which also defines the depth edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.transforms import transform

CLOCK_REACH = 3
"""Frames before and after an image whose sweeps are tried on it."""
# A neighbour this much farther away, as a fraction and in m, makes a point the edge of a thing.
_FARTHER, _FARTHER_M = 1.15, 0.5
# Things beyond are small in the image, and their edges uncertain.
_FARTHEST_M = 50.0
_BLUR = 1.5
# Of the search: first over everything at a quarter of the size, then around the best, in pixels.
_COARSE, _REACH, _REFINE = 4, 16, 8
# Edges may lie as far outside of the image as the gap between points is wide.
_BEYOND = 32
_MOST_EDGES = 4000
_GROUPS = 4
_LEAST_EDGES = 150
_LEAST_SHIFT = 2.5
# Edges of each image with those of its depth; both sides of things.
_Side = list[tuple[np.ndarray, np.ndarray]]
_Sides = list[_Side]


class View(NamedTuple):
    """An image (H, W, 3) uint8 and the points on it (H, W) float32, m, 0 = none."""

    rgb: np.ndarray
    sparse: np.ndarray


@dataclass(frozen=True)
class Shift:
    """Offset of points from the image, in pixels: to the right for a positive `du`, down for a
    positive `dv`.

    sigma: standard deviation, from parts of the views. spacing: of the scan's lines in the image,
    by which upper edges of things lie too low. edges: how many there were. contrast: the best
    mean over that of all shifts, in their standard deviations.
    """

    du: float
    dv: float
    sigma: float
    spacing: float
    edges: int
    contrast: float

    @property
    def is_known(self) -> bool:
        """Whether there were enough edges for a result."""
        return self.edges >= _LEAST_EDGES and self.sigma < 4 and self.contrast > 4

    @property
    def is_off(self) -> bool:
        """Whether the offset of the points is significant."""
        least = max(_LEAST_SHIFT, 3 * self.sigma)
        low = self.dv > least + self.spacing / 2
        return self.is_known and (abs(self.du) > least or self.dv < -least or low)

    def corrected(self, T_camera_lidar: np.ndarray, camera: Camera) -> np.ndarray:
        """The extrinsics (4, 4), rotated to remove the offset."""
        yaw, pitch = -np.arctan(self.du / camera.fx), np.arctan(self.dv / camera.fy)
        turn = cv2.Rodrigues(np.array([0, yaw, 0]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
        # In the rectified frame, where the image is.
        return transform(camera.R.T @ turn @ camera.R, np.zeros(3)) @ T_camera_lidar


@dataclass(frozen=True)
class ClockOffset:
    """Time offset, in frames, between an image and the sweep that matches it best; > 0: later.

    contrast: how much better it matches than sweeps farther away, as a fraction; near 0 if
    nothing moves, so that there is no result.
    """

    frames: float
    sigma: float
    contrast: float

    @property
    def is_known(self) -> bool:
        """Whether there was enough motion for a result."""
        return self.contrast > 0.08 and self.sigma < 0.5

    @property
    def is_off(self) -> bool:
        """Whether clocks differ by more than can be chance."""
        return self.is_known and abs(self.frames) > max(0.75, 2 * self.sigma)


def depth_edges(sparse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points at the left and at the right side of objects, next to the background.

    Each (N, 2), column and row, moved to the middle between the point and the background, as the
    edge itself is somewhere between them. Returned separately, because there may be more of one
    than the other.
    """
    v, u = np.nonzero(sparse)
    gap = _gap(u, v)
    around = np.ones((3, 2 * gap + 1), np.uint8)
    nearest = -cv2.dilate(np.where(sparse > 0, -sparse, np.float32(-1e9)), around)
    depth = sparse[v, u]
    # Of the thing in front, not of one that is seen behind it.
    front = (depth < 1.05 * nearest[v, u]) & (depth < _FARTHEST_M)
    sides = []
    for columns in (slice(0, gap), slice(gap + 1, None)):
        beside = np.zeros_like(around)
        beside[:, columns] = 1
        behind = cv2.dilate(sparse, beside)[v, u]
        edge = front & (behind > _FARTHER * depth) & (behind > depth + _FARTHER_M)
        outward = (-0.5 if columns.start == 0 else 0.5) * gap
        sides.append(np.stack([u[edge] + outward, v[edge]], axis=1))
    return sides[0], sides[1]


def image_edges(rgb: np.ndarray) -> np.ndarray:
    """How much of an edge each pixel is, (H, W) float32, 0 to 1, blurred."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # Relative to its surroundings: a contour in the shade counts like one in the sun.
    around = cv2.blur(strength, (61, 61)) + 4
    return cv2.GaussianBlur(np.clip(strength / (4 * around), 0, 1), (0, 0), _BLUR)


def estimate_shift(views: Sequence[View]) -> Shift:
    """Offset of points from the images, over all views."""
    sides = _prepared(views)
    count = sum(len(edges) for side in sides for _, edges in side)
    if not all(any(len(edges) for _, edges in side) for side in sides):
        return Shift(0.0, 0.0, np.inf, 0.0, count, 0.0)
    found = [_search(side) for side in sides]
    parts = []
    for start in range(min(_GROUPS, len(views))):
        group = [side[start::_GROUPS] for side in sides]
        if all(any(len(edges) for _, edges in side) for side in group):
            parts.append(np.mean([_search(side)[0] for side in group], axis=0))
    spread = np.std(parts, axis=0).max() / np.sqrt(len(parts)) if len(parts) > 1 else np.inf
    # The shift that moves the edges onto the image is the negative of their offset.
    du, dv = -np.mean([best for best, _ in found], axis=0)
    contrast = min(contrast for _, contrast in found)
    spacing = float(np.median([_line_spacing(view.sparse) for view in views]))
    return Shift(float(du), float(dv), float(spread), spacing, count, contrast)


def estimate_clock(runs: Sequence[Sequence[View]], shift: Shift) -> ClockOffset:
    """Time offset between images and sweeps, from runs of consecutive views.

    shift: offset of their points, which is removed: it could mimic a time offset.
    """
    start = (-round(shift.du), -round(shift.dv)) if shift.is_known else (0, 0)
    steps = range(-CLOCK_REACH, CLOCK_REACH + 1)
    heights = []
    for run in runs:
        inner = range(CLOCK_REACH, len(run) - CLOCK_REACH)
        for middle in list(inner)[:: max(1, len(inner) // 4)]:
            # Every sweep near this image, on this image.
            near = [View(run[middle].rgb, run[middle + step].sparse) for step in steps]
            heights.append([_height(_prepared([view]), start) for view in near])
    if len(heights) < _GROUPS:
        return ClockOffset(0.0, np.inf, 0.0)
    heights = np.array(heights)
    parts = [_best_step(heights[start::_GROUPS].mean(axis=0)) for start in range(_GROUPS)]
    mean = heights.mean(axis=0)
    best = _best_step(mean)
    contrast = (mean.max() - np.sort(mean)[:3].mean()) / max(mean.max(), 1e-9)
    return ClockOffset(best, float(np.std(parts) / np.sqrt(_GROUPS)), float(contrast))


def _best_step(heights: np.ndarray) -> float:
    step = int(heights.argmax())
    inner = heights[max(step - 1, 0) : step + 2]
    return step - CLOCK_REACH + (_vertex(inner) if len(inner) == 3 else 0.0)


def _height(sides: _Sides, start: Sequence[int]) -> float:
    """How well the depth edges match the image at the best shift."""
    found = [_scores(side, start, _REFINE) for side in sides]
    return float(np.mean([scores.max() for scores in found]))


def _prepared(views: Sequence[View]) -> _Sides:
    """For left and right sides of objects: each image's edges with its depth edges."""
    images = [image_edges(view.rgb) for view in views]
    sides = zip(*(depth_edges(view.sparse) for view in views), strict=True)
    return [
        [(image, _some(edges)) for image, edges in zip(images, side, strict=True)]
        for side in sides
    ]


def _gap(u: np.ndarray, v: np.ndarray) -> int:
    """Pixels between neighbours in a row of points."""
    steps = np.diff(u)[np.diff(v) == 0]
    return int(np.clip(np.median(steps), 2, 30)) if len(steps) else 30


def _line_spacing(sparse: np.ndarray) -> float:
    """Pixels from one line of the scan to the next."""
    u, v = np.nonzero(sparse.T)
    steps = np.diff(v)[(np.diff(u) == 0) & (np.diff(v) > 1)]
    return float(np.median(steps)) if len(steps) else 0.0


def _some(edges: np.ndarray) -> np.ndarray:
    return edges[:: max(1, -(-len(edges) // _MOST_EDGES))]


def _shrunk(prepared: _Side) -> _Side:
    """A quarter of the size."""
    scale = 1 / _COARSE
    return [
        (cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), edges * scale)
        for image, edges in prepared
    ]


def _search(prepared: _Side) -> tuple[np.ndarray, float]:
    """The shift (2,) of the edges of depth that suits best, pixels, and its contrast."""
    coarse = _scores(_shrunk(prepared), (0, 0), _REACH)
    start = _COARSE * (np.array(_peak(coarse)) - _REACH)
    fine = _scores(prepared, start, _REFINE)
    column, row = _peak(fine)
    inner = fine[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    best = np.array([column, row], np.float64) - _REFINE + start
    if inner.shape == (3, 3):
        best += [_vertex(inner[1]), _vertex(inner[:, 1])]
    contrast = (coarse.max() - np.median(coarse)) / max(float(coarse.std()), 1e-9)
    return best, float(contrast)


def _scores(prepared: _Side, start: Sequence[int], reach: int) -> np.ndarray:
    """Mean edge strength under the shifted edges: rows are dv, columns du."""
    span = np.arange(-reach, reach + 1)
    total, count = np.zeros((len(span), len(span))), 0
    for image, edges in prepared:
        margin = reach + int(np.abs(start).max()) + _BEYOND
        padded = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_CONSTANT, value=0)
        u = np.rint(edges[:, 0]).astype(np.intp) + int(start[0]) + margin
        v = np.rint(edges[:, 1]).astype(np.intp) + int(start[1]) + margin
        for row, dv in enumerate(span):
            total[row] += padded[(v + dv)[:, None], u[:, None] + span].sum(axis=0)
        count += len(edges)
    return total / max(count, 1)


def _peak(scores: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(column), int(row)


def _vertex(values: np.ndarray) -> float:
    """Where the parabola through three values has its maximum, from the one in the middle."""
    bend = values[0] - 2 * values[1] + values[2]
    return float(np.clip(0.5 * (values[0] - values[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0
