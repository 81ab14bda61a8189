"""sensor_msgs/Image of any encoding, and CompressedImage -> RGB.

cv_bridge decodes where it works. On many current installs it is compiled for NumPy 1 and fails,
or crashes, under NumPy 2: then rosbags-image does.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from .errors import MessageError
from .types import Image

_log = logging.getLogger(__name__)

# OpenCV's generic names carry no channel order; images that OpenCV made are blue first.
_SYNONYMS = {
    '8UC1': 'mono8',
    '8UC3': 'bgr8',
    '8UC4': 'bgra8',
    '16UC1': 'mono16',
    '16UC3': 'bgr16',
    '16UC4': 'bgra16',
    'uyvy': 'yuv422',
    'yuyv': 'yuv422_yuy2',
}
_PIXEL_BYTES = {
    'mono8': 1,
    'mono16': 2,
    'rgb8': 3,
    'bgr8': 3,
    'rgba8': 4,
    'bgra8': 4,
    'rgb16': 6,
    'bgr16': 6,
    'rgba16': 8,
    'bgra16': 8,
    'yuv422': 2,
    'yuv422_yuy2': 2,
    'nv12': 1,
    'nv21': 1,
    **{f'bayer_{order}8': 1 for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{order}16': 2 for order in ('rggb', 'bggr', 'gbrg', 'grbg')},
}
# Half-resolution chroma follows the luma rows; neither library handles that by the message alone.
_CHROMA_ROWS = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}

# Run in a separate process, which a cv_bridge compiled for another NumPy can crash. It converts
# colours, because the compiled part of cv_bridge is only loaded then.
_CV_BRIDGE_TRIAL = """
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
image = Image(height=1, width=1, step=3, encoding='bgr8', data=[1, 2, 3])
assert CvBridge().imgmsg_to_cv2(image, 'rgb8').tolist() == [[[3, 2, 1]]]
"""


def decode_image(image: Any) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB of an Image or a CompressedImage message.

    Raises MessageError for images that cannot be decoded.
    """
    return compressed_to_rgb(image) if hasattr(image, 'format') else image_to_rgb(image)


def image_to_rgb(image: Image) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB of an image message; rgb8 without padding is not copied.

    Raises MessageError for an encoding without colour or grey values (depth, floats), and for
    data that are too short.
    """
    encoding = _SYNONYMS.get(image.encoding, image.encoding)
    if encoding not in _PIXEL_BYTES:
        raise MessageError(f'image: expected a colour or grey encoding, got {image.encoding!r}')
    rows = rows_of(image, _PIXEL_BYTES[encoding], half_rows=3 if encoding in _CHROMA_ROWS else 2)
    if encoding == 'rgb8':
        return np.ascontiguousarray(rows).reshape(image.height, image.width, 3)
    if encoding == 'bgr8':
        pixels = np.ascontiguousarray(rows).reshape(image.height, image.width, 3)
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    try:
        if encoding in _CHROMA_ROWS:
            return cv2.cvtColor(np.ascontiguousarray(rows), _CHROMA_ROWS[encoding])
        _, decode = image_decoder()
        return np.ascontiguousarray(decode(_packed(image, rows, encoding)))
    except (cv2.error, ValueError) as error:
        raise MessageError(
            f'image: {image.width}x{image.height} {image.encoding} cannot be decoded: {error}'
        ) from error


def compressed_to_rgb(image: Any) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB of a CompressedImage message, JPEG or PNG.

    `format` is read as image_transport's plugin writes it, '<encoding>; jpeg compressed <order>':
    a Bayer mosaic is stored as a grey image, and colours red first only where <order> says so.
    Raises MessageError for data that are no image, compressedDepth among them.
    """
    if 'compressedDepth' in image.format:
        raise MessageError(f'image: expected an image, got depth ({image.format!r})')
    data = np.asarray(image.data, np.uint8)
    try:
        # As stored: a rotation noted in the file would not fit the camera's calibration.
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error as error:
        raise MessageError(f'image: {image.format!r} cannot be decoded: {error}') from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise MessageError(f'image: {data.size} bytes of {image.format!r} cannot be decoded')
    wide = pixels.dtype == np.uint16
    encoding = image.format.partition(';')[0].strip()
    if pixels.ndim == 2:
        mosaic = encoding if encoding in _PIXEL_BYTES and encoding.startswith('bayer') else ''
        if mosaic and _PIXEL_BYTES[mosaic] == pixels.dtype.itemsize:
            return image_to_rgb(_image_of(pixels, mosaic))
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    order = 'RGB' if 'compressed rgb' in image.format else 'BGR'
    alpha = 'A' if pixels.shape[2] == 4 else ''
    if order + alpha != 'RGB':
        pixels = cv2.cvtColor(pixels, getattr(cv2, f'COLOR_{order}{alpha}2RGB'))
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535) if wide else pixels


def _image_of(pixels: np.ndarray, encoding: str) -> Image:
    """Message of (H, W) pixels, one value each."""
    image = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    image.is_bigendian, image.step = int(sys.byteorder == 'big'), pixels.strides[0]
    image.data.frombytes(pixels.tobytes())
    return image


def rows_of(image: Image, pixel_bytes: int, half_rows: int = 2) -> np.ndarray:
    """View (rows, width * pixel_bytes) uint8 of the pixels, without the padding of `step`.

    half_rows: rows of the data per two rows of the image. Raises MessageError for data that are
    shorter than the image.
    """
    height, width = image.height * half_rows // 2, image.width * pixel_bytes
    if height == 0 or width == 0:
        raise MessageError(f'image: expected some pixels, got {image.width}x{image.height}')
    if image.step < width:
        raise MessageError(
            f'image: expected step >= {width} for {image.width} pixels {image.encoding}, '
            f'got {image.step}'
        )
    needed = (height - 1) * image.step + width
    if len(image.data) < needed:
        raise MessageError(
            f'image: expected {needed} bytes for {image.width}x{image.height} '
            f'{image.encoding}, got {len(image.data)}'
        )
    return np.ndarray((height, width), np.uint8, image.data, 0, (image.step, 1))


@functools.cache
def image_decoder() -> tuple[str, Callable[[Image], np.ndarray]]:
    """Name and function of the library that turns other encodings into RGB; logged once."""
    reason = cv_bridge_fault()
    if reason is None:
        from cv_bridge import CvBridge

        _log.info('images are decoded by cv_bridge')
        bridge = CvBridge()
        return 'cv_bridge', lambda image: bridge.imgmsg_to_cv2(image, 'rgb8')
    try:
        from rosbags.image import ImageError, message_to_cvimage
    except ImportError as error:
        raise ImportError(
            f'{reason}, and rosbags-image is not installed: pip install rosbags-image'
        ) from error

    def decode(image: Image) -> np.ndarray:
        try:
            return message_to_cvimage(image, 'rgb8')
        except ImageError as error:
            raise ValueError(str(error)) from error

    _log.info('images are decoded by rosbags-image (%s)', reason)
    return 'rosbags-image', decode


@functools.cache
def cv_bridge_fault() -> str | None:
    """Why cv_bridge cannot be used here, None if it can."""
    if importlib.util.find_spec('cv_bridge') is None:
        return 'cv_bridge is not installed'
    trial = subprocess.run(
        [sys.executable, '-c', _CV_BRIDGE_TRIAL], capture_output=True, text=True, check=False
    )
    if trial.returncode == 0:
        return None
    lines = re.findall(r'^\w*Error.*$', trial.stderr, re.MULTILINE)
    return f'cv_bridge fails: {lines[-1] if lines else f"exit status {trial.returncode}"}'


def _packed(image: Image, rows: np.ndarray, encoding: str) -> Image:
    """The message without padding and with a name that every library knows."""
    if image.step == rows.shape[1] and encoding == image.encoding:
        return image
    packed = Image(height=image.height, width=image.width, encoding=encoding)
    packed.is_bigendian, packed.step = image.is_bigendian, rows.shape[1]
    packed.data.frombytes(np.ascontiguousarray(rows).data)
    return packed
