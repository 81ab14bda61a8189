"""CameraInfo messages <-> cameras; what cannot be used raises `MessageError`."""

from __future__ import annotations

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.distortion import Distortion

from .errors import MessageError
from .types import CameraInfo, Header


def camera_from_info(info: CameraInfo, *, rectify: bool = False) -> Camera:
    """Camera of the rectified image that CameraInfo describes, binning and ROI included.

    A driver of a distortion-free camera may leave P empty: K stands in for it then; with
    `rectify`, where the image is raw still, for any camera. Raises MessageError for an
    uncalibrated one.
    """
    P, R = np.array(info.p, np.float64), np.array(info.r, np.float64)
    if not P.any() and info.k[0] > 0 and (rectify or not any(info.d)):
        P, R = np.hstack([np.reshape(info.k, (3, 3)), np.zeros((3, 1))]), np.eye(3)
    try:
        return _windowed(Camera.from_matrices(P, info.width, info.height, R), info)
    except ValueError as error:
        raise MessageError(f'camera_info: {error}') from error


def distortion_from_info(info: CameraInfo) -> Distortion:
    """How CameraInfo says that the raw image comes about, binning and ROI included.

    Raises MessageError for a distortion model or coefficients that nobody knows.
    """
    try:
        raw = _windowed(Camera.from_K(np.reshape(info.k, (3, 3)), info.width, info.height), info)
        return Distortion(info.distortion_model, raw.K, tuple(info.d))
    except ValueError as error:
        raise MessageError(f'camera_info: {error}') from error


def _windowed(camera: Camera, info: CameraInfo) -> Camera:
    """The part of the camera that CameraInfo's region of interest and binning leave."""
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.crop(roi.x_offset, roi.y_offset, roi.width, roi.height)
    if info.binning_x > 1 or info.binning_y > 1:
        columns, rows = max(info.binning_x, 1), max(info.binning_y, 1)
        camera = camera.scaled(camera.width // columns, camera.height // rows)
    return camera


def camera_to_info(
    camera: Camera, header: Header, distortion: Distortion | None = None
) -> CameraInfo:
    """CameraInfo of a rectified image, or, with its distortion, of the raw one."""
    info = CameraInfo(header=header, height=camera.height, width=camera.width)
    info.distortion_model, info.d, K = 'plumb_bob', [0.0] * 5, camera.K
    if distortion is not None:
        info.distortion_model, info.d, K = distortion.model, list(distortion.D), distortion.K
    info.k, info.r = K.ravel().tolist(), camera.R.ravel().tolist()
    info.p = camera.P.ravel().tolist()
    return info
