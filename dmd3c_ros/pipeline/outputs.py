"""Available outputs of a frame: the topics of the node and of completed bags."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dmd3c_ros.core.obstacles import obstacle_points
from dmd3c_ros.messages.clouds import depth_to_cloud, points_to_cloud
from dmd3c_ros.messages.compressed import depth_to_compressed, rgb_to_compressed
from dmd3c_ros.messages.images import (
    color_map,
    depth_to_image,
    float_to_image,
    overlay,
    rgb_to_image,
)
from dmd3c_ros.messages.types import CameraInfo, CompressedImage, Image, PointCloud2

from .settings import NodeSettings

if TYPE_CHECKING:  # nodes that only need the names start without PyTorch
    from .frame import Frame


class Output(NamedTuple):
    """A message that is made of a frame.

    kind: its class, of sensor_msgs. make: the message, under the image's header. dense: whether
    the frame must be completed. depth: the field of the frame that a depth image shows.
    """

    kind: type
    make: Callable[[Frame, NodeSettings], Any]
    dense: bool = True
    depth: str = ''

    @property
    def type(self) -> str:
        """Name of the message's type."""
        return f'sensor_msgs/msg/{self.kind.__name__}'


def _depth_image(field: str) -> Callable[[Frame, NodeSettings], Any]:
    return lambda frame, settings: depth_to_image(
        getattr(frame, field), frame.image.info.header, settings.depth_encoding
    )


def _info(frame: Frame, settings: NodeSettings) -> Any:
    return frame.image.info


def _points(frame: Frame, settings: NodeSettings) -> Any:
    image = frame.image
    return depth_to_cloud(
        frame.depth, image.rgb, image.camera, image.info.header, settings.points_stride
    )


def _obstacles(frame: Frame, settings: NodeSettings) -> Any:
    image = frame.image
    points = obstacle_points(frame.depth, image.camera, settings.obstacles)
    return points_to_cloud(points, image.info.header)


def _compressed_depth(frame: Frame, settings: NodeSettings) -> Any:
    return depth_to_compressed(frame.depth, frame.image.info.header, settings.depth_encoding)


def _colors(frame: Frame, settings: NodeSettings) -> np.ndarray:
    return color_map(frame.depth, settings.color_near, settings.color_far)


def _color(frame: Frame, settings: NodeSettings) -> Any:
    return rgb_to_image(_colors(frame, settings), frame.image.info.header)


def _compressed_color(frame: Frame, settings: NodeSettings) -> Any:
    return rgb_to_compressed(_colors(frame, settings), frame.image.info.header)


def _confidence(frame: Frame, settings: NodeSettings) -> Any:
    return float_to_image(frame.completion.confidence, frame.image.info.header)


def _overlay(frame: Frame, settings: NodeSettings) -> Any:
    drawn = overlay(frame.image.rgb, frame.sparse, settings.color_near, settings.color_far)
    return rgb_to_image(drawn, frame.image.info.header)


def _rectified(frame: Frame, settings: NodeSettings) -> Any:
    return rgb_to_image(frame.image.rgb, frame.image.info.header)


def _compressed_rectified(frame: Frame, settings: NodeSettings) -> Any:
    return rgb_to_compressed(frame.image.rgb, frame.image.info.header)


OUTPUTS = {
    'depth_registered/image_rect': Output(Image, _depth_image('depth'), depth='depth'),
    'depth_registered/image_rect/compressedDepth': Output(
        CompressedImage, _compressed_depth, depth='depth'
    ),
    'depth_registered/camera_info': Output(CameraInfo, _info),
    'depth_registered/points': Output(PointCloud2, _points),
    'depth_registered/color': Output(Image, _color),
    'depth_registered/color/compressed': Output(CompressedImage, _compressed_color),
    'obstacles': Output(PointCloud2, _obstacles),
    'confidence': Output(Image, _confidence),
    'sparse/image_rect': Output(Image, _depth_image('sparse'), dense=False, depth='sparse'),
    'sparse/overlay': Output(Image, _overlay, dense=False),
    'rectified/image_rect': Output(Image, _rectified, dense=False),
    'rectified/image_rect/compressed': Output(CompressedImage, _compressed_rectified, dense=False),
    'rectified/camera_info': Output(CameraInfo, _info, dense=False),
}
"""Outputs by the names of the node's topics."""
# These need no completion.
MEASURED = frozenset(name for name, output in OUTPUTS.items() if not output.dense)
