"""When each point of a cloud was measured, from the fields of LiDAR drivers.

Drivers differ in name, type, unit and origin: `t` (uint32, ns from the stamp: Ouster), `time`
(float32, s from the stamp, negative if that is the end: Velodyne, KITTI bags), `timestamp`
(float64, absolute, in s: Hesai, Robosense; in ns: Livox), `time_stamp` (uint32 ns or float64 s:
Autoware), `offset_time` (uint32 ns: Livox converted). They are distinguished by name and values.
"""

from __future__ import annotations

import numpy as np

from .clouds import cloud_field
from .errors import MessageError
from .types import PointCloud2

FIELDS = ('t', 'time', 'timestamp', 'time_stamp', 'offset_time', 'time_offset', 'ts')
UNITS_S = {'s': 1.0, 'ms': 1e-3, 'us': 1e-6, 'ns': 1e-9}
# No sweep lasts longer, s.
_LONGEST_SWEEP_S = 1.0
# Absolute times are from the clock of the stamp; further from it they are not, s.
_SAME_CLOCK_S = 5.0


def point_times(
    cloud: PointCloud2, valid: np.ndarray, stamp_ns: int, field: str = '', unit: str = 'auto'
) -> np.ndarray | None:
    """Times (M,) float32 of the valid points, s from stamp_ns, the cloud's own stamp.

    valid: (N,) bool. field: its name, else the first of `FIELDS` that the cloud has. unit: 's',
    'ms', 'us' or 'ns'; 'auto' takes the coarsest in which the sweep lasts less than a second.
    Times farther from the stamp than that are absolute. None if there are none or all are equal.
    Raises MessageError if the requested field is missing or the times make no sense.
    """
    raw = _raw_times(cloud, field)
    if raw is None:
        return None
    raw = raw if valid.all() else raw[valid]
    low, high = raw.min(), raw.max()
    # As Python numbers: their difference neither wraps nor overflows.
    spread = high.item() - low.item()
    if spread == 0:
        return None
    second = UNITS_S.get(unit) or _unit_of(spread)
    if not 0 < spread * second < _LONGEST_SWEEP_S:
        raise MessageError(
            f'points: expected times of a sweep shorter than {_LONGEST_SWEEP_S:g} s, got '
            f'{spread * second:g} s from the first to the last'
        )
    # Differences first: an absolute time has no digits to spare in a float.
    seconds = (raw - low).astype(np.float32)
    seconds *= np.float32(second)
    seconds += np.float32(_start(low.item(), second, stamp_ns))
    return seconds


def _raw_times(cloud: PointCloud2, field: str) -> np.ndarray | None:
    if field:
        raw = cloud_field(cloud, field)
        if raw is None:
            names = ', '.join(f.name for f in cloud.fields)
            raise MessageError(f'points: expected the field {field} with times, got {names}')
        return raw
    return next((raw for name in FIELDS if (raw := cloud_field(cloud, name)) is not None), None)


def _unit_of(spread: float) -> float:
    return next(
        (second for second in UNITS_S.values() if spread * second < _LONGEST_SWEEP_S),
        UNITS_S['ns'],
    )


def _start(first: float, second: float, stamp_ns: int) -> float:
    """Offset of the first time from the stamp, s."""
    if abs(first) * second < _LONGEST_SWEEP_S:
        return first * second
    gap = first * second - stamp_ns * 1e-9
    if abs(gap) > _SAME_CLOCK_S:
        raise MessageError(
            f'points: times lie {gap:.3f} s from the stamp of the cloud, so they use a different '
            'clock; configure the driver to use one clock, or turn off deskew (--keep-skew on the '
            'command line)'
        )
    return gap
