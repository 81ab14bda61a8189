"""Stand-ins for the message classes of ROS 2, for use without ROS 2.

Fields and defaults are those of builtin_interfaces, std_msgs and sensor_msgs; nothing is checked.
The classes of rosbags are not suitable: they have no defaults, and NumPy arrays for sequences.
"""

from __future__ import annotations

import array
from dataclasses import dataclass, field
from typing import ClassVar


def _bytes() -> array.array:
    return array.array('B')


@dataclass
class Time:
    """builtin_interfaces/msg/Time."""

    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    """std_msgs/msg/Header."""

    stamp: Time = field(default_factory=Time)
    frame_id: str = ''


@dataclass
class Image:
    """sensor_msgs/msg/Image."""

    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ''
    is_bigendian: int = 0
    step: int = 0
    data: array.array = field(default_factory=_bytes)


@dataclass
class CompressedImage:
    """sensor_msgs/msg/CompressedImage."""

    header: Header = field(default_factory=Header)
    format: str = ''
    data: array.array = field(default_factory=_bytes)


@dataclass
class RegionOfInterest:
    """sensor_msgs/msg/RegionOfInterest."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass
class CameraInfo:
    """sensor_msgs/msg/CameraInfo."""

    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    distortion_model: str = ''
    d: list[float] = field(default_factory=list)
    k: list[float] = field(default_factory=lambda: [0.0] * 9)
    r: list[float] = field(default_factory=lambda: [0.0] * 9)
    p: list[float] = field(default_factory=lambda: [0.0] * 12)
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = field(default_factory=RegionOfInterest)


@dataclass
class PointField:
    """sensor_msgs/msg/PointField."""

    INT8: ClassVar[int] = 1
    UINT8: ClassVar[int] = 2
    INT16: ClassVar[int] = 3
    UINT16: ClassVar[int] = 4
    INT32: ClassVar[int] = 5
    UINT32: ClassVar[int] = 6
    FLOAT32: ClassVar[int] = 7
    FLOAT64: ClassVar[int] = 8

    name: str = ''
    offset: int = 0
    datatype: int = 0
    count: int = 0


@dataclass
class PointCloud2:
    """sensor_msgs/msg/PointCloud2."""

    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    fields: list[PointField] = field(default_factory=list)
    is_bigendian: bool = False
    point_step: int = 0
    row_step: int = 0
    data: array.array = field(default_factory=_bytes)
    is_dense: bool = False
