"""completion_rviz: RViz with the package's layout, for the topics and the frame in use.

Takes the same remappings as completion_node. The frame is that of the images; it waits for the
first CameraInfo to find it, and counts as a subscriber of completion_node until then.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rclpy
import rclpy.logging
import yaml
from ament_index_python.packages import get_package_share_directory
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from .entrypoint import run
from .inputs import compressed_topic
from .topic_input import TopicInput

NAME = 'completion_rviz'
_REMINDER_S = 10.0
_MATCH_PERIOD_S = 0.5
# completion_node subscribes to its inputs only while an output has a subscriber, and a player
# starts only once it has: listening to this output too keeps them from waiting for each other. It
# needs no completion.
_OUTPUT = 'rectified/camera_info'


def layout_for(
    template: Mapping[str, Any], topic_of: Callable[[str], str], frame: str
) -> dict[str, Any]:
    """The layout with topics in full, by their names in the template, and seen from a frame."""
    layout = copy.deepcopy(dict(template))
    manager = layout['Visualization Manager']
    manager['Global Options']['Fixed Frame'] = frame
    for display in manager['Displays']:
        if 'Topic' in display:
            display['Topic']['Value'] = topic_of(display['Topic']['Value'])
    return layout


class FrameFinder(Node):
    """Learns the frame of the images; empty until the first CameraInfo comes."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.frame = ''
        self._inputs = [
            TopicInput(self, topic, CameraInfo, self._take, with_history=True)
            for topic in ('camera_info', _OUTPUT)
        ]
        self.topic = self._inputs[0].name
        self._remind()
        # A simulated clock may stand still until there are subscribers.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_MATCH_PERIOD_S, self._match, clock=clock)
        self.create_timer(_REMINDER_S, self._remind, clock=clock)

    def close(self) -> None:
        """End the subscriptions."""
        for source in self._inputs:
            source.close()

    def topic_of(self, name: str) -> str:
        """Full name of a topic of completion_node; compressed images if there are no others."""
        topic = self.resolve_topic_name(name)
        compressed = compressed_topic(topic)
        if self.count_publishers(compressed) and not self.count_publishers(topic):
            return compressed
        return topic

    def _match(self) -> None:
        for source in self._inputs:
            source.match()

    def _take(self, info: CameraInfo) -> None:
        self.frame = info.header.frame_id

    def _remind(self) -> None:
        self.get_logger().info(f'RViz will start with the first message on {self.topic}')


def main(args: Sequence[str] | None = None) -> int:
    """Become RViz as soon as the frame is known; 1 where RViz is not installed."""
    command: list[str] = []

    def spin(node: FrameFinder) -> int:
        while not node.frame:
            rclpy.spin_once(node)
        path = Path(get_package_share_directory('dmd3c_ros')) / 'config' / 'completion.rviz'
        layout = layout_for(yaml.safe_load(path.read_text()), node.topic_of, node.frame)
        with tempfile.NamedTemporaryFile('w', prefix='dmd3c_', suffix='.rviz', delete=False) as f:
            yaml.safe_dump(layout, f, sort_keys=False)
        simulated = str(node.get_parameter('use_sim_time').value).lower()
        command.extend(['rviz2', '-d', f.name, '--ros-args', '-p', f'use_sim_time:={simulated}'])
        return 0

    status = run(NAME, FrameFinder, spin, args)
    if not command:
        return status
    for number in (signal.SIGINT, signal.SIGTERM):
        # Ignored at the end of a node, and RViz would inherit that.
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        rclpy.logging.get_logger(NAME).fatal(f'{command[0]} failed to start: {error}')
        return 1


if __name__ == '__main__':
    sys.exit(main())
