"""Resizing and recolouring of images, for everything that samples are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from dmd3c_ros.core.appearance import shown_image
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.core.projection import drop_enclosed_points
from dmd3c_ros.core.resizing import mean_distance

Image = TypeVar('Image', np.ndarray, Tensor)
"""float32 in 0..1: an array (h, w, 3) or a tensor (3, h, w)."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


def resized(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) at a size (width, height): areas averaged, or cubic where it grows."""
    shrinks = size[0] < rgb.shape[1]
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resized_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) at a size (width, height), of the nearest pixel.

    The mean of two depths across an edge is that of neither; and INTER_NEAREST alone would leave
    depth offset by up to half a pixel from image and camera.
    """
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)


def network_inputs(
    rgb: np.ndarray, sparse: np.ndarray, convention: Convention
) -> tuple[Tensor, Tensor]:
    """What a network is given, by its convention, as the completer gives it: tensors.

    rgb: (H, W, 3) float32 in 0..1; returned (3, H, W), as ``appearance.shown_image`` shows it,
    normalized. sparse: (H, W) float32, m, 0 = unknown; returned (1, H, W), perhaps without points
    that a nearer surface encloses.
    """
    distance = math.inf
    if sparse.any() and (convention.blurred_below or convention.drops_enclosed):
        distance = mean_distance(sparse)
        if convention.drops_enclosed:
            sparse = drop_enclosed_points(sparse, distance)
    rgb = shown_image(rgb, distance, convention.blurred_below, convention.contrast)
    image = ((rgb - np.float32(convention.mean)) / np.float32(convention.std)).transpose(2, 0, 1)
    return tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in (image, sparse[None]))


@dataclass(frozen=True)
class ToneSpread:
    """How widely the tones of images vary: standard deviations of logarithms at strength 1.

    gamma: of the exponent. exposure, balance: of the gain of all channels, and of each.
    saturation: of the distance to the pixel's mean. grey: probability of no colour at all.
    contrast: of the distance to the image's mean.
    """

    gamma: float = 0.25
    exposure: float = 0.0
    balance: float = 0.15
    saturation: float = 0.3
    grey: float = 0.0
    contrast: float = 0.2


def toned(image: Image, spread: ToneSpread, strength: float, rng: np.random.Generator) -> Image:
    """An image under another exposure, contrast and white balance; not clipped."""
    image = image ** _factor(rng, spread.gamma * strength)
    exposure = rng.normal(0, spread.exposure * strength) if spread.exposure else 0.0
    gains = np.exp(exposure + rng.normal(0, spread.balance * strength, 3)).astype(np.float32)
    is_tensor = isinstance(image, Tensor)
    image = image * (torch.from_numpy(gains).view(3, 1, 1) if is_tensor else gains)
    colourless = spread.grey and rng.random() < spread.grey
    saturation = 0.0 if colourless else _factor(rng, spread.saturation * strength)
    image = _stretched(image, image.mean(axis=0 if is_tensor else 2, keepdims=True), saturation)
    return _stretched(image, image.mean(), _factor(rng, spread.contrast * strength))


def jittered(
    rgb: np.ndarray,
    brightness: float,
    contrast: float,
    saturation: float,
    pca: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """An image (H, W, 3) uint8 under the colour jitter of BP-Net.

    Brightness, contrast and saturation are multiplied by a factor within 1 -+ each; pca: spread of
    AlexNet's noise along the principal colours.
    """
    spreads = (brightness, contrast, saturation)
    if not any((*spreads, pca)):
        return rgb
    brightness, contrast, saturation = (1 + spread * rng.uniform(-1, 1) for spread in spreads)
    image = rgb.astype(np.float32) / 255
    if pca:
        image = image + _colour_noise(image, pca, rng)
    image = image * np.float32(brightness)
    image = _stretched(image, (image @ _LUMA).mean(), contrast)
    image = _stretched(image, (image @ _LUMA)[..., None], saturation)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def _factor(rng: np.random.Generator, spread: float) -> float:
    """A factor around 1 with this standard deviation of its logarithm."""
    return float(np.exp(rng.normal(0, spread)))


def _stretched(image: Image, base: Image, factor: float) -> Image:
    """An image with its distance to base multiplied."""
    return base + (image - base) * factor


def _colour_noise(image: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Shift of all pixels along their principal colours (Krizhevsky et al., NeurIPS 2012, 4.1)."""
    variances, axes = np.linalg.eigh(np.cov(image.reshape(-1, 3).T))
    amounts = rng.normal(0, spread, 3) * np.sqrt(variances.clip(min=0))
    return (axes @ amounts).astype(np.float32)
