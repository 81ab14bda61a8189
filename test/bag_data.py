"""Small recordings for tests: a flat wall seen by a camera and a LiDAR."""

from pathlib import Path

import numpy as np
from rosbags.convert.converter import generate_message_converter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.selection import CLOUD, IMAGE, INFO
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import rgb_to_image
from dmd3c_ros.messages.stamps import stamp_ns_in
from dmd3c_ros.messages.tf import TF_TYPE
from dmd3c_ros.messages.types import Header, Time

WIDTH, HEIGHT = 40, 24
CAMERA = Camera.from_K(np.array([[30, 0, 20], [0, 30, 12], [0, 0, 1.0]]), WIDTH, HEIGHT)
# The LiDAR looks forward as the camera does: x forward, y left, z up.
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000


def header(stamp: int, frame: str) -> Header:
    return Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame)


def make_image(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (number, 100, 200), np.uint8)


def wall(distance: float) -> np.ndarray:
    """Points (N, 4) on a wall ahead, LiDAR frame."""
    y, z = np.meshgrid(np.linspace(-4, 4, 15), np.linspace(-2, 2, 9))
    return np.stack([np.full(y.size, distance), y.ravel(), z.ravel(), y.ravel() * 0], 1).astype(
        np.float32
    )


def extrinsics() -> dict:
    """TFMessage with the camera on the robot's base and the LiDAR on a mast."""
    half = 0.5  # the quaternion of T_CAMERA_LIDAR's inverse has entries of one half
    base_to_camera = {'rotation': {'x': -half, 'y': half, 'z': -half, 'w': half}}
    base_to_lidar = {'rotation': {'w': 1.0}}
    return {
        'transforms': [
            {
                'header': {'frame_id': 'base'},
                'child_frame_id': 'camera',
                'transform': base_to_camera,
            },
            {
                'header': {'frame_id': 'base'},
                'child_frame_id': 'lidar',
                'transform': base_to_lidar,
            },
        ]
    }


def messages(frames: int, lag_ns: int = 3_000_000, skip_clouds: frozenset[int] = frozenset()):
    """(time_ns, topic, type, message) of a recording; sweeps are stamped `lag_ns` later."""
    yield START_NS, '/tf_static', TF_TYPE, extrinsics()
    for number in range(frames):
        stamp = START_NS + number * PERIOD_NS
        head = header(stamp, 'camera')
        yield stamp + 1000, '/camera/image_rect', IMAGE, rgb_to_image(make_image(number), head)
        yield stamp + 2000, '/camera/camera_info', INFO, camera_to_info(CAMERA, head)
        if number not in skip_clouds:
            names = ('x', 'y', 'z', 'intensity')
            cloud = points_to_cloud(wall(5 + number), header(stamp + lag_ns, 'lidar'), names)
            yield stamp + lag_ns + 5000, '/lidar/points', CLOUD, cloud


def write_bag(path: Path, storage: str = 'mcap', frames: int = 3, **options) -> Path:
    with BagWriter(path, storage) as writer:
        writer.add_topic('/tf_static', TF_TYPE, latched=True)
        for time_ns, topic, kind, message in messages(frames, **options):
            writer.write(topic, kind, time_ns, message)
    return path


def write_packed_bag(path: Path, bag, storage: StoragePlugin, mode: CompressionMode) -> Path:
    """The recording of an open Bag, compressed by files or by messages."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic.key: writer.add_connection(topic.name, topic.type, typestore=bag.typestore)
            for topic in bag.topics
        }
        for record in bag.records():
            writer.write(connections[record.topic.key], record.time_ns, record.data)
    return path


def spoil_midst(path: Path) -> None:
    """Overwrite a part of a recording's file, lengths of its records included."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = b'\xff' * 20_000
    path.write_bytes(data)


def write_ros1_bag(path: Path, ros2_bag, frames: int = 3) -> Path:
    """The same recording as a ROS 1 bag; ros2_bag: an open Bag of it."""
    ros2, ros1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
    # Noetic's store lacks this one; a recorded bag brings its definition along.
    ros1.register({TF_TYPE: ros2.fielddefs[TF_TYPE]})
    with Ros1Writer(path) as writer:
        connections = {
            topic.key: writer.add_connection(topic.name, topic.type, typestore=ros1)
            for topic in ros2_bag.topics
        }
        for record in ros2_bag.records():
            data = ros1_bytes(ros2, ros1, record)
            writer.write(connections[record.topic.key], record.time_ns, data)
    return path


def ros1_bytes(ros2, ros1, record):
    kind = record.topic.type
    convert = generate_message_converter(ros2, ros1, kind, kind, {}, src_is2=True, dst_is2=False)
    return convert(bytes(record.data))


def contents(bag) -> dict[str, list]:
    """(time, stamp or None, bytes) of every message, by topic."""
    found = {topic.name: [] for topic in bag.topics}
    for record in bag.records():
        stamp = None if record.topic.type == TF_TYPE else stamp_ns_in(record.data)
        found[record.topic.name].append((record.time_ns, stamp, bytes(record.data)))
    return found


def decoded(path: Path, topic: str) -> list:
    """The messages of a topic of the bag at `path`."""
    with Bag(path) as bag:
        return [bag.decode(record) for record in bag.records([bag.topic(topic)])]
