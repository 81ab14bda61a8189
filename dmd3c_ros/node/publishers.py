"""The outputs: which of them have subscribers, and their publication."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy

from dmd3c_ros.messages.images import MAX_16UC1_M
from dmd3c_ros.pipeline.frame import Frame
from dmd3c_ros.pipeline.outputs import OUTPUTS
from dmd3c_ros.pipeline.settings import NodeSettings

from .qos import incompatibility, overriding


class Outputs:
    """Publishers of everything that the node computes; makes only what somebody subscribes to."""

    def __init__(self, node: LifecycleNode, warn: Callable[[str], None]) -> None:
        self._node, self._warn = node, warn
        self._qos = {
            topic: QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE) for topic in OUTPUTS
        }
        # The user's own overrides are written into the profiles.
        self._publishers = {
            topic: node.create_lifecycle_publisher(
                output.kind,
                topic,
                self._qos[topic],
                qos_overriding_options=overriding(node, topic, 'publisher'),
            )
            for topic, output in OUTPUTS.items()
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
        """A message about a subscriber that requests an incompatible QoS, or None."""
        for topic, publisher in self._publishers.items():
            for info in self._node.get_subscriptions_info_by_topic(publisher.topic_name):
                reason = incompatibility(self._qos[topic], info.qos_profile)
                if reason:
                    return (
                        f'{info.node_name} receives nothing on {topic}, its QoS is incompatible: '
                        f'{reason}'
                    )
        return None

    def publish(
        self, topics: frozenset[str], frame: Frame, settings: NodeSettings, *, dense: bool
    ) -> None:
        """Publish the topics that need a completion, or those that do not."""
        for topic, output in OUTPUTS.items():
            if topic not in topics or output.dense is not dense:
                continue
            if output.depth and settings.depth_encoding == '16UC1':
                self._warn_of_far(getattr(frame, output.depth).max())
            self._publishers[topic].publish(output.make(frame, settings))

    def _warn_of_far(self, farthest: float) -> None:
        if farthest > MAX_16UC1_M:
            self._warn(
                f'16UC1 holds depth up to {MAX_16UC1_M} m; larger depth is '
                'published as unknown (depth_encoding 32FC1 has no such limit)'
            )
