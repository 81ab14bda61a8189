"""A drive published in time, as a camera and a LiDAR would."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dmd3c_ros.datasets.drives import Drive
from dmd3c_ros.io.read_ahead import read_ahead
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import depth_to_image, rgb_to_image
from dmd3c_ros.messages.stamps import time_message
from dmd3c_ros.messages.tf import encode_transforms
from dmd3c_ros.messages.transforms import numbers_from_matrix
from dmd3c_ros.node.parameters import Parameters
from dmd3c_ros.node.qos import overriding

from .playback import Playback
from .settings import PlayerSettings

_TOPICS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
_GROUND_TRUTH = 'ground_truth/image_rect'
_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class _Messages(NamedTuple):
    stamp_ns: int
    points_stamp_ns: int
    image: Image
    info: CameraInfo
    cloud: PointCloud2
    depth: Image | None


class Player(Playback):
    """Publishes image_rect, camera_info and points of a drive at its times, from its own thread;
    of a simulated drive the exact depth too.

    groups: dataclasses of the player's own parameters; `open_drive` makes the drive of them.
    """

    def __init__(
        self,
        name: str,
        groups: Sequence[tuple[str, type]],
        open_drive: Callable[[Parameters], Drive],
    ) -> None:
        super().__init__(name, (('', PlayerSettings), *groups), PlayerSettings)
        self._drive = open_drive(self.parameters)
        # Named apart from Node's own list of publishers.
        self._outputs = {
            topic: self._publisher(message, topic) for topic, message in _TOPICS.items()
        }
        self._depth_output = (
            self._publisher(Image, _GROUND_TRUTH) if self._drive.has_depth else None
        )
        self._publish_transform()
        self._begin()

    def _publisher(self, kind: type, topic: str) -> Publisher:
        options = overriding(self, topic, 'publisher')
        return self.create_publisher(kind, topic, copy.copy(_QOS), qos_overriding_options=options)

    # ---------------------------------------------------------------- playback

    def _play(self) -> None:
        frames = self._frames()
        frame, shift_ns = next(frames)
        if not self._wait_for_subscribers(self._outputs.values()):
            return
        self.get_logger().info(f'playing {len(self._drive)} frames at rate {self._settings.rate}')
        first_ns, start, late, count = frame.stamp_ns, time.monotonic(), 0, 0
        while frame is not None:
            stamp_ns = frame.stamp_ns + shift_ns
            due = start + (stamp_ns - first_ns) * 1e-9 / self._settings.rate
            if not self._sleep_until(due, stamp_ns):
                return
            late += time.monotonic() - due > 0.5 * self._drive.period_ns * 1e-9
            self._publish(frame, shift_ns)
            count += 1
            frame, shift_ns = next(frames, (None, 0))
        self.get_logger().info(f'played {count} frames, {late} of them late')
        self._linger()

    def _publish(self, frame: _Messages, shift_ns: int) -> None:
        if self._settings.restamp:
            shift_ns = self.get_clock().now().nanoseconds - frame.stamp_ns
        stamp = time_message(frame.stamp_ns + shift_ns)
        frame.image.header.stamp = frame.info.header.stamp = stamp
        frame.cloud.header.stamp = time_message(frame.points_stamp_ns + shift_ns)
        self._outputs['camera_info'].publish(frame.info)
        self._outputs['image_rect'].publish(frame.image)
        self._outputs['points'].publish(frame.cloud)
        if frame.depth is not None:
            frame.depth.header.stamp = stamp
            self._depth_output.publish(frame.depth)

    # ---------------------------------------------------------------- reading

    def _frames(self) -> Iterator[tuple[_Messages, int]]:
        """Frames in the order of playback, each with what its loop adds to the stamps, ns."""
        count = len(self._drive)
        length_ns = self._drive.stamp_ns(count - 1) - self._drive.stamp_ns(0)
        length_ns += self._drive.period_ns
        loops = itertools.count() if self._settings.loop else range(1)
        if count <= self._settings.prefetch:
            frames = [self._messages(index) for index in range(count)]
            return ((frame, loop * length_ns) for loop in loops for frame in frames)
        order = ((index, loop * length_ns) for loop in loops for index in range(count))
        return read_ahead(
            lambda item: (self._messages(item[0]), item[1]), order, self._settings.prefetch
        )

    def _messages(self, index: int) -> _Messages:
        frame = self._drive[index]
        header = Header(frame_id=self._settings.camera_frame)
        lidar_header = Header(frame_id=self._settings.lidar_frame)
        names = ('x', 'y', 'z', 'intensity')[: frame.points.shape[1]]
        return _Messages(
            frame.stamp_ns,
            frame.points_stamp_ns,
            rgb_to_image(frame.rgb, header),
            camera_to_info(self._drive.camera, header),
            points_to_cloud(frame.points, lidar_header, names),
            None if frame.depth is None else depth_to_image(frame.depth, header),
        )

    # ---------------------------------------------------------------- transform

    def _publish_transform(self) -> None:
        """The extrinsics as a latched /tf_static, where the message package is installed."""
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            numbers = ', '.join(
                f'{v:.9g}' for v in numbers_from_matrix(self._drive.T_camera_lidar)
            )
            self.get_logger().info(
                f'tf2_msgs is not installed: no static transform; T_camera_lidar: [{numbers}]'
            )
            return
        self._tf_output = self.create_publisher(TFMessage, '/tf_static', _LATCHED)
        frames = self._settings.lidar_frame, self._settings.camera_frame
        message = static_transform(self._drive, *frames)
        message.header.stamp = self.get_clock().now().to_msg()
        self._tf_output.publish(encode_transforms([message]))


def static_transform(drive: Drive, lidar_frame: str, camera_frame: str) -> TransformStamped:
    """The camera's pose in the LiDAR's frame; the caller sets the stamp."""
    numbers = numbers_from_matrix(np.linalg.inv(drive.T_camera_lidar))
    message = TransformStamped(child_frame_id=camera_frame)
    message.header.frame_id = lidar_frame
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = numbers[:3]
    rotation.x, rotation.y, rotation.z, rotation.w = numbers[3:]
    return message
