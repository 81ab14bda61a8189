"""completion_rviz: RViz with the package's layout, for the topics and the frame in use.

Takes the same remappings as completion_node. The frame is that of the images; it waits for the
first CameraInfo to find it.
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
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from .entrypoint import run
from .inputs import compressed_topic

NAME = 'completion_rviz'
_REMINDER_S = 10.0
# Compatible with CameraInfo published with every image, or once and latched.
_QOS = (
    QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
    QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
)


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
        self.topic = self.resolve_topic_name('camera_info')
        for qos in _QOS:
            self.create_subscription(CameraInfo, 'camera_info', self._take, qos)
        self._remind()
        self.create_timer(_REMINDER_S, self._remind)

    def close(self) -> None:
        """Nothing is held beside the node."""

    def topic_of(self, name: str) -> str:
        """Full name of a topic of completion_node; compressed images if there are no others."""
        topic = self.resolve_topic_name(name)
        compressed = compressed_topic(topic)
        if self.count_publishers(compressed) and not self.count_publishers(topic):
            return compressed
        return topic

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
