"""`dmd3c bag from-kitti`: a KITTI raw drive as a ROS 2 bag.

Topics are the node's own, so that the bag needs no remapping. Frames are those of the players:
`lidar` with the children `camera` (optical, not rectified: CameraInfo.r rotates it) and `imu`.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmd3c_ros.core.transforms import quaternion_from_rotation, rotation_from_euler
from dmd3c_ros.io.kitti_calibration import read_rigid_transform
from dmd3c_ros.io.kitti_raw import KittiDrive, read_stamps
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import rgb_to_image
from dmd3c_ros.messages.stamps import time_message
from dmd3c_ros.messages.tf import TF_TYPE
from dmd3c_ros.messages.types import Header
from dmd3c_ros.pipeline.settings import CAMERA_FRAME, LIDAR_FRAME

from .records import BagError
from .selection import CLOUD, IMAGE, INFO
from .writer import BagWriter

_log = logging.getLogger(__name__)

IMU_FRAME = 'imu'
TOPICS = {
    '/image_rect': IMAGE,
    '/camera_info': INFO,
    '/points': CLOUD,
    '/tf_static': TF_TYPE,
    '/imu/data': 'sensor_msgs/msg/Imu',
    '/gps/fix': 'sensor_msgs/msg/NavSatFix',
    '/gps/vel': 'geometry_msgs/msg/TwistStamped',
}
POINT_TIMES = ('auto', 'always', 'never')
_OXTS_TOPICS = ('/imu/data', '/gps/fix', '/gps/vel')
_OXTS_VALUES = 30
_TURN_FILES = ('timestamps_start.txt', 'timestamps_end.txt')
# sensor_msgs/NavSatStatus and NavSatFix.
_STATUS_FIX, _SERVICE_GPS, _COVARIANCE_APPROXIMATED = 0, 1, 1


class _Message(NamedTuple):
    time_ns: int
    topic: str
    message: Any


class Revolution(NamedTuple):
    """One revolution of the laser: when it started at the rear, faced forward and ended, ns."""

    start_ns: int
    forward_ns: int
    end_ns: int


def open_drive(path: Path, camera: str = 'image_02') -> KittiDrive:
    """The drive; raises FileNotFoundError and ValueError naming the file."""
    return KittiDrive(path, camera)


def convert_drive(
    drive: KittiDrive,
    out: Path,
    *,
    storage: str = 'mcap',
    point_time: str = 'auto',
    advance: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write the bag folder `out`, which appears when it is whole; returns its topics.

    point_time: 'always' and 'never', or 'auto': the sweeps get a field `time` (float32, s from
    the cloud's stamp) unless KITTI has removed the motion from them already. advance is called
    after each frame. Raises BagError, or ValueError naming a file of the drive that is bad.
    """
    if point_time not in POINT_TIMES:
        raise BagError(f'point time: expected one of {", ".join(POINT_TIMES)}; got {point_time!r}')
    revolutions = _revolutions(drive, point_time)
    oxts = _oxts_files(drive)
    topics = [t for t in TOPICS if t not in _OXTS_TOPICS or oxts]
    with BagWriter(out, storage) as writer:
        for topic in topics:
            writer.add_topic(topic, TOPICS[topic], latched=topic == '/tf_static')
        streams = (
            (message for group in _frames(drive, revolutions, advance) for message in group),
            (message for stamp, path in oxts for message in _oxts_messages(stamp, path)),
        )
        for message in heapq.merge(*streams, key=lambda message: message.time_ns):
            if not writer.count:
                extrinsics = _extrinsics(drive, message.time_ns, with_imu=bool(oxts))
                writer.write('/tf_static', TF_TYPE, message.time_ns, extrinsics)
            writer.write(message.topic, TOPICS[message.topic], message.time_ns, message.message)
    return topics


def _frames(
    drive: KittiDrive, revolutions: list[Revolution] | None, advance: Callable[[], None]
) -> Iterator[list[_Message]]:
    for index in range(len(drive)):
        frame = drive[index]
        header = _header(frame.stamp_ns, CAMERA_FRAME)
        points, names = frame.points, ('x', 'y', 'z', 'intensity')
        if revolutions is not None:
            points = np.column_stack([points, point_times(points, revolutions[index])])
            names += ('time',)
        cloud = points_to_cloud(points, _header(frame.points_stamp_ns, LIDAR_FRAME), names)
        yield sorted(
            [
                _Message(frame.stamp_ns, '/camera_info', camera_to_info(drive.camera, header)),
                _Message(frame.stamp_ns, '/image_rect', rgb_to_image(frame.rgb, header)),
                _Message(frame.points_stamp_ns, '/points', cloud),
            ],
            key=lambda message: message.time_ns,
        )
        advance()


def point_times(points: np.ndarray, revolution: Revolution) -> np.ndarray:
    """When each point (N, 3 or more; x forward, y left, m) was measured, (N,) float32.

    In s from the moment when the laser faced forward. Seen from above, a Velodyne turns
    clockwise: from the rear over the left to the front, and over the right to the rear.
    """
    fraction = np.arctan2(points[:, 1], points[:, 0]) / np.pi
    before = (revolution.forward_ns - revolution.start_ns) * 1e-9
    after = (revolution.end_ns - revolution.forward_ns) * 1e-9
    return np.where(fraction > 0, -fraction * before, -fraction * after).astype(np.float32)


def _revolutions(drive: KittiDrive, point_time: str) -> list[Revolution] | None:
    """The revolution of each sweep, None if the bag shall have no point times."""
    if point_time == 'never':
        return None
    if point_time == 'auto' and drive.path.resolve().name.endswith('_sync'):
        _log.info(
            'no per-point time: KITTI has already motion-compensated the points of synchronized '
            'drives, and a reader would do it again'
        )
        return None
    folder = drive.path / 'velodyne_points'
    forward = _stamps(drive, 'timestamps.txt')
    if all((folder / name).is_file() for name in _TURN_FILES):
        starts, ends = (_stamps(drive, name) for name in _TURN_FILES)
        return [Revolution(*stamps) for stamps in zip(starts, forward, ends, strict=True)]
    # The laser triggers the camera once per revolution: the stamps give its duration.
    if len(forward) > 1:
        half_ns = int(np.median(np.diff(forward))) // 2
        return [Revolution(stamp - half_ns, stamp, stamp + half_ns) for stamp in forward]
    if point_time == 'always':
        raise BagError(f'{folder}: expected {" and ".join(_TURN_FILES)}')
    return None


def _stamps(drive: KittiDrive, file: str) -> list[int]:
    """Times of the frames' sweeps from a file in their folder, ns."""
    stamps = read_stamps(drive.path / 'velodyne_points' / file, drive.sweep_names)
    return [stamps[name] for name in drive.names]


def _extrinsics(drive: KittiDrive, stamp_ns: int, *, with_imu: bool) -> dict:
    T_lidar_camera = np.linalg.inv(drive.T_camera_lidar)
    transforms = [_transform(stamp_ns, LIDAR_FRAME, CAMERA_FRAME, T_lidar_camera)]
    if with_imu:
        try:
            T_lidar_imu = read_rigid_transform(drive.calibration('calib_imu_to_velo.txt'))
        except FileNotFoundError as error:
            _log.warning('no transform to %s: %s', IMU_FRAME, error)
        else:
            transforms.append(_transform(stamp_ns, LIDAR_FRAME, IMU_FRAME, T_lidar_imu))
    return {'transforms': transforms}


def _transform(stamp_ns: int, parent: str, child: str, T_parent_child: np.ndarray) -> dict:
    return {
        'header': _header(stamp_ns, parent),
        'child_frame_id': child,
        'transform': {
            'translation': _vector(T_parent_child[:3, 3]),
            'rotation': _quaternion(T_parent_child[:3, :3]),
        },
    }


# ---------------------------------------------------------------------------- GPS and IMU


def _oxts_files(drive: KittiDrive) -> list[tuple[int, Path]]:
    """Stamp and file of each measurement, in order; none if the drive has no oxts folder."""
    folder = drive.path / 'oxts'
    files = {path.stem: path for path in sorted((folder / 'data').glob('*.txt'))}
    if not files:
        return []
    stamps = read_stamps(folder / 'timestamps.txt', files)
    return sorted((stamps[name], path) for name, path in files.items())


def _oxts_messages(stamp_ns: int, path: Path) -> list[_Message]:
    """IMU, position and velocity from one file; axes of the unit: x forward, y left, z up.

    Yaw is 0 to the east and increases to the left, as in REP 103.
    """
    try:
        values = np.array(path.read_text(encoding='ascii').split(), np.float64)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if values.size != _OXTS_VALUES:
        raise ValueError(f'{path}: expected {_OXTS_VALUES} numbers, got {values.size}')
    latitude, longitude, altitude, roll, pitch, yaw = values[:6]
    header = _header(stamp_ns, IMU_FRAME)
    position_variance, velocity = values[23] ** 2, values[8:11]
    imu = {
        'header': header,
        'orientation': _quaternion(rotation_from_euler(roll, pitch, yaw)),
        'angular_velocity': _vector(values[17:20]),
        'linear_acceleration': _vector(values[11:14]),
    }
    fix = {
        'header': header,
        'status': {'status': _STATUS_FIX, 'service': _SERVICE_GPS},
        'latitude': latitude,
        'longitude': longitude,
        'altitude': altitude,
        'position_covariance': np.diag([position_variance] * 3).ravel(),
        'position_covariance_type': _COVARIANCE_APPROXIMATED,
    }
    twist = {'linear': _vector(velocity), 'angular': _vector(values[20:23])}
    return [
        _Message(stamp_ns, '/imu/data', imu),
        _Message(stamp_ns, '/gps/fix', fix),
        _Message(stamp_ns, '/gps/vel', {'header': header, 'twist': twist}),
    ]


def _header(stamp_ns: int, frame: str) -> Header:
    return Header(stamp=time_message(stamp_ns), frame_id=frame)


def _vector(values: np.ndarray) -> dict[str, float]:
    return dict(zip('xyz', map(float, values), strict=True))


def _quaternion(R: np.ndarray) -> dict[str, float]:
    return dict(zip('xyzw', quaternion_from_rotation(R).tolist(), strict=True))
