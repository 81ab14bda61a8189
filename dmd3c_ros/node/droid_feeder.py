"""droid_feeder: passes RGB-D frames to DROID-SLAM, from live topics or from a bag."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import rclpy
from message_filters import SimpleFilter
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.rgbd import DEPTH_TOPIC, RecordedFrames
from dmd3c_ros.core.ranges import check_ranges, ranged
from dmd3c_ros.core.selection import PRESETS, DepthSelection, check_preset
from dmd3c_ros.io.tum import write_trajectory
from dmd3c_ros.messages.cameras import camera_from_info
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.messages.stamps import stamp_ns_of
from dmd3c_ros.pipeline.settings import NodeSettings
from dmd3c_ros.slam.droid import DroidFeeder, DroidSettings, RgbdFrame
from dmd3c_ros.slam.droid_checkout import DroidCheckout

from .diagnostics import Throttle
from .entrypoint import run
from .logs import show_package_log
from .parameters import Parameters
from .synchronizer import Synchronizer
from .topic_input import TopicInput
from .worker import NewestWins

TOPICS = {
    'image_rect': Image,
    'depth_registered/image_rect': Image,
    'depth_registered/camera_info': CameraInfo,
}
_MATCH_PERIOD_S = 0.5
_POLL_S = 0.1
# Each may have to wait for a network that takes a second.
_QUEUE = 30
# Out of memory; more keyframes than its buffer has room for; too few of them for a trajectory.
_DROID_ERRORS = (RuntimeError, IndexError, ValueError)
_FINISH_NEEDS = 'it needs 2 keyframes, and room in its buffer for 16 frames more than keyframes'


@dataclass(frozen=True)
class FeederSettings:
    """Where `droid_feeder` gets its frames from, and what it writes.

    bag: recording with depth images; empty for live topics.
    depth_topic: depth topic in the bag.
    frames: number of frames after which the node exits; 0 for no limit.
    sync_slop: maximum difference between the stamps of image and depth, s; completion_node gives
        both the same stamp.
    preset: which depth is passed on: 'all', or 'slam' to remove depth that makes SLAM drift. From
        a bag, that is depth of low confidence, if confidence was recorded, and depth at edges;
        from live topics only depth at edges, so set the same parameter of completion_node too.
    trajectory: file for the poses of all frames in TUM format, written when the node exits; empty
        for none. The node then keeps every image in memory (0.6 MB each).
    """

    bag: str = ''
    depth_topic: str = DEPTH_TOPIC
    frames: int = ranged(0, 0, 2**31 - 1)
    sync_slop: float = ranged(0.01, 0.0, 10.0)
    preset: str = 'slam'
    trajectory: str = ''

    def __post_init__(self) -> None:
        check_ranges(self)
        check_preset(self.preset)


PARAMETER_GROUPS = (('', DroidCheckout), ('', FeederSettings), ('', DroidSettings))


class DroidFeederNode(Node):
    """Hands the newest pair of image and depth to DROID-SLAM, in a thread of its own.

    `done` is True once the requested frames are tracked, `failed` when DROID-SLAM gave
    up. Raises ParameterError, FileNotFoundError and ImportError for what it cannot start with.
    """

    def __init__(self) -> None:
        super().__init__('droid_feeder')
        show_package_log(self.get_logger())
        parameters = Parameters(
            self,
            PARAMETER_GROUPS,
            lambda names, values: (
                f'{", ".join(sorted(names))}: the feeder reads them when it starts'
            ),
        )
        self.settings = parameters.get(FeederSettings)
        checkout = parameters.get(DroidCheckout)
        checkout.weights()
        self._feeder = DroidFeeder(
            partial(checkout.make, checkout.load()),
            parameters.get(DroidSettings),
            keep=bool(self.settings.trajectory),
        )
        self._warn = Throttle(lambda text: self.get_logger().warning(text))
        self.failed, self.dropped = False, 0
        self._worker: NewestWins | None = None
        if not self.settings.bag:
            self._subscribe()

    @property
    def done(self) -> bool:
        """True when nothing more is to come."""
        limit = self.settings.frames
        return self.failed or 0 < limit <= len(self._feeder.stamps_ns)

    def feed_bag(self) -> None:
        """Track the frames of the bag; BagError where it has no depth."""
        with Bag(self.settings.bag) as bag:
            chosen = NodeSettings(preset=self.settings.preset)
            source = RecordedFrames(bag, self.settings.depth_topic, settings=chosen)
            for frame in source:
                if self.done or not rclpy.ok():
                    break
                self._add(frame)
            self.get_logger().info(source.report.to_text())

    def close(self) -> None:
        """Stop tracking; where a trajectory is wanted, have DROID-SLAM finish it and write it."""
        if self._worker is not None:
            self._worker.stop()
            for source in self._inputs:
                source.close()
        count = len(self._feeder.stamps_ns)
        if not self.failed and count and self.settings.trajectory:
            self._finish()
        self.get_logger().info(f'{count} frames tracked, {self.dropped} dropped')

    def _finish(self) -> None:
        stamps_ns, path = self._feeder.stamps_ns, self.settings.trajectory
        try:
            poses = self._feeder.finish()
        except _DROID_ERRORS as error:
            frames = f'{len(stamps_ns)} frames'
            self._fail(f'could not finish the trajectory of {frames} ({_FINISH_NEEDS})', error)
            return
        write_trajectory(Path(path), stamps_ns, poses)
        self.get_logger().info(f'{len(stamps_ns)} poses in {path}')

    # ---------------------------------------------------------------- live topics

    def _subscribe(self) -> None:
        self._worker = NewestWins(self._take, 'droid')
        outputs = [SimpleFilter() for _ in TOPICS]
        self._inputs = [
            TopicInput(self, topic, kind, output.signalMessage)
            for (topic, kind), output in zip(TOPICS.items(), outputs, strict=True)
        ]
        self._synchronizer = Synchronizer(outputs, _QUEUE, self.settings.sync_slop)
        self._synchronizer.registerCallback(self._put)
        self.create_timer(
            _MATCH_PERIOD_S, self._match, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._match()

    def _match(self) -> None:
        if self._worker.failed:
            raise RuntimeError('the tracking thread has stopped; its error is logged above')
        for source in self._inputs:
            source.match()

    def _put(self, *messages) -> None:
        self.dropped += self._worker.put(messages)

    def _take(self, messages: tuple[Image, Image, CameraInfo]) -> None:
        if self.done:
            return
        try:
            self._add(_frame_of(*messages, PRESETS[self.settings.preset]))
        except MessageError as error:
            self.dropped += 1
            self._warn(str(error))

    def _add(self, frame: RgbdFrame) -> None:
        try:
            self._feeder.add(frame)
        except ValueError as error:
            self.dropped += 1
            self._warn(str(error))
        except _DROID_ERRORS as error:
            self._fail('failed', error)

    def _fail(self, what: str, error: Exception) -> None:
        self.failed = True
        self.get_logger().fatal(f'DROID-SLAM {what}: {type(error).__name__}: {error}')


def _frame_of(
    image: Image, depth: Image, info: CameraInfo, selection: DepthSelection
) -> RgbdFrame:
    return RgbdFrame(
        stamp_ns_of(image),
        image_to_rgb(image),
        selection.select(depth_from_image(depth)),
        camera_from_info(info),
    )


def _spin(node: DroidFeederNode) -> int:
    if node.settings.bag:
        try:
            node.feed_bag()
        except (OSError, ValueError) as error:
            node.get_logger().fatal(str(error))
            return 1
    else:
        while not node.done:
            rclpy.spin_once(node, timeout_sec=_POLL_S)
    return int(node.failed)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until its bag ends, or it is interrupted; 1 where it cannot go on."""
    nodes: list[DroidFeederNode] = []

    def make() -> DroidFeederNode:
        nodes.append(DroidFeederNode())
        return nodes[0]

    # Closing may mean minutes of bundle adjustment, which the user has asked for.
    status = run('droid_feeder', make, _spin, args, closing_s=None)
    return status or int(any(node.failed for node in nodes))


if __name__ == '__main__':
    sys.exit(main())
