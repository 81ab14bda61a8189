"""What a network is shown of the camera image: no more than tells depth in any light."""

from __future__ import annotations

import math

import cv2
import numpy as np

# Standard deviations of a blur, pixels: for each pixel of distance; limits.
_BLUR_SLOPE, _WEAKEST_BLUR, _STRONGEST_BLUR = 1.5, 0.25, 4.0
# Of brightness, as fractions of its range: a camera's noise, which is not to be amplified, and
# what one standard deviation becomes.
_NOISE, _GAIN = 0.04, 0.2


def shown_image(
    image: np.ndarray, distance: float, below: float, windows: tuple[float, ...]
) -> np.ndarray:
    """An image (H, W, 3) RGB, uint8 or float32 in 0..1, as a network is shown it; same type.

    distance: the ``resizing.mean_distance`` of its measurements, px. below, windows: the
    ``blurred_below`` and ``contrast`` of the network's convention.
    """
    if not windows:
        return without_details(image, distance, below)
    brightness = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    in_bytes = brightness.dtype == np.uint8
    if in_bytes:
        # Contrasts are enlarged, and what is lost by rounding with them.
        brightness = brightness * np.float32(1 / 255)
    brightness = without_details(brightness, distance, below)
    return local_contrast(brightness, windows, in_bytes=in_bytes)


def without_details(image: np.ndarray, distance: float, below: float) -> np.ndarray:
    """An image (H, W) or (H, W, 3), uint8 or float32, blurred where its measurements are dense.

    Windows, reflections and the edges of materials and shadows are as sharp as those of surfaces;
    measurements that are dense tell these better. distance: the ``resizing.mean_distance`` of the
    measurements, px; below: the one from which on nothing is blurred. For each pixel that they
    are nearer the standard deviation is 1.5 pixels, up to 4.
    """
    sigma = min(_BLUR_SLOPE * (below - distance), _STRONGEST_BLUR)
    if sigma < _WEAKEST_BLUR:
        return image
    height, width = image.shape[:2]
    return cv2.resize(_surroundings(image, sigma, reach=2), (width, height))


def local_contrast(
    brightness: np.ndarray, windows: tuple[float, ...], *, in_bytes: bool = False
) -> np.ndarray:
    """Brightness relative to its surroundings: their mean is taken off, their spread becomes one.

    Exposure, shadow and a material's colour say nothing of depth, and differ most between the
    images a network is trained on and those it meets; edges do not.

    brightness: (H, W) float32 in 0..1. windows: standard deviations, px, of the Gaussian that
    weights the surroundings, one for each channel of the result, (H, W, 3) float32 in 0..1: 1/2
    for the mean, 0.2 more for each standard deviation. in_bytes: uint8 in 0..255 instead.
    """
    channels = {sigma: _relative(brightness, sigma) for sigma in set(windows)}
    if in_bytes:
        channels = {sigma: cv2.convertScaleAbs(x, alpha=255) for sigma, x in channels.items()}
    return cv2.merge([channels[sigma] for sigma in windows])


def _relative(brightness: np.ndarray, sigma: float) -> np.ndarray:
    """Brightness relative to one window, (H, W) float32 in 0..1 as `brightness` is."""
    height, width = brightness.shape
    mean = _surroundings(brightness, sigma)
    variance = np.maximum(_surroundings(brightness * brightness, sigma) - mean * mean, 0)
    gain = _GAIN / np.sqrt(variance + _NOISE**2)
    offset = 0.5 - mean * gain
    result, offset = (cv2.resize(x, (width, height)) for x in (gain, offset))
    result *= brightness
    result += offset
    return np.clip(result, 0, 1, out=result)


def _surroundings(image: np.ndarray, sigma: float, reach: float = 4.0) -> np.ndarray:
    """Means of an image (H, W) or (H, W, C) under a Gaussian, on a smaller image if it is wide.

    That is as good, and much quicker. reach: of the Gaussian, standard deviations.
    """
    step = 2 ** max(0, math.floor(math.log2(sigma / 2)))
    size = [max(1, round(side / step)) for side in image.shape[1::-1]]
    side = 2 * math.ceil(reach * sigma / step) + 1
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (side, side), sigma / step)
