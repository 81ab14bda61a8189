"""A probe on a real ROS graph, and nodes in processes of their own, for tests."""

from __future__ import annotations

import array
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import rgb_to_image

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, FOCAL = 64, 48, 50.0
WALL_M, OFFSET_M = 10.0, 0.25
# A LiDAR (x forward, z up) looking with the camera (z forward, y down) from 0.25 m ahead of it.
T_CAMERA_LIDAR = f'[0.0, 0.0, {OFFSET_M}, 0.5, -0.5, 0.5, 0.5]'
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
INPUTS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
# The machine that runs the tests may be busy with others.
PATIENCE_S = 60.0
# Of a participant that others did not hear when it came: by default it speaks again after 3 s.
_ANNOUNCED_AGAIN = """<builtin><discovery_config><leaseAnnouncement>
  <sec>0</sec><nanosec>200000000</nanosec>
</leaseAnnouncement></discovery_config></builtin>
"""


def profile(folder: Path) -> Path:
    """The package's Fast DDS profile, with which processes find each other sooner."""
    head, end, tail = (ROOT / 'config/fastdds.xml').read_text().partition('</rtps>')
    path = folder / 'fastdds.xml'
    path.write_text(head + _ANNOUNCED_AGAIN + end + tail)
    return path


def isolate(folder: Path, cache: Path) -> None:
    """Give this process and its children a graph of their own, with the package's profile.

    cache: of networks that nodes convert.
    """
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOG_DIR'] = str(folder)
    os.environ['XDG_CACHE_HOME'] = str(cache)
    # Humble checks the types of message fields; later distributions do on demand.
    os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        os.environ[name] = str(profile(folder))


class NodeProcess:
    """`python -m module --ros-args ...`, with what it logs."""

    def __init__(
        self, module: str, folder: Path, *ros_args: str, own_session: bool = False
    ) -> None:
        self._path = folder / f'{module}.{time.monotonic_ns()}.log'
        with self._path.open('w') as out:
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, '--ros-args', *ros_args],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=own_session,
            )

    @property
    def log(self) -> str:
        """All that was logged so far."""
        return self._path.read_text()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until the process ends."""
        return self._process.poll() is None

    def finish(self, timeout: float = PATIENCE_S) -> int:
        """Exit status, once the process ends by itself."""
        return self._process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Exit status after a signal."""
        if self.running:
            self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


def parameters(**values: object) -> tuple[str, ...]:
    """Arguments of a node that set its parameters."""
    return tuple(word for name, value in values.items() for word in ('-p', f'{name}:={value}'))


@contextmanager
def lasting(process: NodeProcess) -> Iterator[NodeProcess]:
    """A node that several tests share: none of them may stop it, and at last it ends well."""
    yield process
    assert process.running, process.log
    assert process.stop() == 0, process.log
    assert 'Traceback' not in process.log


class Probe:
    """Publishes a camera's and a LiDAR's messages, and collects what comes of them by stamp."""

    # A node may still work on what the probe of the test before has sent.
    _stamps_s = itertools.count(1010, 10)

    def __init__(
        self, publishing: bool = True, inputs: Mapping[str, tuple[str, type]] | None = None
    ) -> None:
        """inputs: topic and type of those that differ from the node's own."""
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node('probe', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        given = {name: (name, kind) for name, kind in INPUTS.items()} | dict(inputs or {})
        self.publishers = {
            name: self.node.create_publisher(message, topic, RELIABLE)
            for name, (topic, message) in (given.items() if publishing else ())
        }
        self._subscriptions = {}
        self.received: dict[str, list] = {}

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, topic: str, message: type, qos: QoSProfile = RELIABLE) -> list:
        """Collect a topic from now on; the list grows while the probe waits."""
        if topic not in self._subscriptions:
            self.received[topic] = []
            self._subscriptions[topic] = self.node.create_subscription(
                message, topic, lambda m: self.received[topic].append(m), qos
            )
        return self.received[topic]

    def ignore(self, topic: str) -> None:
        """Stop collecting a topic."""
        self.node.destroy_subscription(self._subscriptions.pop(topic))

    def wait(self, condition: Callable[[], object], timeout: float = PATIENCE_S) -> bool:
        """Let messages come until the condition holds; False where it never does."""
        end = time.monotonic() + timeout
        while not (found := condition()) and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)
        return bool(found)

    def spin(self, seconds: float) -> None:
        """Let messages come for a while."""
        self.wait(lambda: False, seconds)

    def heard(self) -> bool:
        """Is everything that is published or collected matched by the other side?"""
        return all(p.get_subscription_count() for p in self.publishers.values()) and all(
            self.node.count_publishers(topic) for topic in self._subscriptions
        )

    def call(self, kind: type, name: str, request):
        """Response of a service.

        Asked again after a while: a client may see its service before the service sees the
        client's reader, and Fast DDS drops an answer without a reader after 100 ms.
        """
        client = self.node.create_client(kind, name)
        assert self.wait(client.service_is_ready), f'{name} is not there'
        for _ in range(3):
            future = client.call_async(request)
            if self.wait(future.done, PATIENCE_S / 3):
                break
        assert future.done(), f'{name} does not answer'
        self.node.destroy_client(client)
        return future.result()

    def publish(
        self,
        image: Image | None = None,
        info: CameraInfo | None = None,
        cloud: PointCloud2 | None = None,
        cloud_delay_s: int = 0,
    ) -> tuple[int, int]:
        """Publish one set with a fresh stamp, by default a good one; returns the stamp."""
        stamp_s = next(self._stamps_s)
        messages = {
            'camera_info': info or camera_info(),
            'image_rect': image or make_image(),
            'points': cloud or wall(),
        }
        for topic, message in messages.items():
            message.header.stamp.sec = stamp_s + (topic == 'points') * cloud_delay_s
            message.header.stamp.nanosec = 123456789
            self.publishers[topic].publish(message)
        return stamp_s, 123456789

    def complete(self, topics: dict[str, type], **messages) -> dict[str, object]:
        """Publish sets until one comes back on each of the topics; what came, by topic."""
        boxes = {topic: self.listen(topic, message) for topic, message in topics.items()}
        assert self.wait(self.heard), 'the node is not there'
        for _ in range(10):
            stamp = self.publish(**messages)
            if self.wait(lambda s=stamp: all(_with_stamp(b, s) for b in boxes.values()), 3.0):
                return {topic: _with_stamp(box, stamp) for topic, box in boxes.items()}
        raise AssertionError(f'nothing on {[t for t, b in boxes.items() if not b]}')


def _with_stamp(messages: list, stamp: tuple[int, int]):
    found = [m for m in messages if (m.header.stamp.sec, m.header.stamp.nanosec) == stamp]
    return found[0] if found else None


def camera(width: int = WIDTH, height: int = HEIGHT) -> Camera:
    """A pinhole camera that looks at the wall."""
    K = np.array([[FOCAL, 0, (width - 1) / 2], [0, FOCAL, (height - 1) / 2], [0, 0, 1]])
    return Camera.from_K(K, width, height)


def make_image(width: int = WIDTH, height: int = HEIGHT) -> Image:
    """An image of one colour."""
    rgb = np.full((height, width, 3), (10, 20, 250), np.uint8)
    return rgb_to_image(rgb, Header(frame_id='lens'))


def camera_info(width: int = WIDTH, height: int = HEIGHT) -> CameraInfo:
    """CameraInfo of `camera`."""
    return camera_to_info(camera(width, height), Header(frame_id='lens'))


def wall_points() -> np.ndarray:
    """A wall across the LiDAR's view, 10 m ahead, (N, 3)."""
    y, z = np.meshgrid(np.linspace(-8, 8, 60), np.linspace(-6, 6, 50))
    return np.stack([np.full_like(y, WALL_M), y, z], axis=-1).reshape(-1, 3).astype(np.float32)


def wall() -> PointCloud2:
    """`wall_points` as a message."""
    return points_to_cloud(wall_points(), Header(frame_id='lidar'))


def cloud_as(points: np.ndarray, dtype, shape: tuple[int, int] | None = None) -> PointCloud2:
    """A cloud of any structured dtype with x, y and z."""
    from sensor_msgs.msg import PointField

    records = np.zeros(len(points), dtype)
    for axis, name in enumerate('xyz'):
        records[name] = points[:, axis]
    codes = {'f4': 7, 'f8': 8, 'u2': 4}
    height, width = shape or (1, len(points))
    cloud = PointCloud2(header=Header(frame_id='lidar'), height=height, width=width)
    cloud.fields = [
        PointField(name=name, offset=offset, datatype=codes[kind.str[1:]], count=1)
        for name, (kind, offset) in records.dtype.fields.items()
    ]
    cloud.is_bigendian = records.dtype['x'].byteorder == '>'
    cloud.point_step = records.dtype.itemsize
    cloud.row_step = cloud.point_step * width
    cloud.data = array.array('B', records.tobytes())
    return cloud
