"""A camera and a LiDAR on a moving body, and the frames they record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera

from .lidar import LidarNoise, Pattern, scan
from .render import render
from .scene import Scene
from .scenes import build

# REP 103: optical frame (x right, y down, z forward) in a body frame (x forward, y left, z up).
R_BODY_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def pinhole(width: int, height: int, field_of_view_deg: float) -> Camera:
    """Camera with square pixels, looking straight ahead; field of view from left to right."""
    f = width / 2 / math.tan(math.radians(field_of_view_deg) / 2)
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])
    return Camera.from_K(K, width, height)


def camera_mount(
    height_m: float, pitch_rad: float = 0.0, yaw_rad: float = 0.0, roll_rad: float = 0.0
) -> np.ndarray:
    """T_body_camera (4, 4) of a camera height_m above the ground; positive pitch looks down."""
    cp, sp = np.cos(pitch_rad), np.sin(pitch_rad)
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    T = np.eye(4)
    T[:3, :3] = yaw @ pitch @ roll @ R_BODY_OPTICAL
    T[2, 3] = height_m
    return T


def lidar_mount(
    forward_m: float = -0.27, left_m: float = 0.0, up_m: float = 0.08, yaw_rad: float = 0.0
) -> np.ndarray:
    """T_camera_lidar (4, 4) of a LiDAR at (forward, left, up) of the camera, looking with it."""
    T = np.eye(4)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    T[:3, :3] = R_BODY_OPTICAL.T @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    T[:3, 3] = [-left_m, -up_m, forward_m]
    return T


@dataclass(frozen=True, eq=False)
class Rig:
    """Sensors fixed to a body that stands on the ground."""

    camera: Camera
    T_camera_lidar: np.ndarray
    pattern: Pattern
    T_body_camera: np.ndarray = field(default_factory=lambda: camera_mount(1.65))
    noise: LidarNoise = field(default_factory=LidarNoise)


class Frame(NamedTuple):
    """One instant of a drive.

    rgb (H, W, 3) uint8; depth (H, W) float32 m, exact, 0 = sky; points (N, 3) float32 m, LiDAR
    frame; ring (N,) int32; time (N,) float32 s.
    """

    stamp_s: float
    rgb: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    T_world_lidar: np.ndarray
    camera: Camera
    T_camera_lidar: np.ndarray
    ring: np.ndarray
    time: np.ndarray


def capture(scene: Scene, rig: Rig, time_s: float, index: int = 0, threads: int = 0) -> Frame:
    """The rig's frame at a time, going with the scene's traffic."""
    now = scene.at(time_s)
    T_world_camera = now.ground_pose(time_s) @ sway(scene.seed, time_s) @ rig.T_body_camera
    T_world_lidar = T_world_camera @ rig.T_camera_lidar
    view = render(now, T_world_camera, rig.camera, threads)
    rng = np.random.default_rng([scene.seed, 11, index])
    sweep = scan(now, T_world_lidar, rig.pattern, rng, rig.noise, index, threads)
    return Frame(
        time_s,
        view.rgb,
        view.depth,
        sweep.points,
        T_world_lidar,
        rig.camera,
        rig.T_camera_lidar,
        sweep.ring,
        sweep.time,
    )


def sway(seed: int, time_s: float) -> np.ndarray:
    """Small smooth roll, pitch and heave (4, 4) of a body on its springs."""
    rng = np.random.default_rng([seed, 5])
    rate, phase = rng.uniform(0.4, 1.3, 3), rng.uniform(0, 2 * np.pi, 3)
    wave = np.sin(2 * np.pi * rate * time_s + phase)
    T = camera_mount(0.02 * wave[2], 0.004 * wave[0], 0.0, 0.004 * wave[1])
    T[:3, :3] = T[:3, :3] @ R_BODY_OPTICAL.T
    return T


def drive(
    seed: int, n_frames: int, rig: Rig, kind: str = 'street', rate_hz: float = 10.0
) -> Iterator[Frame]:
    """The frames of one drive through the scene of that kind and seed, stamped from 0 s.

    The scene's traffic goes with the rig; all of it moves slower where n_frames would lead out
    of the scene. Raises ValueError for an unknown kind.
    """
    scene = build(kind, seed)
    way = scene.speed * n_frames / rate_hz
    pace = min(1.0, scene.reach / max(way, 1e-6))
    for index in range(n_frames):
        frame = capture(scene, rig, pace * index / rate_hz, index)
        yield frame._replace(stamp_s=index / rate_hz)
