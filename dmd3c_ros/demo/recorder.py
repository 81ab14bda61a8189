"""Recording a run: every message with the times at which it was sent and received.

Messages stay serialized until the run is over, so that on a machine with few cores the recorder
takes no time away from the node it records.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from dmd3c_ros.messages.stamps import stamp_ns_in

from .spinning import SpinningNode


class Topic(NamedTuple):
    """The recording of one topic."""

    name: str
    type: type
    reliable: bool
    keep: int | None = None
    """Bodies to hold, the newest ones; None for all. Times are held of all."""


INPUTS = {
    'image': Topic('image_rect', Image, reliable=False),
    'camera_info': Topic('camera_info', CameraInfo, reliable=False),
    'points': Topic('points', PointCloud2, reliable=False),
    'truth': Topic('ground_truth/image_rect', Image, reliable=False),
}
OUTPUTS = {
    'depth': Topic('depth_registered/image_rect', Image, reliable=True),
    # A dense cloud takes 7 MB a frame or more, and one of them is shown.
    'cloud': Topic('depth_registered/points', PointCloud2, reliable=True, keep=2),
    'confidence': Topic('confidence', Image, reliable=True),
}


class Times(NamedTuple):
    """When a message was handed to DDS and when the recorder's reader got it, in ns."""

    sent: int
    received: int


@dataclass
class Recording:
    """Messages of each topic by the stamp (ns) in their header."""

    times: dict[str, dict[int, Times]] = field(default_factory=dict)
    bodies: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def message(self, topic: str, stamp: int) -> Image | CameraInfo | PointCloud2:
        """The recorded message; KeyError if there is none."""
        return deserialize_message(self.bodies[topic][stamp], {**INPUTS, **OUTPUTS}[topic].type)

    def stamps(self, topic: str) -> list[int]:
        """Stamps of every message that came, in order."""
        return sorted(self.times[topic])


class Recorder(SpinningNode):
    """Node that records in its own thread; a context manager.

    `recording` is complete once the block has ended; `hardware` is the hardware_id from
    the diagnostics of the node under test, 'MODEL on DEVICE', empty until it has arrived.
    """

    def __init__(self, context: Context) -> None:
        super().__init__('recorder', context)
        self.recording, self.hardware = Recording(), ''
        self.last_arrival_s = time.monotonic()
        self._subscriptions = [
            self._subscribe(key, topic) for key, topic in {**INPUTS, **OUTPUTS}.items()
        ]
        self._diagnostics = self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, 10
        )

    def count(self, topic: str) -> int:
        """Messages so far."""
        return len(self.recording.times[topic])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(': completion'):
                self.hardware = status.hardware_id

    def _subscribe(self, key: str, topic: Topic):
        times = self.recording.times.setdefault(key, {})
        bodies = self.recording.bodies.setdefault(key, {})
        order: deque[int] = deque()

        def record(body: bytes, info: dict) -> None:
            stamp = stamp_ns_in(body)
            # Middlewares that do not report when a message arrived leave 0.
            received = info['received_timestamp'] or time.time_ns()
            times[stamp] = Times(info['source_timestamp'] or received, received)
            bodies[stamp] = body
            order.append(stamp)
            if topic.keep is not None and len(order) > topic.keep:
                bodies.pop(order.popleft(), None)
            self.last_arrival_s = time.monotonic()

        reliability = (
            ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT
        )
        qos = QoSProfile(depth=20, reliability=reliability)
        return self._node.create_subscription(topic.type, topic.name, record, qos, raw=True)
