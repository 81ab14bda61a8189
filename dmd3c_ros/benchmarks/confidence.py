"""How much depth a confidence threshold keeps, and how accurate it is.

Measured on simulated drives, whose depth is known exactly for every pixel, including the sky.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.pipeline.arrays import complete_points
from dmd3c_ros.simulation import PATTERNS, Rig, drive, lidar_mount

THRESHOLDS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Frames of one drive are this far apart, so that they show different things.
_FRAMES_PER_S = 1.0
_WRONG = 0.05


@dataclass(frozen=True)
class Drives:
    """Simulated drives to measure on.

    scene: 'street' or 'indoor'. lidar: scan pattern. seeds: of the drives. frames: of each.
    far: surfaces farther than this do not count, m.
    """

    scene: str = 'street'
    lidar: str = 'hdl64e'
    seeds: tuple[int, ...] = (101, 102, 103, 104)
    frames: int = 4
    far: float = 80.0
    width: int = 1216
    height: int = 352

    def __post_init__(self) -> None:
        if self.lidar not in PATTERNS:
            raise ValueError(f'lidar: expected one of {", ".join(PATTERNS)}, got {self.lidar!r}')

    def rig(self) -> Rig:
        """A camera of 80 degrees above which the LiDAR sits."""
        f = self.width / 2 / np.tan(np.radians(40))
        cx, cy = (self.width - 1) / 2, (self.height - 1) / 2
        K = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])
        camera = Camera.from_K(K, self.width, self.height)
        return Rig(camera, lidar_mount(), PATTERNS[self.lidar])


class Kept(NamedTuple):
    """The depth kept at a threshold, over all pixels of all frames.

    surface, sky: fraction of the pixels that show a surface, or the sky, that have depth. mae,
    rmse: on surfaces, m. wrong: fraction of those that are off by more than 5 %. NaN if there
    are none.
    """

    threshold: float
    surface: float
    sky: float
    mae: float
    rmse: float
    wrong: float


def measure(completer: DepthCompleter, drives: Drives) -> list[Kept]:
    """What each of THRESHOLDS keeps. Raises ValueError for a scene that nobody knows."""
    found = [pixels_of(*pair, drives.far) for pair in completions(completer, drives)]
    confidence, depth, truth = (np.concatenate(part) for part in zip(*found, strict=True))
    return [kept(threshold, confidence, depth, truth) for threshold in THRESHOLDS]


def completions(
    completer: DepthCompleter, drives: Drives
) -> Iterator[tuple[Completion, np.ndarray]]:
    """Completions with the true depth (H, W) float32, m, 0 = sky."""
    rig = drives.rig()
    for seed in drives.seeds:
        for frame in drive(seed, drives.frames, rig, drives.scene, _FRAMES_PER_S):
            _, completion = complete_points(
                completer, frame.rgb, frame.points, frame.T_camera_lidar, rig.camera
            )
            yield completion, frame.depth


def pixels_of(
    completion: Completion, truth: np.ndarray, far: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, depth and true depth (N,) of the pixels that count."""
    counts = truth <= far
    return completion.confidence[counts], completion.depth[counts], truth[counts]


def kept(threshold: float, confidence: np.ndarray, depth: np.ndarray, truth: np.ndarray) -> Kept:
    """Scores at a threshold for pixels (N,): depth and true depth, m, 0 = unknown, sky."""
    known = (confidence >= threshold) & (depth > 0)
    surface = truth > 0
    there = known & surface
    error = np.abs(depth[there] - truth[there]).astype(np.float64)
    if not error.size:
        error = np.array([np.nan])
    relative = error / truth[there] if there.any() else error
    return Kept(
        threshold,
        _fraction(there, surface),
        _fraction(known & ~surface, ~surface),
        float(error.mean()),
        float(np.sqrt((error**2).mean())),
        float((relative > _WRONG).mean()) if there.any() else float('nan'),
    )


def _fraction(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float('nan')


def as_rows(table: Sequence[Kept]) -> list[dict[str, float | None]]:
    """The table as plain values for JSON, which knows no NaN."""
    return [
        {key: None if np.isnan(value) else round(value, 5) for key, value in row._asdict().items()}
        for row in table
    ]
