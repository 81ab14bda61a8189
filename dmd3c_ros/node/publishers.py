"""The outputs: which of them somebody wants, and their publication."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from dmd3c_ros.core.completer import Completion
from dmd3c_ros.messages.clouds import depth_to_cloud
from dmd3c_ros.messages.images import (
    MAX_16UC1_M,
    color_map,
    depth_to_image,
    float_to_image,
    rgb_to_image,
)
from dmd3c_ros.pipeline.rectification import RectifiedImage
from dmd3c_ros.pipeline.settings import NodeSettings

from .qos import incompatibility

TOPICS = {
    'depth_registered/image_rect': Image,
    'depth_registered/camera_info': CameraInfo,
    'depth_registered/points': PointCloud2,
    'depth_registered/color': Image,
    'confidence': Image,
    'sparse/image_rect': Image,
    'rectified/image_rect': Image,
    'rectified/camera_info': CameraInfo,
}
# These need no completion.
INPUT_TOPICS = frozenset({'sparse/image_rect', 'rectified/image_rect', 'rectified/camera_info'})
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Outputs:
    """Publishers of everything that the node computes; makes only what somebody subscribes to."""

    def __init__(self, node: LifecycleNode, warn: Callable[[str], None]) -> None:
        self._node, self._warn = node, warn
        self._publishers = {
            topic: node.create_lifecycle_publisher(message, topic, _QOS)
            for topic, message in TOPICS.items()
        }

    def close(self) -> None:
        """End the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def subscribed(self) -> frozenset[str]:
        """Topics with subscribers now."""
        return frozenset(
            topic
            for topic, publisher in self._publishers.items()
            if publisher.get_subscription_count() > 0
        )

    def refusal(self) -> str | None:
        """Names a subscriber that hears nothing because it asks for more than is offered."""
        for topic, publisher in self._publishers.items():
            for info in self._node.get_subscriptions_info_by_topic(publisher.topic_name):
                reason = incompatibility(_QOS, info.qos_profile)
                if reason:
                    return (
                        f'{info.node_name} hears nothing on {topic}, its QoS is incompatible: '
                        f'{reason}'
                    )
        return None

    def publish_inputs(
        self,
        subscribed: frozenset[str],
        rectified: RectifiedImage,
        sparse: np.ndarray,
        settings: NodeSettings,
    ) -> None:
        """Publish the image and the projected sweep, (H, W) float32, m."""
        header = rectified.info.header
        make: dict[str, Callable[[], object]] = {
            'sparse/image_rect': lambda: self._depth_image(sparse, header, settings),
            'rectified/image_rect': lambda: rgb_to_image(rectified.rgb, header),
            'rectified/camera_info': lambda: rectified.info,
        }
        self._publish(subscribed, make)

    def publish_dense(
        self,
        subscribed: frozenset[str],
        rectified: RectifiedImage,
        completion: Completion,
        settings: NodeSettings,
    ) -> None:
        """Publish a completion, under the image's header."""
        header, depth = rectified.info.header, completion.depth
        if settings.min_confidence > 0:
            sure = completion.confidence >= settings.min_confidence
            depth = np.where(sure, depth, np.float32(0))
        make: dict[str, Callable[[], object]] = {
            'depth_registered/image_rect': lambda: self._depth_image(depth, header, settings),
            'depth_registered/camera_info': lambda: rectified.info,
            'depth_registered/points': lambda: depth_to_cloud(
                depth, rectified.rgb, rectified.camera, header
            ),
            'depth_registered/color': lambda: rgb_to_image(
                color_map(depth, settings.color_near, settings.color_far), header
            ),
            'confidence': lambda: float_to_image(completion.confidence, header),
        }
        self._publish(subscribed, make)

    def _publish(
        self, subscribed: frozenset[str], make: Mapping[str, Callable[[], object]]
    ) -> None:
        for topic, build in make.items():
            if topic in subscribed:
                self._publishers[topic].publish(build())

    def _depth_image(self, depth: np.ndarray, header: Header, settings: NodeSettings) -> Image:
        if settings.depth_encoding == '16UC1' and depth.max() > MAX_16UC1_M:
            self._warn(
                f'16UC1 holds depth up to {MAX_16UC1_M} m; what is farther is '
                'published as unknown (depth_encoding 32FC1 has no such limit)'
            )
        return depth_to_image(depth, header, settings.depth_encoding)
