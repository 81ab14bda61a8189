"""The three inputs: subscribed, synchronized, and watched, to say why nothing pairs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from message_filters import SimpleFilter
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from .synchronizer import Synchronizer

TOPICS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
_QUEUE_DEPTH = 5
_MATCH_PERIOD_S = 0.5
_REMEMBERED_STAMPS = 20


class FrameSet(NamedTuple):
    """One image with its CameraInfo and sweep; `arrival` is when the last of them came (s)."""

    image: Image | CompressedImage
    info: CameraInfo
    cloud: PointCloud2
    arrival: float


class Inputs:
    """Subscribes to image_rect, camera_info and points; calls back with each synchronized set.

    on_cloud: called with every sweep first; it may correct its stamp. group: of all callbacks,
    apart from those of services, which may take long.
    """

    def __init__(
        self,
        node: Node,
        slop_s: float,
        queue_size: int,
        on_set: Callable[[FrameSet], None],
        image_transport: str = 'raw',
        on_cloud: Callable[[PointCloud2], None] = lambda cloud: None,
        group: CallbackGroup | None = None,
    ) -> None:
        self._node, self._slop_s, self._on_set = node, slop_s, on_set
        self._sets = 0
        self._inputs = {topic: Input(node, topic, kind, group) for topic, kind in TOPICS.items()}
        if image_transport == 'compressed':
            name = compressed_topic(node.resolve_topic_name('image_rect'))
            self._inputs['image_rect'] = Input(node, name, CompressedImage, group)
        self._inputs['points'].on_message = on_cloud
        self._synchronizer = Synchronizer(list(self._inputs.values()), queue_size, slop_s)
        self._synchronizer.registerCallback(self._synchronized)
        self._timer = node.create_timer(
            _MATCH_PERIOD_S, self._match, group, Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._match()

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        for source in self._inputs.values():
            source.close()

    def silence(self) -> str | None:
        """Why no set came since the last call, None where some did."""
        sets, self._sets = self._sets, 0
        counts = {topic: source.take_count() for topic, source in self._inputs.items()}
        if sets:
            return None
        missing = [self._inputs[topic].absence() for topic, count in counts.items() if not count]
        if missing:
            return 'nothing to complete: ' + ', '.join(missing)
        image, *others = self._inputs.values()
        gaps = ', '.join(f'{other.topic} {image.nearest_gap(other):.3f} s' for other in others)
        return (
            f'nothing pairs: nearest stamps of {image.topic} and {gaps} apart, '
            f'sync_slop is {self._slop_s:g} s'
        )

    def _match(self) -> None:
        for source in self._inputs.values():
            source.match()

    def _synchronized(
        self, image: Image | CompressedImage, info: CameraInfo, cloud: PointCloud2
    ) -> None:
        self._sets += 1
        self._on_set(FrameSet(image, info, cloud, time.monotonic()))


def compressed_topic(image: str) -> str:
    """Where image_transport publishes an image topic compressed; such a name stays as it is."""
    return image if image.endswith('/compressed') else f'{image}/compressed'


class Input(SimpleFilter):
    """One topic, subscribed once somebody publishes it, as reliably as all its publishers offer.

    A reliable subscription hears no best-effort publisher, and a best-effort one loses large
    messages of reliable publishers on a poor network.
    """

    def __init__(
        self, node: Node, topic: str, kind: type, group: CallbackGroup | None = None
    ) -> None:
        super().__init__()
        self.topic = topic
        self._node, self._kind, self._group = node, kind, group
        self._resolved = node.resolve_topic_name(topic)
        self._subscription = None
        self._reliability: ReliabilityPolicy | None = None
        self.on_message: Callable[[Any], None] = lambda message: None
        self._count = 0
        self._stamps: deque[float] = deque(maxlen=_REMEMBERED_STAMPS)

    def match(self) -> None:
        """Subscribe, or subscribe anew where the publishers' offers have changed."""
        publishers = self._node.get_publishers_info_by_topic(self._resolved)
        offers = {publisher.qos_profile.reliability for publisher in publishers}
        if not offers:
            return
        reliable = offers == {ReliabilityPolicy.RELIABLE}
        wanted = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        if wanted == self._reliability:
            return
        self.close()
        self._reliability = wanted
        self._subscription = self._node.create_subscription(
            self._kind,
            self.topic,
            self._on_message,
            QoSProfile(depth=_QUEUE_DEPTH, reliability=wanted),
            callback_group=self._group,
        )

    def close(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._reliability = None

    def take_count(self) -> int:
        """Messages since the last call."""
        count, self._count = self._count, 0
        return count

    def absence(self) -> str:
        """Says that nothing comes, and whether anybody publishes."""
        publishers = self._node.count_publishers(self._resolved)
        plural = 's' if publishers > 1 else ''
        return f'no message on {self._resolved} ({publishers or "no"} publisher{plural})'

    def nearest_gap(self, other: Input) -> float:
        """Smallest difference between the last stamps of both topics, s."""
        return min(abs(a - b) for a in self._stamps for b in other._stamps)

    def _on_message(self, message: Any) -> None:
        self._count += 1
        self.on_message(message)
        stamp = message.header.stamp
        self._stamps.append(stamp.sec + stamp.nanosec * 1e-9)
        self.signalMessage(message)
