"""The sensors of a soak: a camera and a LiDAR before a wall, and all that goes wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import rgb_to_image
from dmd3c_ros.messages.stamps import time_message

from .garbage import garbage_cloud, garbage_image, garbage_info

WIDTH, HEIGHT = 64, 48
CAMERA = Camera.from_K(np.array([[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1.0]]), WIDTH, HEIGHT)
# The LiDAR (x forward, z up) sits in the camera (z forward, y down).
T_CAMERA_LIDAR = (0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5)
_TOPICS = {'camera_info': CameraInfo, 'image_rect': Image, 'points': PointCloud2}
# Good sets have the even slots of time, bad ones the odd ones: they must not pair.
_SLOT_NS = 100_000_000
_START_NS = 1_700_000_000_000_000_000
_RELIABILITIES = (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)


class Sensors:
    """Publishes sets of an image, its CameraInfo and a sweep."""

    def __init__(self, node: Node, rng: np.random.Generator) -> None:
        self._node, self._rng = node, rng
        self._slot = 0
        self._publishers: dict[str, Any] = {}
        self.reliability = ReliabilityPolicy.RELIABLE
        self._publish_from_now_on()

    def good_set(self) -> tuple[tuple[int, int], float]:
        """Publish a set; its stamp (s, ns) and the depth of all its pixels, m."""
        self._slot += 2
        self.again()
        stamp = self._stamp()
        return (stamp.sec, stamp.nanosec), self._distance_m()

    def again(self) -> None:
        """Publish the last good set once more."""
        self._publish(self._set(self._stamp()))

    def garbage(self) -> None:
        """Publish a set, or one message, of which at least one is absurd."""
        messages = self._set(self._stamp(odd=True))
        spoil = {'camera_info': garbage_info, 'image_rect': garbage_image, 'points': garbage_cloud}
        chosen = list(map(str, self._rng.choice(list(spoil), self._rng.integers(1, 4), False)))
        for topic in chosen:
            messages[topic] = spoil[topic](self._rng, messages[topic])
        if self._rng.random() < 0.3:
            messages = {topic: messages[topic] for topic in chosen}
        self._publish(messages)

    def absurd_stamps(self) -> None:
        """Publish good messages at times before, at and long after the start of all clocks."""
        messages = self._set(self._stamp(odd=True))
        for message in messages.values():
            seconds = self._rng.choice([-(2**31), -1, 0, 2**31 - 1])
            message.header.stamp = Time(
                sec=int(seconds), nanosec=int(self._rng.integers(2**32 - 1))
            )
        self._publish(messages)

    def burst(self) -> None:
        """Publish sets without waiting, more than the node keeps."""
        for _ in range(8):
            self.good_set()

    def jump(self) -> None:
        """Set the clock back: to the start, or to any time."""
        self._slot = 0 if self._rng.random() < 0.5 else 2 * int(self._rng.integers(10**8))

    def restart(self) -> None:
        """Take all publishers away and bring new ones."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self.reliability = _RELIABILITIES[self._rng.integers(2)]
        self._publish_from_now_on()

    def heard(self) -> bool:
        """Has the node subscribed to all topics, as reliably as they are published?"""
        return all(
            [s.qos_profile.reliability for s in self._node.get_subscriptions_info_by_topic(topic)]
            == [self.reliability]
            and publisher.get_subscription_count() == 1
            for topic, publisher in self._publishers.items()
        )

    def _publish_from_now_on(self) -> None:
        qos = QoSProfile(depth=10, reliability=self.reliability)
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, qos) for topic, kind in _TOPICS.items()
        }

    def _stamp(self, odd: bool = False) -> Time:
        return time_message(_START_NS + (self._slot + odd) * _SLOT_NS)

    def _distance_m(self) -> float:
        """Depth of the wall by time: repeated times show the same depth, as in a bag."""
        return 5.0 + self._slot * 37 % 450 / 10

    def _set(self, stamp: Time) -> dict[str, Any]:
        lens = Header(stamp=stamp, frame_id='lens')
        rgb = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
        lidar = Header(stamp=stamp, frame_id='lidar')
        return {
            'camera_info': camera_to_info(CAMERA, lens),
            'image_rect': rgb_to_image(rgb, lens),
            'points': points_to_cloud(_wall(self._distance_m()), lidar),
        }

    def _publish(self, messages: dict[str, Any]) -> None:
        for topic, message in messages.items():
            self._publishers[topic].publish(message)


def _wall(distance_m: float) -> np.ndarray:
    """Points (N, 3) float32 of a wall across the view, in the LiDAR's frame, m."""
    y, z = np.meshgrid(np.linspace(-0.6, 0.6, 30), np.linspace(-0.45, 0.45, 20))
    forward = np.full(y.size, distance_m)
    return np.stack([forward, y.ravel() * distance_m, z.ravel() * distance_m], 1).astype('f4')
