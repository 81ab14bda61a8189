"""The message classes used by conversions: those of ROS 2, or stand-ins without ROS 2.

So nodes and bag commands without ROS can use the same conversions.
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
