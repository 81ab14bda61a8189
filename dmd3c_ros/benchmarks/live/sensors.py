"""A camera and a LiDAR on a street between walls, as serialized messages: little work to send."""

from __future__ import annotations

import struct

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import rgb_to_image

from .config import LiveConfig

# A LiDAR (x forward, z up) at the place of the camera (z forward, y down).
T_CAMERA_LIDAR = (0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5)
_START_NS, _NS = 1_700_000_000_000_000_000, 1_000_000_000
# Of a sensor on a roof: field of view of an HDL-64E, degrees, and its height, m.
_ELEVATIONS, _HEIGHT_M = (-24.8, 2.0), 1.73
_WALLS_M, _FARTHEST_M = 8.0, 80.0
_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
# Of a serialized message whose first field is a header: behind the encapsulation, sec and nanosec.
_STAMP_AT = 4


class Sensors:
    """Publishes the same set again and again, under new stamps."""

    def __init__(self, node: Node, config: LiveConfig) -> None:
        height, width = config.size
        focal = 0.6 * width
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        lens = Header(frame_id='lens')
        messages = {
            'camera_info': camera_to_info(Camera.from_K(K, width, height), lens),
            'image_rect': rgb_to_image(_image(height, width), lens),
            'points': points_to_cloud(
                street(config.lines, config.columns),
                Header(frame_id='lidar'),
                ('x', 'y', 'z', 'intensity'),
            ),
        }
        kinds = {'camera_info': CameraInfo, 'image_rect': Image, 'points': PointCloud2}
        self._node, self._count = node, 0
        self._bodies = {t: bytearray(serialize_message(m)) for t, m in messages.items()}
        self._publishers = {t: node.create_publisher(kind, t, _QOS) for t, kind in kinds.items()}
        self._step_ns = round(_NS / config.rate_hz)

    def publish(self) -> int:
        """Publish a set; its stamp, ns."""
        self._count += 1
        stamp_ns = _START_NS + self._count * self._step_ns
        for topic, body in self._bodies.items():
            struct.pack_into('<iI', body, _STAMP_AT, *divmod(stamp_ns, _NS))
            self._publishers[topic].publish(bytes(body))
        return stamp_ns

    def heard(self) -> bool:
        """Has the node subscribed to all of them?"""
        return all(p.get_subscription_count() for p in self._publishers.values())


def street(lines: int, columns: int) -> np.ndarray:
    """Sweep (N, 4) float32, x, y, z in m and intensity, of flat ground between two walls."""
    elevation = np.radians(np.linspace(*_ELEVATIONS, lines))[:, None]
    azimuth = np.radians(np.linspace(0, 360, columns, endpoint=False))
    directions = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation) + 0 * azimuth,
        ],
        -1,
    ).reshape(-1, 3)
    with np.errstate(divide='ignore'):
        to_ground = np.where(directions[:, 2] < 0, -_HEIGHT_M / directions[:, 2], np.inf)
        to_wall = _WALLS_M / np.abs(directions[:, 1])
    distance = np.minimum(to_ground, to_wall)
    hit = distance < _FARTHEST_M
    points = directions[hit] * distance[hit, None]
    return np.c_[points, np.full(len(points), 0.5)].astype(np.float32)


def _image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.linspace(200, 40, height)[:, None, None]
    noise = rng.normal(0, 12, (height, width, 3))
    return (rows + noise).clip(0, 255).astype(np.uint8)
