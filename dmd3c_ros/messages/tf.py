"""What /tf and /tf_static carry, as bytes: from the middleware or from a bag."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from dmd3c_ros.core.transform_buffer import TransformBuffer

from .cdr import encode, ros2_types
from .stamps import time_ns

_log = logging.getLogger(__name__)

TF_TYPE = 'tf2_msgs/msg/TFMessage'


def decode_transforms(data: bytes) -> list[Any]:
    """geometry_msgs/TransformStamped messages in the CDR bytes of a TFMessage."""
    return ros2_types().deserialize_cdr(data, TF_TYPE).transforms


def encode_transforms(transforms: Sequence[Any]) -> bytes:
    """CDR bytes of a TFMessage with these geometry_msgs/TransformStamped messages."""
    return bytes(encode(TF_TYPE, {'transforms': transforms}))


def add_transforms(buffer: TransformBuffer, transforms: Iterable[Any], *, fixed: bool) -> None:
    """Put geometry_msgs/TransformStamped messages into a buffer; bad ones are logged and left."""
    for message in transforms:
        header, pose = message.header, message.transform
        t, q = pose.translation, pose.rotation
        try:
            buffer.add(
                header.frame_id,
                message.child_frame_id,
                time_ns(header.stamp),
                (t.x, t.y, t.z),
                (q.x, q.y, q.z, q.w),
                fixed=fixed,
            )
        except ValueError as error:
            _log.warning('%s skipped: %s', '/tf_static' if fixed else '/tf', error)
