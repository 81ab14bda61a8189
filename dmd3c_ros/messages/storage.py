"""Storage of large messages.

`data` of the messages made here is an `array.array('B')`: rclpy reads any other sequence byte by
byte if it checks fields (Humble), and always copies this one in bulk.
"""

from __future__ import annotations

import array

import numpy as np


def message_data(shape: tuple[int, ...], dtype: np.dtype | type) -> tuple[array.array, np.ndarray]:
    """Storage for a message's `data`, and a view of it to write into."""
    data = array.array('B', [0]) * (int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return data, np.frombuffer(data, dtype).reshape(shape)
