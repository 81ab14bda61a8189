"""Projection error of the points of a moving rig.

The rig drives through a static simulated street. Its LiDAR is cast pulse by pulse from the pose at
the time of each, so the ground truth is exact; its messages are processed as in the node: /tf with
odometry, clouds with per-point times, `SweepAligner`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.deskew import move
from dmd3c_ros.core.motion import invert
from dmd3c_ros.core.transform_buffer import TransformBuffer
from dmd3c_ros.core.transforms import quaternion_from_rotation
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.stamps import shift_stamp, time_message
from dmd3c_ros.messages.types import Header, PointCloud2
from dmd3c_ros.pipeline.settings import MotionSettings
from dmd3c_ros.pipeline.sweeps import SweepAligner
from dmd3c_ros.simulation import (
    PATTERNS,
    Arc,
    LidarNoise,
    Scene,
    camera_mount,
    lidar_mount,
    scan,
    street,
)

# Any time will do; the node sees ones like it.
_START_NS = 1_763_640_000 * 10**9
_ODOM, _BASE, _LIDAR, _CAMERA = 'odom', 'base', 'lidar', 'camera'


@dataclass(frozen=True)
class Motion:
    """speed, m/s; turn_rate, rad/s to the left; sway of the body, rad (see `Arc`)."""

    speed: float
    turn_rate: float = 0.0
    sway: float = 0.0

    def __str__(self) -> str:
        turning = f', {self.turn_rate:g} rad/s' if self.turn_rate else ''
        swaying = f', swaying {np.degrees(self.sway):.1f} deg' if self.sway else ''
        return f'{self.speed:g} m/s{turning}{swaying}'


@dataclass(frozen=True)
class Correction:
    """A method to locate points; clock_error: by how much the LiDAR's clock is fast, s."""

    name: str
    settings: MotionSettings
    clock_error: float = 0.0


MOTIONS = (
    Motion(0),
    Motion(5),
    Motion(15),
    Motion(5, 0.5),
    Motion(15, 0.3),
    Motion(0, 1.0),
    Motion(15, 0.3, np.radians(1.0)),
)
_FIXED = MotionSettings(fixed_frame=_ODOM, deskew=False, transform_timeout=0.0)
_FULL = replace(_FIXED, deskew=True)
_CLOCK_ERROR = 0.02
CORRECTIONS = (
    Correction('none', MotionSettings()),
    Correction('fixed_frame', _FIXED),
    Correction('fixed_frame, deskew', _FULL),
    Correction('both, clock 20 ms off', _FULL, _CLOCK_ERROR),
    Correction(
        'both, clock 20 ms off, lidar_clock_offset',
        replace(_FULL, lidar_clock_offset=-_CLOCK_ERROR),
        _CLOCK_ERROR,
    ),
    Correction('last 5 sweeps, no deskew', replace(_FIXED, accumulate_sweeps=5)),
    Correction('last 5 sweeps, deskew', replace(_FULL, accumulate_sweeps=5)),
)


@dataclass(frozen=True, eq=False)
class MovingRig:
    """The sensors, and when they measure.

    Sweeps follow each other, stamped when the laser faces forward, half a revolution after its
    start; the image is taken image_delay later. odometry_rate: of /tf, Hz.
    """

    lidar: str = 'hdl64e'
    width: int = 1216
    height: int = 352
    focal_length: float = 720.0
    image_delay: float = 0.03
    odometry_rate: float = 50.0
    seed: int = 0
    T_base_camera: np.ndarray = field(default_factory=lambda: camera_mount(1.65))
    T_camera_lidar: np.ndarray = field(default_factory=lidar_mount)

    @property
    def camera(self) -> Camera:
        """Looks along the motion."""
        cx, cy, f = (self.width - 1) / 2, (self.height - 1) / 2, self.focal_length
        return Camera.from_K(
            np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), self.width, self.height
        )


class Errors(NamedTuple):
    """Errors of the points that the camera should see.

    distance (N,): projection error in the image, pixels. depth (N,), m.
    time (N,): when they were measured, s after the image was taken. pixel (N, 2): correct
    position. shift (N, 2): error vector, pixels.
    """

    distance: np.ndarray
    depth: np.ndarray
    time: np.ndarray
    pixel: np.ndarray
    shift: np.ndarray


class MovingSweeps:
    """Consecutive sweeps of one drive, with the poses of the rig."""

    def __init__(self, rig: MovingRig, motion: Motion, scene: Scene, count: int) -> None:
        self.rig, self.motion = rig, motion
        self._arc = Arc(scene.ground_pose(0.0), motion.speed, motion.turn_rate, motion.sway)
        pattern = PATTERNS[rig.lidar]
        self._period = pattern.period_s
        self._T_base_lidar = rig.T_base_camera @ rig.T_camera_lidar
        still = replace(scene, movers=())
        self.sweeps = []
        for index in range(count):
            start, rng = index * self._period, np.random.default_rng([rig.seed, index])
            sweep = scan(
                still,
                lambda times, start=start: self._arc.at(start + times) @ self._T_base_lidar,
                pattern,
                rng,
                LidarNoise(),
                index,
            )
            self.sweeps.append(sweep)

    def transforms(self) -> TransformBuffer:
        """TF as the node receives it."""
        buffer = TransformBuffer(history_s=None)
        for child, T in ((_CAMERA, self.rig.T_base_camera), (_LIDAR, self._T_base_lidar)):
            _add(buffer, _BASE, child, 0, T, fixed=True)
        last = (len(self.sweeps) + 1) * self._period
        for time in np.arange(-0.5, last + 0.5, 1 / self.rig.odometry_rate):
            _add(buffer, _ODOM, _BASE, _stamp_ns(time), self._arc.at([time])[0], fixed=False)
        return buffer

    def errors(self, correction: Correction) -> Errors:
        """Of the points of every sweep that has all those before it to be accumulated with."""
        aligner = SweepAligner(correction.settings, self.transforms())
        before = correction.settings.accumulate_sweeps - 1
        found = []
        for index in range(len(self.sweeps)):
            cloud = self.cloud(index, correction)
            aligner.remember(cloud, kept=1)
            if index >= before:
                stamp = self.stamp(index) + self.rig.image_delay
                located = aligner.locate(cloud, _CAMERA, _stamp_ns(stamp), None)
                members = range(index, index - before - 1, -1)
                found.append(self._compare(move(*located), members, stamp))
        return Errors(*map(np.concatenate, zip(*found, strict=True)))

    def stamp(self, index: int) -> float:
        """Stamp of a sweep in the camera's time, s."""
        return (index + 0.5) * self._period

    def cloud(self, index: int, correction: Correction) -> PointCloud2:
        """The sweep as its driver publishes it, after the node has shifted its stamp."""
        sweep = self.sweeps[index]
        stamp_ns = _stamp_ns(self.stamp(index) + correction.clock_error)
        header = Header(stamp=time_message(stamp_ns), frame_id=_LIDAR)
        columns = np.column_stack([sweep.points, sweep.time - self._period / 2])
        cloud = points_to_cloud(columns, header, ('x', 'y', 'z', 'time'))
        shift_stamp(cloud, correction.settings.lidar_offset_ns)
        return cloud

    def _compare(self, located: np.ndarray, members: Sequence[int], image_s: float) -> Errors:
        """Errors of points (N, 3) in the camera's frame."""
        camera = self.rig.camera
        T_camera_world = invert(self._arc.at([image_s])[0] @ self.rig.T_base_camera)
        times = np.concatenate([k * self._period + self.sweeps[k].time for k in members])
        T = T_camera_world @ self._arc.at(times) @ self._T_base_lidar
        points = np.concatenate([self.sweeps[k].points for k in members])
        truth = np.einsum('nij,nj->ni', T[:, :3, :3], points) + T[:, :3, 3]
        (pixel, depth), (fell, z) = camera.project(truth), camera.project(located)
        visible = (depth > 1.0) & (z > 0.1)
        visible &= (pixel > -0.5).all(1) & (pixel < (camera.width - 0.5, camera.height - 0.5)).all(
            1
        )
        shift = (fell - pixel)[visible]
        distance = np.linalg.norm(shift, axis=1)
        return Errors(distance, depth[visible], times[visible] - image_s, pixel[visible], shift)


def run(
    rig: MovingRig,
    motions: Sequence[Motion] = MOTIONS,
    corrections: Sequence[Correction] = CORRECTIONS,
    sweeps: int = 6,
) -> Iterator[tuple[Motion, Correction, Errors]]:
    """Errors of every correction at every motion.

    Raises ValueError for too few sweeps or an unknown LiDAR.
    """
    if rig.lidar not in PATTERNS:
        raise ValueError(f'lidar: expected one of {", ".join(PATTERNS)}; got {rig.lidar!r}')
    needed = max(c.settings.accumulate_sweeps for c in corrections)
    if sweeps < needed:
        raise ValueError(f'sweeps: expected {needed} or more, got {sweeps}')
    scene = street(rig.seed)
    for motion in motions:
        drive = MovingSweeps(rig, motion, scene, sweeps)
        for correction in corrections:
            yield motion, correction, drive.errors(correction)


def time_sweep(rig: MovingRig, points: int = 114_000, runs: int = 50) -> tuple[float, float]:
    """Time for a sweep of this many points, s: moved as a whole, and point by point; medians.

    From the message to points in the LiDAR's frame with their transform, on the current thread.
    """
    drive = MovingSweeps(rig, Motion(15, 0.3), street(rig.seed), 1)
    sweep = drive.sweeps[0]
    chosen = np.sort(np.arange(points) % len(sweep.points))
    drive.sweeps[0] = sweep._replace(points=sweep.points[chosen], time=sweep.time[chosen])
    medians = []
    for settings in (_FIXED, _FULL):
        correction = Correction('', settings)
        aligner, cloud = SweepAligner(settings, drive.transforms()), drive.cloud(0, correction)
        durations = []
        for _ in range(runs):
            started = perf_counter()
            aligner.locate(cloud, _CAMERA, _stamp_ns(drive.stamp(0)), None)
            durations.append(perf_counter() - started)
        medians.append(float(np.median(durations)))
    return medians[0], medians[1]


def _stamp_ns(time_s: float) -> int:
    return _START_NS + round(time_s * 1e9)


def _add(
    buffer: TransformBuffer, parent: str, child: str, stamp_ns: int, T: np.ndarray, *, fixed: bool
) -> None:
    rotation = quaternion_from_rotation(T[:3, :3])
    buffer.add(parent, child, stamp_ns, T[:3, 3], rotation, fixed=fixed)
