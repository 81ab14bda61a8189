"""Messages that no sensor should send: the fields of good ones, some of them made absurd."""

from __future__ import annotations

import array
from collections.abc import Callable

import numpy as np

from dmd3c_ros.messages.types import CameraInfo, Image, PointCloud2, PointField

_MAX_UINT32 = 2**32 - 1
_COUNTS = (0, 1, 2, 3, 7, 64, 1000, 1_000_000, _MAX_UINT32)
_ENCODINGS = (
    *('rgb8', 'bgr8', 'rgba8', 'bgra16', 'mono8', 'mono16', 'bayer_rggb8', 'bayer_gbrg16'),
    *('yuv422', 'yuv422_yuy2', 'nv12', 'nv21', '8UC1', '8UC2', '16UC3', '32FC1', '64FC4'),
    *('', 'RGB8', 'rgb8; jpeg compressed', '\N{SNOWMAN}' * 50),
)
_NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, np.inf, -np.inf, np.nan)
_MODELS = ('plumb_bob', 'rational_polynomial', 'equidistant', 'fisheye', '', 'none')


def garbage_image(rng: np.random.Generator, image: Image) -> Image:
    """Spoil some fields of a small image."""
    return _spoil(
        rng,
        image,
        {
            'height': lambda: _pick(rng, _COUNTS),
            'width': lambda: _pick(rng, _COUNTS),
            'step': lambda: _pick(rng, _COUNTS),
            'encoding': lambda: _pick(rng, _ENCODINGS),
            'is_bigendian': lambda: int(rng.integers(256)),
            'data': lambda: _bytes(rng, image.data),
        },
    )


def garbage_info(rng: np.random.Generator, info: CameraInfo) -> CameraInfo:
    """Spoil some fields of a CameraInfo."""
    changes = {
        'height': lambda: _pick(rng, _COUNTS),
        'width': lambda: _pick(rng, _COUNTS),
        'distortion_model': lambda: _pick(rng, _MODELS),
        'd': lambda: [_pick(rng, _NUMBERS) for _ in range(rng.integers(15))],
        'k': lambda: _some(rng, info.k),
        'r': lambda: _some(rng, info.r),
        'p': lambda: _some(rng, info.p),
        'binning_x': lambda: _pick(rng, _COUNTS),
        'binning_y': lambda: _pick(rng, _COUNTS),
    }
    info = _spoil(rng, info, changes)
    if rng.random() < 0.3:
        names = ('x_offset', 'y_offset', 'width', 'height')
        _spoil(rng, info.roi, {name: lambda: _pick(rng, _COUNTS) for name in names})
    return info


def garbage_cloud(rng: np.random.Generator, cloud: PointCloud2) -> PointCloud2:
    """Spoil some fields of a small cloud."""

    def fields() -> list[PointField]:
        names = ['x', 'y', 'z', 'x', 'intensity', 'time', 't', 'timestamp', '']
        return [
            PointField(
                name=name if rng.random() < 0.9 else _pick(rng, names),
                offset=_pick(rng, (0, 1, 3, 4, 8, 12, 4093, _MAX_UINT32)),
                datatype=int(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 8, 9, 255))),
                count=_pick(rng, _COUNTS),
            )
            for name in names[: rng.integers(len(names) + 1)]
        ]

    return _spoil(
        rng,
        cloud,
        {
            'height': lambda: _pick(rng, _COUNTS),
            'width': lambda: _pick(rng, _COUNTS),
            'point_step': lambda: _pick(rng, _COUNTS),
            'row_step': lambda: _pick(rng, _COUNTS),
            'is_bigendian': lambda: bool(rng.integers(2)),
            'fields': fields,
            'data': lambda: _bytes(rng, cloud.data),
        },
    )


def _spoil(rng: np.random.Generator, message, changes: dict[str, Callable]):
    chosen = rng.choice(list(changes), size=rng.integers(1, 4), replace=False)
    for name in map(str, chosen):
        setattr(message, name, changes[name]())
    return message


def _pick(rng: np.random.Generator, values):
    return values[rng.integers(len(values))]


def _some(rng: np.random.Generator, numbers) -> list[float]:
    """The numbers, some of them replaced."""
    return [_pick(rng, _NUMBERS) if rng.random() < 0.3 else float(n) for n in numbers]


def _bytes(rng: np.random.Generator, data) -> array.array:
    """Part of the data, or noise: in floats also NaN, infinities and numbers of every size."""
    kind = rng.integers(3)
    if kind == 0:
        return array.array('B', bytes(data)[: rng.integers(len(data) + 1)])
    if kind == 1:
        return array.array('B', rng.bytes(len(data)))
    values = rng.choice(np.array(_NUMBERS), len(data) // 4 + 1)
    with np.errstate(over='ignore'):
        return array.array('B', values.astype(np.float32).tobytes()[: len(data)])
