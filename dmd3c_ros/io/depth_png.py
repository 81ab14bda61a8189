"""Depth as 16-bit grey PNG: value = metres * scale, 0 = unknown."""

import logging
from pathlib import Path

import cv2
import numpy as np

from .atomic import write_bytes
from .images import decode, encoded

KITTI_SCALE = 256.0
"""KITTI depth benchmark: up to 255.996 m in steps of 3.9 mm."""
TUM_SCALE = 5000.0
"""TUM RGB-D benchmark: up to 13.107 m in steps of 0.2 mm."""

_LARGEST = np.iinfo(np.uint16).max
_log = logging.getLogger(__name__)


def read_depth_png(path: str | Path, scale: float = KITTI_SCALE) -> np.ndarray:
    """Read a depth image as (H, W) float32 metres, 0 = unknown.

    Raises FileNotFoundError for a missing file, ValueError for one that is not 16-bit grey.
    """
    values = decode(path, cv2.IMREAD_UNCHANGED)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ValueError(
            f'{path}: expected a 16-bit grey depth image, '
            f'got {values.dtype} of shape {values.shape}'
        )
    return values.astype(np.float32) / np.float32(scale)


def write_depth_png(path: str | Path, depth: np.ndarray, scale: float = KITTI_SCALE) -> None:
    """Write (H, W) metres atomically; values not finite, not positive or too far become 0.

    Raises ValueError for another shape, or a name that does not end in .png.
    """
    write_bytes(path, depth_png_bytes(path, depth, scale))


def depth_png_bytes(path: str | Path, depth: np.ndarray, scale: float = KITTI_SCALE) -> bytes:
    """What `write_depth_png` writes to `path`."""
    if Path(path).suffix.lower() != '.png':
        # Other image formats would silently drop 8 of the 16 bits.
        raise ValueError(f'{path}: expected a depth image NAME.png')
    if depth.ndim != 2:
        raise ValueError(f'{path}: expected depth of shape (H, W), got {depth.shape}')
    values = np.rint(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * scale)
    too_far = values > _LARGEST
    if too_far.any():
        _log.warning(
            '%s: %d pixels are beyond %.1f m, the limit of the format; written as unknown',
            path,
            np.count_nonzero(too_far),
            _LARGEST / scale,
        )
    values[too_far | (values < 0)] = 0
    return encoded(path, values.astype(np.uint16))


def quantized(depth: np.ndarray) -> np.ndarray:
    """Depth as a 16-bit KITTI PNG stores it: rounded to 1/256 m and at most 255.996 m.

    depth: (H, W), m, 0 = unknown; returned as (H, W) float32.
    """
    steps = np.clip(
        np.round(np.nan_to_num(depth, posinf=0.0, neginf=0.0) * KITTI_SCALE), 0, _LARGEST
    )
    return (steps / KITTI_SCALE).astype(np.float32)
