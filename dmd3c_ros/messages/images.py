"""Images of depth, colour and confidence <-> arrays; what cannot be used raises `MessageError`."""

from __future__ import annotations

import sys

import cv2
import numpy as np

from .decoding import rows_of
from .errors import MessageError
from .storage import message_data
from .types import Header, Image

DEPTH_ENCODINGS = ('32FC1', '16UC1')
MAX_16UC1_M = 65.535
_BIG_ENDIAN = sys.byteorder == 'big'


def rgb_to_image(rgb: np.ndarray, header: Header) -> Image:
    """rgb8 message of (H, W, 3) uint8."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f'rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
    return _image(rgb, header, 'rgb8')


def float_to_image(values: np.ndarray, header: Header) -> Image:
    """32FC1 message of (H, W) values as they are, for the confidence."""
    return _image(values.astype(np.float32, copy=False), header, '32FC1')


def depth_to_image(depth: np.ndarray, header: Header, encoding: str = '32FC1') -> Image:
    """Depth image of REP 118: 32FC1 in m with NaN, or 16UC1 in mm with 0, for unknown.

    depth: (H, W) float32, m, 0 = unknown. In 16UC1 everything beyond 65.535 m is unknown.
    """
    if encoding == '32FC1':
        image = _image(depth, header, encoding)
        view = np.frombuffer(image.data, np.float32)
        view[~(view > 0)] = np.nan
        return image
    if encoding == '16UC1':
        return _image(millimetres(depth), header, encoding)
    raise ValueError(f'depth encoding: expected {" or ".join(DEPTH_ENCODINGS)}, got {encoding!r}')


def millimetres(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) in m as uint16 mm; 0 for unknown and beyond 65.535 m."""
    values = np.rint(depth * np.float32(1000))
    # A comparison with NaN is false, so it becomes 0 too.
    values[~((values > 0) & (values <= 65535))] = 0
    return values.astype(np.uint16)


def depth_from_image(image: Image) -> np.ndarray:
    """Depth (H, W) float32, m, 0 = unknown, of a 32FC1 (m) or 16UC1 (mm) message."""
    if image.encoding not in DEPTH_ENCODINGS:
        raise MessageError(
            f'depth: expected encoding {" or ".join(DEPTH_ENCODINGS)}, got {image.encoding!r}'
        )
    dtype = np.dtype('f4' if image.encoding == '32FC1' else 'u2')
    rows = rows_of(image, dtype.itemsize)
    dtype = dtype.newbyteorder('>' if image.is_bigendian else '<')
    depth = np.ascontiguousarray(rows).view(dtype).astype(np.float32)
    if image.encoding == '16UC1':
        return depth / np.float32(1000)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def color_map(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth as (H, W, 3) uint8 RGB for a person: red near, blue far, black unknown.

    depth: (H, W), m, 0 = unknown. Colours follow the logarithm of the depth between near and far,
    m, so that a metre counts for more up close.
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        fraction = np.log(depth / np.float32(far)) / np.float32(np.log(near / far))
    level = np.nan_to_num(np.clip(fraction, 0, 1) * np.float32(255), nan=0.0).astype(np.uint8)
    colors = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)
    colors[~(depth > 0)] = 0
    return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)


def overlay(rgb: np.ndarray, sparse: np.ndarray, near: float, far: float) -> np.ndarray:
    """Points as dots in the colours of `color_map` over an image, (H, W, 3) uint8 RGB.

    rgb: (H, W, 3) uint8. sparse: (H, W) float32, m, 0 = unknown; where dots meet, the nearest
    point's is in front.
    """
    # So that a sweep still shows when a large image is drawn small.
    side = 1 + 2 * round(rgb.shape[1] / 1000)
    nothing = np.float32(np.inf)
    points = np.where(sparse > 0, sparse, nothing)
    dots = cv2.erode(points, np.ones((side, side)), borderValue=float(nothing))
    dots[dots == nothing] = 0
    return np.where(dots[..., None] > 0, color_map(dots, near, far), rgb)


def _image(pixels: np.ndarray, header: Header, encoding: str) -> Image:
    data, view = message_data(pixels.shape, pixels.dtype)
    view[...] = pixels
    height, width = pixels.shape[:2]
    image = Image(header=header, height=height, width=width, encoding=encoding)
    image.is_bigendian, image.step, image.data = int(_BIG_ENDIAN), view.strides[0], data
    return image
