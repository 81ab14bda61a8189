"""From an image message and its CameraInfo to the rectified image that is completed.

Nodes and bags share it.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, NamedTuple

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion
from dmd3c_ros.core.distortion import Rectifier
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info, distortion_from_info
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.types import Header

_log = logging.getLogger(__name__)
# Two camera frames closer to each other than this are considered the same.
_SAME_PLACE_M, _SAME_DIRECTION_RAD = 1e-3, 1e-3


class RectifiedImage(NamedTuple):
    """A rectified image.

    rgb: (H, W, 3) uint8. info: CameraInfo of the rectified image, under the image's header.
    visible: (H, W) bool, False where rectifying left the image empty; None: nowhere.
    """

    rgb: np.ndarray
    camera: Camera
    info: Any
    visible: np.ndarray | None = None

    def masked(self, completion: Completion) -> Completion:
        """The completion, unknown where the camera sees nothing."""
        if self.visible is None:
            return completion
        nothing = np.float32(0)
        return Completion(*(np.where(self.visible, values, nothing) for values in completion))


class ImageRectifier:
    """Finds the camera of each image, and rectifies the image if requested.

    rectify: images are raw, with the distortion that CameraInfo describes. topic: the image
    topic, for a warning if its name contradicts that.
    """

    def __init__(self, rectify: bool, topic: str) -> None:
        self._rectify, self._topic = rectify, topic
        self._warned = False
        self._calibration: bytes = b''
        self._camera: Camera | None = None
        self._rectifier: Rectifier | None = None

    def read(self, rgb: np.ndarray, info: Any, header: Header) -> RectifiedImage:
        """The image (H, W, 3) uint8 under its header, with the camera described by its CameraInfo.

        Raises MessageError for an uncalibrated camera, or one of another size.
        """
        camera = self._camera_of(info)
        if rgb.shape[:2] != (camera.height, camera.width):
            raise MessageError(
                f'camera_info: expected the size of the image, {rgb.shape[1]}x{rgb.shape[0]}, '
                f'got {camera.width}x{camera.height}'
            )
        if self._rectifier is None:
            info = copy.copy(info)
            info.header = header
            return RectifiedImage(rgb, camera, info)
        visible = self._rectifier.visible
        return RectifiedImage(
            self._rectifier(rgb), camera, camera_to_info(camera, header), visible
        )

    def _camera_of(self, info: Any) -> Camera:
        """The camera; it and the maps are only recomputed when the calibration changes."""
        calibration = _key(info)
        if self._camera is None or calibration != self._calibration:
            camera, rectifier = camera_from_info(info, rectify=self._rectify), None
            if self._rectify:
                rectifier = _rectifier(info, camera)
            self._warn(info)
            if self._camera is None:
                _warn_of_two_frames(camera)
            self._calibration, self._camera, self._rectifier = calibration, camera, rectifier
        return self._camera

    def _warn(self, info: Any) -> None:
        rectified = 'rect' in self._topic
        if self._warned or rectified is not self._rectify or not any(info.d):
            return
        self._warned = True
        if self._rectify:
            _log.warning(
                'rectify is set, but the name of %s suggests that it is already rectified; '
                'if so, turn rectify off',
                self._topic,
            )
        else:
            _log.warning(
                '%s is assumed to be rectified, but its camera has distortion; if the images are '
                'raw, points will be misplaced: set rectify (--rectify on the command line)',
                self._topic,
            )


def _rectifier(info: Any, camera: Camera) -> Rectifier:
    try:
        return Rectifier(distortion_from_info(info), camera)
    except ValueError as error:
        raise MessageError(f'camera_info: {error}') from error


def _warn_of_two_frames(camera: Camera) -> None:
    """Warn if the optical frame of the extrinsics and the rectified frame of depth differ."""
    T = camera.T_rectified
    metres = np.linalg.norm(T[:3, 3])
    radians = np.arccos(np.clip((np.trace(T[:3, :3]) - 1) / 2, -1, 1))
    if metres > _SAME_PLACE_M or radians > _SAME_DIRECTION_RAD:
        _log.warning(
            "by R and P's fourth column in camera_info, the rectified camera lies %.3f m and %.2f "
            'degrees from the target frame of the extrinsics; depth and clouds are in the frame '
            'of the rectified camera, as their consumers expect',
            metres,
            np.degrees(radians),
        )


def _key(info: Any) -> bytes:
    """All of a CameraInfo but its header."""
    roi = info.roi
    numbers = (info.width, info.height, info.binning_x, info.binning_y)
    window = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    matrices = (*info.d, *info.k, *info.r, *info.p)
    return np.array([*numbers, *window, *matrices]).tobytes() + info.distortion_model.encode()
