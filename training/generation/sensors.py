"""Random depth sensors in front of a surface: LiDARs of every build, and sparse visual points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.simulation import PATTERNS, Pattern, Spinning, lidar_mount
from training.generation.casting import Caster

VISUAL = ('uniform', 'corners')
_BESIDE_VIEW_DEG = 25.0  # a LiDAR beside the camera looks into its view from this far outside


@dataclass(frozen=True)
class SensorConfig:
    """How the sparse input comes about. Every draw is uniform unless it says otherwise.

    patterns: share of each sensor: the names of ``dmd3c_ros.simulation.PATTERNS``, 'uniform'
        (random pixels, as NYU Depth V2 is evaluated) and 'corners' (image corners, as VOID's).
    line_steps: one is drawn; every n-th line stays, where 4 lines or more remain (128 lines
        become 64, 32 ...).
    forward_m, left_m, up_m: bounds of the LiDAR's place seen from the camera, m.
    one_origin: all lasers fire from the frame's origin, whatever the real sensor's optics.
    tilt_deg: standard deviation of its yaw, pitch and roll against the camera.
    miscalibration_deg: standard deviation of the error of the rotation that is used to project.
    range_sigma_m: standard deviation of the range noise; range_sigma_share: the same as a share
        of the range, for 'uniform' and 'corners'.
    drop_max: largest share of points lost at random. line_drop: share of lines lost entirely.
    uniform_points, corner_points: their numbers.
    """

    patterns: dict[str, float] = field(
        default_factory=lambda: {
            'hdl64e': 0.4,
            'os1_128': 0.15,
            'vlp16': 0.15,
            'solid_state': 0.12,
            'line_scan': 0.02,
            'uniform': 0.1,
            'corners': 0.06,
        }
    )
    line_steps: tuple[int, ...] = (1, 1, 2, 4)
    forward_m: tuple[float, float] = (-0.5, 0.2)
    left_m: tuple[float, float] = (-0.5, 0.5)
    up_m: tuple[float, float] = (-0.1, 0.5)
    one_origin: bool = False
    tilt_deg: float = 2.0
    miscalibration_deg: float = 0.05
    range_sigma_m: float = 0.02
    range_sigma_share: float = 0.01
    drop_max: float = 0.3
    line_drop: float = 0.02
    uniform_points: int = 500
    corner_points: int = 1500

    def __post_init__(self) -> None:
        known = (*PATTERNS, *VISUAL)
        unknown = sorted(self.patterns.keys() - set(known))
        if unknown:
            raise ValueError(f'patterns: expected some of {known}, got {unknown}')
        if not self.patterns or min(self.patterns.values()) < 0 or not any(self.patterns.values()):
            raise ValueError(f'patterns: expected shares above 0, got {self.patterns}')
        if not self.line_steps or min(self.line_steps) < 1:
            raise ValueError(f'line_steps: expected steps of 1 or more, got {self.line_steps}')
        for name in ('drop_max', 'line_drop'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name}: expected 0..1, got {getattr(self, name)}')


# The paper's text: rays from the camera's origin, nothing lost. It names no sensor; KITTI's, which
# it fine-tunes for, is taken.
PAPER = SensorConfig(
    patterns={'hdl64e': 1.0},
    line_steps=(1,),
    forward_m=(0.0, 0.0),
    left_m=(0.0, 0.0),
    up_m=(0.0, 0.0),
    one_origin=True,
    tilt_deg=0.0,
    miscalibration_deg=0.0,
    range_sigma_m=0.0,
    drop_max=0.0,
    line_drop=0.0,
)


class SensorSweep(NamedTuple):
    """points (N, 3) float32, m, in the sensor's frame; T_camera_lidar (4, 4) as calibrated, for
    projecting them; the pattern's name and its number of lines (0: it has none)."""

    points: np.ndarray
    T_camera_lidar: np.ndarray
    pattern: str
    lines: int


def draw_sweep(
    rgb: np.ndarray,
    depth: np.ndarray,
    camera: Camera,
    caster: Caster,
    config: SensorConfig,
    rng: np.random.Generator,
) -> SensorSweep:
    """One sensor's measurement of a scene.

    rgb: (H, W, 3) uint8 and depth: (H, W) float32, m, of the camera (at the origin of its optical
    frame); caster: rays against the scene's surface.
    """
    names = sorted(config.patterns)
    shares = np.array([config.patterns[name] for name in names])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    if name in VISUAL:
        return _visual(name, rgb, depth, camera, config, rng)
    pattern, lines = _with_lines_left_out(PATTERNS[name], config, rng)
    T = _mount(config, rng)
    rays = _facing(pattern, camera).directions(rng, int(rng.integers(1000)))
    ring, directions = rays.ring, rays.directions
    kept = rng.random(len(ring)) >= rng.uniform(0, config.drop_max)
    kept &= (rng.random(ring.max(initial=0) + 1) >= config.line_drop)[ring]
    directions = directions[kept]
    origins = rays.origins[kept] * (not config.one_origin)
    distance = caster(origins @ T[:3, :3].T + T[:3, 3], directions @ T[:3, :3].T)
    distance = distance + rng.normal(0, config.range_sigma_m, len(distance))
    in_range = (distance >= pattern.min_range_m) & (distance <= pattern.max_range_m)
    points = origins[in_range] + directions[in_range] * distance[in_range, None]
    return SensorSweep(points.astype(np.float32), _miscalibrated(T, config, rng), name, lines)


def _with_lines_left_out(
    pattern: Pattern, config: SensorConfig, rng: np.random.Generator
) -> tuple[Pattern, int]:
    """The pattern with every n-th line only, and its number of lines."""
    step = config.line_steps[rng.integers(len(config.line_steps))]
    if not isinstance(pattern, Spinning):
        return pattern, 0
    lines = pattern.elevations_deg[rng.integers(step) :: step]
    if len(lines) >= 4:
        pattern = replace(pattern, elevations_deg=lines)
    return pattern, len(pattern.elevations_deg)


def _mount(config: SensorConfig, rng: np.random.Generator) -> np.ndarray:
    """Random T_camera_lidar (4, 4)."""
    T = lidar_mount(*(rng.uniform(*b) for b in (config.forward_m, config.left_m, config.up_m)))
    tilt = cv2.Rodrigues(rng.normal(0, np.radians(config.tilt_deg), 3))[0]
    T[:3, :3] = T[:3, :3] @ tilt
    return T


def _miscalibrated(T: np.ndarray, config: SensorConfig, rng: np.random.Generator) -> np.ndarray:
    error = cv2.Rodrigues(rng.normal(0, np.radians(config.miscalibration_deg), 3))[0]
    T = T.copy()
    T[:3, :3] = error @ T[:3, :3]
    return T


def _facing(pattern: Pattern, camera: Camera) -> Pattern:
    """The pattern without the azimuths that the camera cannot see: most of a turn."""
    if not isinstance(pattern, Spinning):
        return pattern
    left = np.degrees(np.arctan2(camera.cx, camera.fx)) + _BESIDE_VIEW_DEG
    right = np.degrees(np.arctan2(camera.width - camera.cx, camera.fx)) + _BESIDE_VIEW_DEG
    low, high = pattern.sector_deg
    return replace(pattern, sector_deg=(max(low, -left), min(high, right)))


def _visual(
    name: str,
    rgb: np.ndarray,
    depth: np.ndarray,
    camera: Camera,
    config: SensorConfig,
    rng: np.random.Generator,
) -> SensorSweep:
    """Depth at chosen pixels, as points of the camera's own frame."""
    choose = _uniform_pixels if name == 'uniform' else _corner_pixels
    rows, columns = choose(rgb, depth, config, rng)
    z = depth[rows, columns] * (1 + rng.normal(0, config.range_sigma_share, len(rows)))
    x, y = (columns - camera.cx) / camera.fx * z, (rows - camera.cy) / camera.fy * z
    points = np.stack([x, y, z], 1).astype(np.float32)
    kept = rng.random(len(points)) >= rng.uniform(0, config.drop_max)
    return SensorSweep(points[kept & (z > 0)], np.eye(4), name, 0)


def _uniform_pixels(
    rgb: np.ndarray, depth: np.ndarray, config: SensorConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    known = np.flatnonzero(depth > 0)
    chosen = rng.choice(known, min(config.uniform_points, len(known)), replace=False)
    return np.unravel_index(chosen, depth.shape)


def _corner_pixels(
    rgb: np.ndarray, depth: np.ndarray, config: SensorConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of Shi and Tomasi (CVPR 1994), strongest first."""
    corners = cv2.goodFeaturesToTrack(
        cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY),
        config.corner_points,
        qualityLevel=1e-3,
        minDistance=4,
        mask=(depth > 0).astype(np.uint8),
    )
    if corners is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    columns, rows = corners.reshape(-1, 2).round().astype(np.intp).T
    return rows, columns
