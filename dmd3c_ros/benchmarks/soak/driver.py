"""A soak test from start to end: the node in a separate process, the sensors in this one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from dmd3c_ros.demo.graph import own_graph, ros_arguments, ros_context, terminable
from dmd3c_ros.demo.processes import Child
from dmd3c_ros.messages.images import depth_from_image

from .config import Sample, SoakConfig, SoakReport
from .sensors import T_CAMERA_LIDAR, Sensors

_DEPTH, _CLOUD = 'depth_registered/image_rect', 'depth_registered/points'
_RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_SAMPLES = 100
_POLL_S = 0.02
_RESEND_S = 1.0
_START_S = 120.0


def soak(
    config: SoakConfig, folder: Path, advance: Callable[[int], None] = lambda count: None
) -> SoakReport:
    """Run the node through `config.frames` good frames and all faults between them.

    folder: for the node's log. advance: called with the number of frames done. Raises DemoError if
    the node exits; a frame without an answer is counted as such.
    """
    parameters = {
        'model': config.model,
        'T_camera_lidar': list(T_CAMERA_LIDAR),
        'report_period': 1.0,
        'warm_up_width': 64,
        'warm_up_height': 48,
    }
    log = folder / 'completion_node.log'
    child = Child('dmd3c_ros.completion_node', ros_arguments(parameters), log)
    with own_graph(), terminable(), ros_context() as context, child as node:
        driver = _Driver(config, context, node)
        try:
            return driver.run(advance)
        finally:
            driver.close()


class _Driver:
    def __init__(self, config: SoakConfig, context: Context, child: Child) -> None:
        self._config, self._child = config, child
        self._rng = np.random.default_rng(config.seed)
        self._context = context
        self._node = rclpy.create_node('soak', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._depths: dict[tuple[int, int], Image] = {}
        self._node.create_subscription(Image, _DEPTH, self._on_depth, _RELIABLE)
        self._sensors = Sensors(self._node, self._rng)
        self._slow: rclpy.node.Node | None = None
        self._faults: Counter[str] = Counter()

    def close(self) -> None:
        """Leave the graph."""
        self._end_slow()
        self._executor.shutdown()
        self._node.destroy_node()

    def run(self, advance: Callable[[int], None]) -> SoakReport:
        """All frames; raises DemoError where the node ends."""
        report, start = SoakReport(), time.monotonic()
        self._wait(self._ready, _START_S)
        every = max(1, self._config.frames // _SAMPLES)
        for number in range(1, self._config.frames + 1):
            self._fault()
            answered, resent = self._good_frame()
            report.frames = number
            report.answered += answered
            report.resent += resent
            if number % every == 0 or number == self._config.frames:
                self._child.check()
                report.samples.append(_sample(self._child.pid, number))
            advance(number)
        report.seconds = time.monotonic() - start
        report.faults = dict(self._faults)
        return report

    def _fault(self) -> None:
        faults = {
            'garbage': self._sensors.garbage,
            'stamps': self._sensors.absurd_stamps,
            'jump': self._sensors.jump,
            'burst': self._sensors.burst,
            'restart': self._restart,
            'slow': self._change_slow,
        }
        for name, act in faults.items():
            if self._rng.random() < getattr(self._config, name):
                self._faults[name] += 1
                act()

    def _good_frame(self) -> tuple[bool, int]:
        """Was the frame answered rightly, and how often was it sent again?"""
        self._depths.clear()
        stamp, distance_m = self._sensors.good_set()
        reliable = self._sensors.reliability == ReliabilityPolicy.RELIABLE
        resent, end = 0, time.monotonic() + self._config.patience_s
        while not self._wait(lambda: stamp in self._depths, _RESEND_S):
            if time.monotonic() > end:
                return False, resent
            if not reliable:
                self._sensors.again()
                resent += 1
        depth = depth_from_image(self._depths[stamp])
        return bool(np.allclose(depth, distance_m, rtol=1e-5)), resent

    def _restart(self) -> None:
        self._sensors.restart()
        self._wait(self._ready, self._config.patience_s)

    def _change_slow(self) -> None:
        """Add a subscriber that reads nothing, or remove the existing one."""
        if self._slow is not None:
            self._end_slow()
            return
        # A node that nobody spins.
        self._slow = rclpy.create_node('slow', context=self._context)
        for topic, kind in ((_DEPTH, Image), (_CLOUD, PointCloud2)):
            self._slow.create_subscription(kind, topic, lambda message: None, _RELIABLE)

    def _end_slow(self) -> None:
        if self._slow is not None:
            self._slow.destroy_node()
            self._slow = None

    def _ready(self) -> bool:
        self._child.check()
        return self._sensors.heard() and self._node.count_publishers(_DEPTH) == 1

    def _on_depth(self, image: Image) -> None:
        self._depths[image.header.stamp.sec, image.header.stamp.nanosec] = image

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while not (holds := condition()) and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=_POLL_S)
        return holds


def _sample(pid: int, frames: int) -> Sample:
    """Of a process on Linux."""
    process = Path(f'/proc/{pid}')
    pages = int((process / 'statm').read_text(encoding='ascii').split()[1])
    return Sample(
        frames,
        pages * os.sysconf('SC_PAGE_SIZE'),
        len(list((process / 'task').iterdir())),
        len(list((process / 'fd').iterdir())),
    )
