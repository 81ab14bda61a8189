"""A live benchmark from start to end: nodes in separate processes, the sensors in this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from dmd3c_ros.demo.config import DemoError
from dmd3c_ros.demo.graph import own_graph, ros_arguments, ros_context, terminable
from dmd3c_ros.demo.processes import Child
from dmd3c_ros.demo.spinning import SpinningNode
from dmd3c_ros.messages.stamps import stamp_ns_in

from .config import LiveCase, LiveConfig, LiveResult
from .sensors import T_CAMERA_LIDAR, Sensors

_DEPTH, _CLOUD = 'depth_registered/image_rect', 'depth_registered/points'
_RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_START_S, _LAST_S = 180.0, 5.0
_WARM_UP_FRAMES = 10
_POLL_S = 0.02
_BUSY = 'while True: pass'


def measure(
    config: LiveConfig,
    cases: Sequence[LiveCase],
    folder: Path,
    on_progress: Callable[[str], None] = lambda text: None,
) -> list[LiveResult]:
    """Run all cases, interleaved. folder: for the nodes' logs. Raises DemoError if one exits."""
    results = [LiveResult(case.label) for case in cases]
    with own_graph(), terminable(), ros_context() as context:
        for turn in range(config.turns):
            for number, (case, result) in enumerate(zip(cases, results, strict=True)):
                on_progress(f'turn {turn + 1} of {config.turns}: {case.label}')
                log = folder / f'{number}.{turn}.log'
                with _node(case, config, log) as child, _Bench(config, context, child) as bench:
                    bench.warm_up()
                    with _load(config.load):
                        bench.run(result)
    return results


def _node(case: LiveCase, config: LiveConfig, log: Path) -> Child:
    height, width = config.size
    parameters = {
        'T_camera_lidar': list(T_CAMERA_LIDAR),
        'warm_up_width': width,
        'warm_up_height': height,
        'report_period': 0.5,
        **case.parameters,
    }
    return Child('dmd3c_ros.completion_node', ros_arguments(parameters), log, case.tree)


@contextlib.contextmanager
def _load(count: int) -> Iterator[None]:
    """Run this many CPU-bound processes within the block."""
    processes = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen([sys.executable, '-c', _BUSY]))
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


class _Bench(SpinningNode):
    """Publishes sets on time and records when their answers arrive, in its own thread."""

    def __init__(self, config: LiveConfig, context: Context, child: Child) -> None:
        super().__init__('bench', context)
        self._config, self._child = config, child
        self._sensors = Sensors(self._node, config)
        self._received: dict[str, dict[int, int]] = {_DEPTH: {}, _CLOUD: {}}
        self._values: dict[str, str] = {}
        for topic, kind in ((_DEPTH, Image), (_CLOUD, PointCloud2)):
            self._node.create_subscription(kind, topic, self._noting(topic), _RELIABLE, raw=True)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, 10)

    def warm_up(self) -> None:
        """Wait for the node, and feed it until some sets have been answered."""
        self._wait(self._sensors.heard, _START_S)
        end = time.monotonic() + _START_S
        while len(self._received[_CLOUD]) < _WARM_UP_FRAMES:
            self._child.check()
            if time.monotonic() > end:
                raise DemoError(f'no answer within {_START_S:.0f} s:\n{self._child.log_tail()}')
            self._sensors.publish()
            time.sleep(1 / self._config.rate_hz)

    def run(self, result: LiveResult) -> None:
        """Publish the measured sets and add what came of them."""
        for received in self._received.values():
            received.clear()
        sent: dict[int, int] = {}
        busy, start = _busy_s(self._child.pid), time.monotonic()
        for number in range(self._config.frames):
            due = start + number / self._config.rate_hz
            time.sleep(max(0.0, due - time.monotonic()))
            # Before the set is handed over: a small one is answered before that returns.
            begun = time.time_ns()
            sent[self._sensors.publish()] = begun
        depth, cloud = self._received[_DEPTH], self._received[_CLOUD]
        self._wait(lambda: len(cloud) == len(sent), _LAST_S, needed=False)
        result.busy_ms.append((_busy_s(self._child.pid) - busy) / len(sent) * 1e3)
        result.sent += len(sent)
        answered = depth.keys() & cloud.keys()
        result.lost += [number for number, stamp in enumerate(sent) if stamp not in answered]
        for times, received in ((result.depth_ms, depth), (result.cloud_ms, cloud)):
            times += [(received[s] - sent[s]) / 1e6 for s in sent if s in received]
        self._add_status(result)

    def _add_status(self, result: LiveResult) -> None:
        """The node's next diagnostics."""
        self._values = {}
        self._wait(lambda: bool(self._values), _LAST_S, needed=False)
        values = dict(self._values)
        names = ('model', 'backend', 'precision', 'inference_scale')
        result.model = ' '.join(values[name] for name in names if name in values)
        result.steps.append(
            {key: float(value) for key, value in values.items() if key.endswith('_ms')}
        )

    def _wait(self, condition: Callable[[], bool], limit_s: float, needed: bool = True) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            self._child.check()
            if time.monotonic() > end:
                if needed:
                    raise DemoError(f'not ready in {limit_s:.0f} s:\n{self._child.log_tail()}')
                return
            time.sleep(_POLL_S)

    def _noting(self, topic: str) -> Callable[[bytes, dict], None]:
        received = self._received[topic]

        def note(body: bytes, info: dict) -> None:
            received[stamp_ns_in(body)] = info['received_timestamp'] or time.time_ns()

        return note

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(': completion'):
                self._values = {item.key: item.value for item in status.values}


def _busy_s(pid: int) -> float:
    """Processor time of a process on Linux, s."""
    # The name of the process, in brackets, may hold spaces.
    numbers = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf('SC_CLK_TCK')
