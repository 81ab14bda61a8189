"""Images compressed as the plugins of image_transport compress them."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from .images import millimetres
from .types import CompressedImage, Header

# compressed_image_transport's default.
_JPEG_QUALITY = 95
# Its default, 9, takes ten times as long and saves a tenth.
_PNG_LEVEL = 1
# compressed_depth_image_transport's ConfigHeader: an enum (inverse depth is 0) and two floats.
_HEADER = struct.Struct('<iff')
_INVERSE_DEPTH = 0
_LEVELS = 65534  # of 16 bits: 0 is the unknown, and levels begin at 1.


def rgb_to_compressed(rgb: np.ndarray, header: Header) -> CompressedImage:
    """JPEG of (H, W, 3) uint8, as of compressed_image_transport for rgb8."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return _message(header, 'rgb8; jpeg compressed bgr8', data.tobytes())


def depth_to_compressed(
    depth: np.ndarray, header: Header, encoding: str = '32FC1'
) -> CompressedImage:
    """PNG of depth, as of compressed_depth_image_transport.

    depth: (H, W) float32, m, 0 = unknown. 16UC1 holds mm. 32FC1 holds level = A / depth + B in 16
    bits, with A and B in the header: they are chosen for each image so that its nearest and
    farthest depth are the first and the last level, and a depth is off by half of depth^2 / A.
    """
    if encoding == '16UC1':
        values, parameters = millimetres(depth), (0.0, 0.0)
    else:
        values, parameters = _levels(depth)
    _, data = cv2.imencode('.png', values, (cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL))
    head = _HEADER.pack(_INVERSE_DEPTH, *parameters)
    return _message(header, f'{encoding}; compressedDepth png', head + data.tobytes())


def _levels(depth: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Levels (H, W) uint16, 0 = unknown, and A and B."""
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.zeros(depth.shape, np.uint16), (1.0, 0.0)
    far, near = 1 / float(depth[known].max()), 1 / float(depth[known].min())
    # Of a single depth too there is a scale.
    a = np.float32(_LEVELS / max(near - far, 1e-6 * near))
    b = np.float32(1 - float(a) * far)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        levels = np.rint(a / depth.astype(np.float64) + b)
    levels = np.where(known, np.clip(levels, 1, 65535), 0)
    return levels.astype(np.uint16), (float(a), float(b))


def _message(header: Header, form: str, data: bytes) -> CompressedImage:
    message = CompressedImage(header=header, format=form)
    message.data.frombytes(data)
    return message
