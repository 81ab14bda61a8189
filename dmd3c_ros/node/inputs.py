"""The three inputs: subscribed, synchronized, and watched, to say why nothing pairs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from message_filters import ApproximateTimeSynchronizer, Subscriber
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

_TOPICS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
_REMEMBERED_STAMPS = 20

# Best effort hears reliable publishers too; a reliable subscription would not hear the others.
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class FrameSet(NamedTuple):
    """One image with its CameraInfo and sweep; `arrival` is when the last of them came (s)."""

    image: Image
    info: CameraInfo
    cloud: PointCloud2
    arrival: float


class Inputs:
    """Subscribes to image_rect, camera_info and points; calls back with each synchronized set."""

    def __init__(
        self, node: Node, slop_s: float, queue_size: int, on_set: Callable[[FrameSet], None]
    ) -> None:
        self._node, self._slop_s, self._on_set = node, slop_s, on_set
        self._watches = {topic: _Watch() for topic in _TOPICS}
        self._subscribers = {
            topic: Subscriber(node, message, topic, qos_profile=SENSOR_QOS)
            for topic, message in _TOPICS.items()
        }
        for topic, subscriber in self._subscribers.items():
            subscriber.registerCallback(self._watches[topic].saw)
        self._synchronizer = ApproximateTimeSynchronizer(
            list(self._subscribers.values()), queue_size, slop_s
        )
        self._synchronizer.registerCallback(self._synchronized)
        self._sets = 0

    def close(self) -> None:
        """End the subscriptions."""
        for subscriber in self._subscribers.values():
            self._node.destroy_subscription(subscriber.sub)

    def silence(self) -> str | None:
        """Why no set came since the last call, None where some did."""
        sets, self._sets = self._sets, 0
        counts = {topic: watch.take_count() for topic, watch in self._watches.items()}
        if sets:
            return None
        missing = [self._absence(topic) for topic, count in counts.items() if count == 0]
        if missing:
            return 'nothing to complete: ' + ', '.join(missing)
        image = self._watches['image_rect']
        gaps = {
            topic: image.nearest_gap(self._watches[topic]) for topic in ('camera_info', 'points')
        }
        told = ', '.join(f'{topic} {gap:.3f} s' for topic, gap in gaps.items())
        return (
            'nothing pairs: nearest stamps of image_rect and '
            f'{told} apart, sync_slop is {self._slop_s:g} s'
        )

    def _absence(self, topic: str) -> str:
        resolved = self._node.resolve_topic_name(topic)
        publishers = self._node.count_publishers(resolved)
        return f'no message on {resolved} ({publishers or "no"} publisher{"s" * (publishers > 1)})'

    def _synchronized(self, image: Image, info: CameraInfo, cloud: PointCloud2) -> None:
        self._sets += 1
        self._on_set(FrameSet(image, info, cloud, time.monotonic()))


class _Watch:
    """How many messages came, and the stamps of the last ones, in s."""

    def __init__(self) -> None:
        self._count = 0
        self._stamps: deque[float] = deque(maxlen=_REMEMBERED_STAMPS)

    def saw(self, message) -> None:
        self._count += 1
        stamp = message.header.stamp
        self._stamps.append(stamp.sec + stamp.nanosec * 1e-9)

    def take_count(self) -> int:
        count, self._count = self._count, 0
        return count

    def nearest_gap(self, other: _Watch) -> float:
        return min(abs(a - b) for a in self._stamps for b in other._stamps)
