"""The message classes that conversions make: ROS 2's own, or stand-ins where it is missing.

So the same conversions serve the nodes and the commands that work on bags without ROS.
"""

from __future__ import annotations

try:
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
    from std_msgs.msg import Header
except ImportError:
    from .plain import CameraInfo, CompressedImage, Header, Image, PointCloud2, PointField, Time

__all__ = [
    'CameraInfo',
    'CompressedImage',
    'Header',
    'Image',
    'PointCloud2',
    'PointField',
    'Time',
]
