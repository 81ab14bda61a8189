"""Undistorting and rectifying raw images, by the distortion models of sensor_msgs/CameraInfo."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera

# Numbers of coefficients that OpenCV takes for its polynomial model; the first is ROS's name for
# four or five of them, the second for more.
_POLYNOMIAL = {'plumb_bob': (4, 5), 'rational_polynomial': (4, 5, 8, 12, 14)}
_FISHEYE = {'equidistant': (4,), 'fisheye': (4,)}
DISTORTION_MODELS = _POLYNOMIAL | _FISHEYE
_LARGEST_SIDE = 32766  # cv2.remap holds coordinates in 16 bits


@dataclass(frozen=True, eq=False)
class Distortion:
    """Projection of a raw image: pixel ~ K distort(X / Z).

    model: 'plumb_bob', 'rational_polynomial', or 'equidistant' (also called 'fisheye').
    K: (3, 3) intrinsics of the raw image, pixels. D: coefficients in OpenCV's order.
    Raises ValueError for another model, another number of coefficients, or an empty K.
    """

    model: str
    K: np.ndarray
    D: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        K = np.asarray(self.K, np.float64).reshape(3, 3)
        object.__setattr__(self, 'K', K)
        object.__setattr__(self, 'D', tuple(map(float, self.D)))
        if not (np.isfinite([*K.flat, *self.D]).all() and K[0, 0] > 0 and K[1, 1] > 0):
            raise ValueError(
                'raw image: expected finite numbers and positive focal lengths in K, got '
                f'fx={K[0, 0]:g}, fy={K[1, 1]:g}, D={list(self.D)}'
            )
        if not self.distorted:
            return
        if self.model not in DISTORTION_MODELS:
            raise ValueError(
                f'distortion: expected one of the models {", ".join(DISTORTION_MODELS)}; '
                f'got {self.model!r}'
            )
        if len(self.D) not in DISTORTION_MODELS[self.model]:
            numbers = ' or '.join(map(str, DISTORTION_MODELS[self.model]))
            raise ValueError(
                f'distortion: expected {numbers} coefficients of {self.model}, got {len(self.D)}'
            )

    @property
    def distorted(self) -> bool:
        """Does the lens bend lines? A fisheye does, even with all coefficients 0."""
        return any(self.D) or self.model in _FISHEYE

    def maps(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Position of each pixel of the rectified image in the raw one, for cv2.remap."""
        size = camera.width, camera.height
        if max(size) > _LARGEST_SIDE:
            raise ValueError(f'raw image: expected sides up to {_LARGEST_SIDE}, got {size}')
        if self.model in _FISHEYE:
            make, D = cv2.fisheye.initUndistortRectifyMap, np.array(self.D)
        else:
            make, D = cv2.initUndistortRectifyMap, np.array(self.D) if any(self.D) else None
        # Fixed-point maps: 1/32 of a pixel, and remapping takes half the time.
        return make(self.K, D, camera.R, camera.K, size, cv2.CV_16SC2)


class Rectifier:
    """Rectifies raw images with maps that are computed once.

    camera: the rectified one; raw images have its size. visible: (H, W) bool, False where the
    rectified image lies outside the raw one; None if there is no such pixel.
    """

    def __init__(self, distortion: Distortion, camera: Camera) -> None:
        straight = np.allclose(distortion.K, camera.K) and np.allclose(camera.R, np.eye(3))
        self._maps = None
        self.visible: np.ndarray | None = None
        if straight and not distortion.distorted:
            return
        self._maps = distortion.maps(camera)
        raw = np.full((camera.height, camera.width), 255, np.uint8)
        visible = cv2.remap(raw, *self._maps, cv2.INTER_LINEAR) > 127
        self.visible = None if visible.all() else visible

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """The rectified image (H, W, 3) uint8; black where the raw one shows nothing."""
        if self._maps is None:
            return rgb
        return cv2.remap(rgb, *self._maps, cv2.INTER_LINEAR)
