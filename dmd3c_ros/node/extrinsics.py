"""Where the LiDAR sits in the camera's frame: from a parameter, or from TF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from ..conversions import MessageError
from .transforms import matrix_from_numbers


class Extrinsics:
    """Gives T_camera_lidar (4, 4), from the numbers of the parameter, else from TF.

    Raises ValueError where TF is needed (`numbers` empty) and tf2_ros is not installed.
    """

    def __init__(self, node: Node, numbers: Sequence[float]) -> None:
        self._numbers: Sequence[float] = ()
        self._matrix: np.ndarray | None = None
        self._tf = None if numbers else TfLookup(node)

    def find(self, numbers: Sequence[float], camera_frame: str, lidar_frame: str) -> np.ndarray:
        """The transform now; MessageError while TF does not know it."""
        if not numbers:
            if self._tf is None:
                raise MessageError(
                    'extrinsics: T_camera_lidar was emptied while the node ran; configure it '
                    'anew to look them up in TF'
                )
            return self._tf.find(camera_frame, lidar_frame)
        if numbers != self._numbers or self._matrix is None:
            self._numbers, self._matrix = numbers, matrix_from_numbers(numbers)
        return self._matrix

    def close(self) -> None:
        """Stop listening to TF."""
        if self._tf is not None:
            self._tf.close()


class TfLookup:
    """Looks transforms up in TF; raises ValueError where tf2_ros is not installed.

    The newest transform counts, not the one of the image's time: the sensors are fixed to each
    other.
    """

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise ValueError(
                'extrinsics: expected T_camera_lidar, or tf2_ros to look them up; set the '
                f'parameter, or install tf2_ros ({error})'
            ) from error

        self._error = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def find(self, target: str, source: str) -> np.ndarray:
        """T_target_source (4, 4)."""
        try:
            transform = self._buffer.lookup_transform(target, source, Time()).transform
        except self._error as error:
            raise MessageError(
                f'extrinsics: TF has no transform from {source!r} to {target!r}: {error}'
            ) from error
        t, q = transform.translation, transform.rotation
        return matrix_from_numbers((t.x, t.y, t.z, q.x, q.y, q.z, q.w))

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
