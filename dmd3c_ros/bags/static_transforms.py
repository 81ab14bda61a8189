"""The fixed mountings of a recorded robot: the tree of /tf_static."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.transforms import rotation_from_quaternion, transform
from .records import BagError

TF_TYPE = 'tf2_msgs/msg/TFMessage'


class StaticTransforms:
    """Transforms between frames that are fixed to each other; the last one told counts."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, np.ndarray]] = {}

    def add(self, transforms: Iterable[Any]) -> None:
        """Take over geometry_msgs/TransformStamped messages."""
        for message in transforms:
            parent = _name(message.header.frame_id)
            child = _name(message.child_frame_id)
            t, q = message.transform.translation, message.transform.rotation
            try:
                R = rotation_from_quaternion((q.x, q.y, q.z, q.w))
            except ValueError as error:
                raise BagError(f'/tf_static: {parent} to {child}: {error}') from error
            T_parent_child = transform(R, (t.x, t.y, t.z))
            self._edges.setdefault(parent, {})[child] = T_parent_child
            self._edges.setdefault(child, {})[parent] = np.linalg.inv(T_parent_child)

    def find(self, target: str, source: str) -> np.ndarray:
        """T_target_source (4, 4), m; BagError where no path leads from one to the other."""
        target, source = _name(target), _name(source)
        if target == source:
            return np.eye(4)
        found, waiting = {target: np.eye(4)}, deque([target])
        while waiting:
            frame = waiting.popleft()
            for neighbour, T_frame_neighbour in self._edges.get(frame, {}).items():
                if neighbour in found:
                    continue
                found[neighbour] = found[frame] @ T_frame_neighbour
                if neighbour == source:
                    return found[neighbour]
                waiting.append(neighbour)
        frames = ', '.join(sorted(self._edges)) or 'none'
        raise BagError(
            f'extrinsics: /tf_static has no transform from {source!r} to {target!r} '
            f'(its frames: {frames}); give them in a file'
        )


def _name(frame: str) -> str:
    """Frame names of ROS 1 may start with a slash."""
    return frame.lstrip('/')
