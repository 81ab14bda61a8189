"""Colour images as (H, W, 3) uint8 RGB arrays."""

from pathlib import Path

import cv2
import numpy as np

from .atomic import write_bytes


def read_rgb(path: str | Path) -> np.ndarray:
    """Read an image (grey ones too) as (H, W, 3) uint8 RGB.

    Raises FileNotFoundError for a missing file, ValueError for one that is no image.
    """
    bgr = decode(path, cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_rgb(path: str | Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB atomically, in the format that the suffix names."""
    encode(path, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def decode(path: str | Path, flags: int) -> np.ndarray:
    """Read `path` with OpenCV's `flags`; an error names the file."""
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:
        # A corrupt header that declares an enormous image.
        raise ValueError(f'{path}: expected an image: {error}') from error
    if image is None:
        raise ValueError(
            f'{path}: expected an image, got {data.size} bytes that cannot be decoded'
        )
    return image


def encode(path: str | Path, image: np.ndarray) -> None:
    """Write an image as OpenCV holds it, atomically, in the format that the suffix names."""
    write_bytes(path, encoded(path, image))


def encoded(path: str | Path, image: np.ndarray) -> bytes:
    """What `encode` writes to `path`."""
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise ValueError(f'{path}: expected the suffix of an image, such as .png') from error
    if not done:
        raise ValueError(f'{path}: {image.shape} {image.dtype} cannot be encoded as {path.suffix}')
    return data.tobytes()
