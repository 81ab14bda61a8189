"""A reader of compressed depth, as consumers of image_transport's plugin have one."""

import struct

import cv2
import numpy as np


def decode_depth(message) -> np.ndarray:
    """Depth (H, W) float32, m, 0 = unknown."""
    data = bytes(message.data)
    kind, a, b = struct.unpack('<iff', data[:12])
    assert kind == 0, 'inverse depth'
    values = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    if message.format == '16UC1; compressedDepth png':
        return values / np.float32(1000)
    assert message.format == '32FC1; compressedDepth png'
    with np.errstate(divide='ignore'):
        depth = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    return np.where(values > 0, depth, np.float32(0))
