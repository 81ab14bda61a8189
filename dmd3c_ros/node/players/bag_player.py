"""bag_player: publishes a recording over ROS, for use without `ros2 bag play`."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability, QosReliability

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.records import BagError, Record, Topic
from dmd3c_ros.bags.selection import InputTopics, find_inputs
from dmd3c_ros.bags.transforms import read_transforms
from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.messages.stamps import stamp_ns_of
from dmd3c_ros.messages.tf import TF_TYPE
from dmd3c_ros.messages.transforms import numbers_from_matrix
from dmd3c_ros.node.qos import overriding

from .playback import CLOCK, Playback, play

_QUEUE_DEPTH = 10
# Kept for late subscribers: each node of a robot may have published a part of /tf_static.
_LATCHED_DEPTH = 100


@dataclass(frozen=True)
class BagSettings:
    """How `bag_player` publishes a recording.

    bag: ROS 2 bag (folder, .mcap or .db3) or ROS 1 bag (.bag).
    rate: playback speed; 2.0 plays a recording in half the time.
    loop: start again at the end, with the same stamps.
    publish_clock: publish the recording time on /clock, for nodes with use_sim_time.
    wait_for_subscribers: subscribers that the camera and LiDAR topics must have before the first
        message; 0 starts immediately.
    """

    bag: str = ''
    rate: float = ranged(1.0, 0.01, 100.0)
    loop: bool = False
    publish_clock: bool = False
    wait_for_subscribers: int = ranged(1, 0, 100)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.bag:
            raise ValueError('bag: expected a recording, got none')


PARAMETER_GROUPS = (('', BagSettings),)


class BagPlayer(Playback):
    """Publishes the messages of a bag, byte for byte, from its own thread.

    Stamps are not changed. Topics whose type is not installed are skipped with a warning.
    Raises FileNotFoundError or BagError if the file is not a bag.
    """

    def __init__(self) -> None:
        super().__init__('bag_player', PARAMETER_GROUPS, BagSettings)
        self._bag = Bag(self._settings.bag)
        self._topics = [topic for topic in self._bag.topics if topic.count]
        self._outputs = {}
        for topic in self._topics:
            self._offer(topic)
        self._begin()

    def close(self) -> None:
        """End playback."""
        super().close()
        self._bag.close()

    def _offer(self, topic: Topic) -> None:
        package, _, name = topic.type.partition('/msg/')
        if topic.name == CLOCK and self._settings.publish_clock:
            return
        try:
            kind = getattr(importlib.import_module(f'{package}.msg'), name)
        except (ImportError, AttributeError):
            self.get_logger().warning(f'{topic.name} is skipped: {topic.type} is not installed')
            return
        self._outputs[topic.key] = self.create_publisher(
            kind,
            topic.name,
            _offered_qos(topic),
            qos_overriding_options=overriding(self, topic.name, 'publisher'),
        )

    # ---------------------------------------------------------------- playback

    def _play(self) -> None:
        inputs = self._inputs()
        named = [self._outputs[topic.key] for topic in inputs or () if topic is not None]
        if not self._wait_for_subscribers(named):
            return
        self.get_logger().info(
            f'playing {self._bag.count} messages of {len(self._outputs)} topics at rate '
            f'{self._settings.rate:g}'
        )
        laps = 0
        while (not laps or self._settings.loop) and self._play_once():
            laps += 1

    def _play_once(self) -> bool:
        """From the first message to the last; False when playback ends before."""
        known_damage = self._bag.damage
        first_ns, start, count, late_s = None, time.monotonic(), 0, 0.0
        for record in self._bag.records(self._topics):
            if first_ns is None:
                first_ns = record.time_ns
            due = start + (record.time_ns - first_ns) * 1e-9 / self._settings.rate
            if not self._sleep_until(due, record.time_ns):
                return False
            late_s = max(late_s, time.monotonic() - due)
            count += self._publish(record)
        if self._bag.damage != known_damage:
            self.get_logger().warning(f'{self._bag.path}: {self._bag.damage}')
        self.get_logger().info(f'played {count} messages, up to {late_s * 1e3:.0f} ms late')
        return self._linger()

    def _publish(self, record: Record) -> bool:
        output = self._outputs.get(record.topic.key)
        if output is not None:
            output.publish(bytes(record.data))
        return output is not None

    def _inputs(self) -> InputTopics | None:
        """The camera's and the LiDAR's topics, if they are unambiguous."""
        try:
            inputs = find_inputs(self._bag)
        except BagError as error:
            self.get_logger().info(f'not waiting for subscribers: {error}')
            return None
        if not any(kind == TF_TYPE for _, kind in self._outputs):
            self._log_extrinsics(inputs)
        return inputs

    def _log_extrinsics(self, inputs: InputTopics) -> None:
        """Without tf2_msgs, /tf_static is not published: the parameter that stands in for it."""
        try:
            image, cloud = (self._bag.first(topic) for topic in (inputs.image, inputs.points))
            frames = image.header.frame_id, cloud.header.frame_id
            T_camera_lidar = read_transforms(self._bag).lookup(*frames, stamp_ns_of(image))
        except (BagError, TransformError):
            return
        numbers = ', '.join(f'{value:.9g}' for value in numbers_from_matrix(T_camera_lidar))
        self.get_logger().info(f'T_camera_lidar: [{numbers}]')


def _offered_qos(topic: Topic) -> QoSProfile:
    """As it was recorded; reliable where the bag does not say."""
    recorded = topic.qos
    best_effort = recorded and all(q.reliability == QosReliability.BEST_EFFORT for q in recorded)
    latched = any(q.durability == QosDurability.TRANSIENT_LOCAL for q in recorded)
    return QoSProfile(
        depth=_LATCHED_DEPTH if latched else _QUEUE_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main(args: Sequence[str] | None = None) -> int:
    """Play the recording to its end."""
    return play('bag_player', BagPlayer, args)


if __name__ == '__main__':
    sys.exit(main())
