"""/tf and /tf_static into a buffer of transforms."""

from __future__ import annotations

import copy
import logging
import struct
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.serde import SerdeError

from dmd3c_ros.core.transform_buffer import TransformBuffer
from dmd3c_ros.messages.tf import add_transforms, decode_transforms

from .qos import overriding

_log = logging.getLogger(__name__)
# Those of tf2_ros's listener.
_DEPTH = 100
_QOS = {
    '/tf': QoSProfile(depth=_DEPTH),
    '/tf_static': QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}


class TfListener:
    """Fills the buffer that bags use too from TF; through tf2_ros if it is installed.

    topics: those that it subscribes to itself, whose QoS can be overridden. Raises ValueError
    if not even the message package is installed.
    """

    def __init__(self, node: Node) -> None:
        self.buffer = TransformBuffer()
        try:
            from tf2_ros import TransformListener
        except ImportError:
            self.topics = tuple(_QOS)
            self._subscriptions = _Subscriptions(node, self.buffer)
            self._end: Callable[[], None] = self._subscriptions.close
        else:
            self.topics = ()
            self._end = TransformListener(_Sink(self.buffer), node).unregister
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._jumps = node.get_clock().create_jump_callback(
            threshold, post_callback=lambda _: self.buffer.clear()
        )

    def close(self) -> None:
        """Stop listening."""
        self._jumps.unregister()
        self._end()


class _Sink:
    """Looks like tf2_ros's own buffer to its listener."""

    def __init__(self, buffer: TransformBuffer) -> None:
        self._buffer = buffer

    def set_transform(self, transform: Any, authority: str) -> None:
        add_transforms(self._buffer, [transform], fixed=False)

    def set_transform_static(self, transform: Any, authority: str) -> None:
        add_transforms(self._buffer, [transform], fixed=True)


class _Subscriptions:
    """Listens to TF without tf2_ros.

    Messages are received as bytes and decoded here: rclpy would create a dozen objects for every
    transform and check every number.
    """

    def __init__(self, node: Node, buffer: TransformBuffer) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise ValueError(
                'extrinsics: expected T_camera_lidar without fixed_frame, or tf2_msgs to read TF; '
                f'set the parameter, or install tf2_msgs ({error})'
            ) from error
        self._node, self._buffer = node, buffer
        # A separate group: that of the node's services is blocked while they change the model.
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = [
            node.create_subscription(
                TFMessage,
                topic,
                lambda data, fixed=topic == '/tf_static': self._take(data, fixed=fixed),
                copy.copy(qos),
                callback_group=group,
                raw=True,
                qos_overriding_options=overriding(node, topic, 'subscription'),
            )
            for topic, qos in _QOS.items()
        ]

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take(self, data: bytes, *, fixed: bool) -> None:
        try:
            transforms = decode_transforms(data)
        except (SerdeError, struct.error, ValueError, IndexError) as error:
            _log.warning('cannot parse a TF message: %s', error)
            return
        add_transforms(self._buffer, transforms, fixed=fixed)
