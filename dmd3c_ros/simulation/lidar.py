"""LiDAR scan patterns and their sweeps through a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .scene import Scene


class Rays(NamedTuple):
    """The pulses of one sweep.

    directions (N, 3) float32 unit and origins (N, 3) float32 m, LiDAR frame (x forward, z up);
    ring (N,) int32; time (N,) float32 s from the sweep's start.
    """

    directions: np.ndarray
    ring: np.ndarray
    time: np.ndarray
    origins: np.ndarray


class Sweep(NamedTuple):
    """points (N, 3) float32 m in the LiDAR frame; ring (N,) int32; time (N,) float32 s."""

    points: np.ndarray
    ring: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class LidarNoise:
    """What separates a real sweep from exact ranges."""

    range_sigma_m: float = 0.02
    random_loss: float = 0.01  # fraction of pulses lost for no reason
    loss: float = 1.0  # scales the loss on dark, far and glancing surfaces; 0: none
    glass_return: float = 0.12  # fraction of pulses reflected by a pane
    glass_pass: float = 0.1  # fraction that passes through and hits what is behind
    mixed_pixels: float = 0.02  # fraction of pulses split where there are two surfaces
    beam_rad: float = 0.002  # full divergence of the beam


@dataclass(frozen=True)
class Spinning:
    """Lines at fixed elevations, turned once in a sweep; ring 0 is the top line."""

    name: str
    elevations_deg: tuple[float, ...]
    azimuth_step_deg: float
    min_range_m: float
    max_range_m: float
    period_s: float = 0.1
    sector_deg: tuple[float, float] = (-180.0, 180.0)
    jitter_deg: float = 0.02  # spread of the lines' own azimuths around the step
    # Where lasers sit above the frame's origin: (elevation in degrees, height in m), upwards.
    laser_heights: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def directions(self, rng: np.random.Generator, frame_index: int = 0) -> Rays:
        """One sweep's rays, line by line; rng turns the start and jitters each pulse."""
        low, high = self.sector_deg
        steps = round((high - low) / self.azimuth_step_deg)
        lines = len(self.elevations_deg)
        start = rng.uniform(0, self.azimuth_step_deg)
        base = low + start + self.azimuth_step_deg * np.arange(steps)
        # Every laser fires at its own moment of the step.
        phase = np.mod(np.arange(lines) * 0.618, 1.0) * self.azimuth_step_deg
        azimuth = base[None] + phase[:, None] + rng.normal(0, self.jitter_deg, (lines, steps))
        azimuth = np.radians(azimuth)
        elevation = np.radians(np.array(self.elevations_deg))[:, None]
        elevation = elevation + np.radians(rng.normal(0, 0.1 * self.jitter_deg, azimuth.shape))
        directions = np.stack(
            [
                np.cos(elevation) * np.cos(azimuth),
                -np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ],
            -1,
        )
        ring = np.repeat(np.arange(lines, dtype=np.int32), steps)
        time = np.tile(np.linspace(0, self.period_s, steps, endpoint=False), lines)
        origins = np.zeros((len(ring), 3), np.float32)
        at, height = np.array(self.laser_heights).T
        origins[:, 2] = np.repeat(np.interp(self.elevations_deg, at, height), steps)
        directions = directions.reshape(-1, 3).astype(np.float32)
        return Rays(directions, ring, time.astype(np.float32), origins)


@dataclass(frozen=True)
class Rosette:
    """Non-repetitive rosette of a solid-state LiDAR (two counter-turning prisms)."""

    name: str
    half_angle_deg: float
    points: int
    min_range_m: float
    max_range_m: float
    lines: int = 6
    petals_hz: float = 121.7
    turn_hz: float = 13.13
    period_s: float = 0.1

    def directions(self, rng: np.random.Generator, frame_index: int = 0) -> Rays:
        """The rays of frame frame_index; the scan pattern continues from frame to frame."""
        per_line = self.points // self.lines
        time = np.arange(per_line) * (self.period_s / per_line)
        t = (frame_index * self.period_s + time)[None]
        line = np.arange(self.lines)[:, None]
        radius = np.radians(self.half_angle_deg) * np.cos(
            2 * np.pi * self.petals_hz * t + line * np.pi / self.lines
        )
        angle = 2 * np.pi * self.turn_hz * t + line * 2 * np.pi / self.lines / 7
        radius = radius + rng.normal(0, 2e-4, radius.shape)
        directions = np.stack(
            [np.cos(radius), np.sin(radius) * np.cos(angle), np.sin(radius) * np.sin(angle)], -1
        )
        ring = np.repeat(np.arange(self.lines, dtype=np.int32), per_line)
        return Rays(
            directions.reshape(-1, 3).astype(np.float32),
            ring,
            np.tile(time, self.lines).astype(np.float32),
            np.zeros((len(ring), 3), np.float32),
        )


Pattern = Spinning | Rosette


def _hdl64e() -> tuple[float, ...]:
    upper = np.linspace(1.94, -8.6, 32)
    lower = np.linspace(-9.06, -24.9, 32)
    # The lines of a real unit are not evenly spaced: fixed irregularities of its calibration.
    uneven = np.random.default_rng(64).normal(0, 0.05, 64)
    return tuple(np.round(np.r_[upper, lower] + uneven, 3).tolist())


# The two blocks of lasers stand one above the other (vertical offsets of the unit's calibration).
_HDL64E_HEIGHTS = ((-25.0, 0.116), (-8.9, 0.126), (-8.8, 0.198), (2.0, 0.209))

# The Velodyne VLP-32C's lines: close together around the horizon (its manual's table).
_VLP32C = (
    15.0, 10.333, 7.0, 4.667, 3.333, 2.333, 1.667, 1.333, 1.0, 0.667, 0.333, 0.0, -0.333, -0.667,
    -1.0, -1.333, -1.667, -2.0, -2.333, -2.667, -3.0, -3.333, -3.667, -4.0, -4.667, -5.333,
    -6.148, -7.254, -8.843, -11.31, -15.639, -25.0,
)  # fmt: skip

PATTERNS: dict[str, Pattern] = {
    'hdl64e': Spinning('hdl64e', _hdl64e(), 0.1728, 1.5, 80.0, laser_heights=_HDL64E_HEIGHTS),
    'hdl32e': Spinning(
        'hdl32e', tuple(np.linspace(10.67, -30.67, 32).round(2).tolist()), 0.166, 1.0, 80.0
    ),
    'vlp32': Spinning('vlp32', _VLP32C, 0.2, 0.5, 100.0),
    'vlp16': Spinning('vlp16', tuple(np.linspace(15, -15, 16).tolist()), 0.2, 0.5, 100.0),
    'os1_128': Spinning(
        'os1_128', tuple(np.linspace(22.5, -22.5, 128).round(3).tolist()), 360 / 1024, 0.5, 90.0
    ),
    'solid_state': Rosette('solid_state', 35.2, 24000, 0.3, 90.0),
    # A scanning solid-state sensor: a dense raster over a part of the view (RoboSense M1).
    'raster': Spinning(
        'raster',
        tuple(np.linspace(12.5, -12.5, 126).round(2).tolist()),
        0.2,
        0.5,
        90.0,
        sector_deg=(-60.0, 60.0),
    ),
    'line_scan': Spinning(
        'line_scan', (0.0,), 0.25, 0.1, 30.0, period_s=0.025, sector_deg=(-135.0, 135.0)
    ),
}


def scan(
    scene: Scene,
    T_world_lidar: np.ndarray | Callable[[np.ndarray], np.ndarray],
    pattern: Pattern,
    rng: np.random.Generator,
    noise: LidarNoise = LidarNoise(),
    frame_index: int = 0,
    threads: int = 0,
) -> Sweep:
    """One sweep from the pose T_world_lidar (4, 4), with losses and noise as noise says.

    A LiDAR that moves gives its poses (N, 4, 4) at times (N,), s from the sweep's start; each
    point is then in the LiDAR's frame at its own time.
    """
    rays = pattern.directions(rng, frame_index)
    if callable(T_world_lidar):
        T = T_world_lidar(rays.time)
        R, origin = T[:, :3, :3], T[:, :3, 3]
        starts, directions = (
            np.einsum('nij,nj->ni', R, vectors) for vectors in (rays.origins, rays.directions)
        )
    else:
        R, origin = np.asarray(T_world_lidar[:3, :3]), np.asarray(T_world_lidar[:3, 3])
        starts, directions = rays.origins @ R.T, rays.directions @ R.T
    world = np.concatenate([starts + origin, directions], 1)
    distance = _ranges(scene, world.astype(np.float32), pattern, rng, noise, threads)
    kept = np.flatnonzero(np.isfinite(distance))
    points = rays.origins[kept] + rays.directions[kept] * distance[kept, None]
    return Sweep(points.astype(np.float32), rays.ring[kept], rays.time[kept])


def _ranges(
    scene: Scene,
    rays: np.ndarray,
    pattern: Pattern,
    rng: np.random.Generator,
    noise: LidarNoise,
    threads: int,
) -> np.ndarray:
    """Measured ranges (N,) m along world rays (N, 6), inf where no pulse comes back."""
    distance, back = _echo(scene, rays, noise, threads)
    through = np.flatnonzero(back < 0)
    fate = rng.random(len(through))
    through_hit = through[fate < noise.glass_pass]
    behind = rays[through_hit]
    behind[:, :3] += behind[:, 3:] * (distance[through_hit, None] + 0.02)
    further, strength = _echo(scene, behind, noise, threads)
    back[through] = np.where(fate > 1 - noise.glass_return, 1.0, 0.0)
    distance[through_hit] += further + 0.02
    back[through_hit] = np.clip(strength, 0, 1) * 0.5
    _mix(scene, rays, distance, rng, noise, threads)
    returned = rng.random(len(distance)) < back * (1 - noise.random_loss)
    distance = distance + rng.normal(0, noise.range_sigma_m, len(distance)).astype(np.float32)
    returned &= (distance > pattern.min_range_m) & (distance < pattern.max_range_m)
    return np.where(returned, distance, np.inf).astype(np.float32)


def _echo(
    scene: Scene, rays: np.ndarray, noise: LidarNoise, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Range (N,) m and chance of an echo (N,) of each ray; the chance is -1 on glass."""
    hits = scene.cast(rays, threads)
    met = hits.face >= 0
    face = np.where(met, hits.face, 0)
    normals, _, row = scene.interpolate(face, hits.bary)
    cosine = np.abs(np.einsum('ij,ij->i', normals, rays[:, 3:])) + 0.02
    table = scene.materials
    # Lambertian echo: reflectance * cos / r^2, against a threshold that spreads over pulses.
    distance = np.maximum(hits.distance, 1e-6)  # a sensor may touch a surface
    echo = table['reflectance'][row] * cosine / (0.013 * distance) ** 2
    mirror = table['gloss'][row] * np.clip(1 - cosine, 0, 1)
    chance = 1 - noise.loss * np.clip(np.exp(-7.0 * echo) + 0.8 * mirror, 0, 1)
    chance = np.where(table['glass'][row] & (noise.loss > 0), -1.0, chance)
    return hits.distance.astype(np.float32), np.where(met, chance, 0.0)


def _mix(
    scene: Scene,
    rays: np.ndarray,
    distance: np.ndarray,
    rng: np.random.Generator,
    noise: LidarNoise,
    threads: int,
) -> None:
    """Average some ranges, in place, with the range at the other edge of the wide beam."""
    count = int(len(rays) * noise.mixed_pixels * 5)
    if not count:
        return
    index = rng.choice(len(rays), count, replace=False)
    beside = rays[index]
    beside[:, 3:] += rng.normal(0, noise.beam_rad, (count, 3)).astype(np.float32)
    other = scene.cast(beside, threads).distance
    both = np.isfinite(other) & np.isfinite(distance[index])
    gap = np.abs(np.where(both, other, 0) - np.where(both, distance[index], 0))
    # Surfaces too far apart in range give two separate echoes instead.
    mixed = (gap > 0.1) & (gap < 1.5) & (rng.random(count) < 0.5)
    fraction = rng.random(count).astype(np.float32)
    index, other, fraction = index[mixed], other[mixed], fraction[mixed]
    distance[index] = distance[index] * fraction + other * (1 - fraction)
