"""Times of messages <-> nanoseconds."""

from __future__ import annotations

import struct
from typing import Any

from .types import Time

_SECOND_NS = 10**9


def time_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time in ns."""
    return int(stamp.sec) * _SECOND_NS + int(stamp.nanosec)


def time_message(time_ns: int) -> Time:
    """The builtin_interfaces/Time of a number of ns."""
    sec, nanosec = divmod(time_ns, _SECOND_NS)
    return Time(sec=sec, nanosec=nanosec)


def stamp_ns_of(message: Any) -> int:
    """header.stamp, ns."""
    return time_ns(message.header.stamp)


def stamp_ns_in(data: bytes | memoryview) -> int:
    """header.stamp, ns, of the CDR bytes of a message that starts with a std_msgs/Header.

    Four bytes of encapsulation, the second of which is the byte order, precede the header's stamp:
    int32 seconds and uint32 nanoseconds. Raises ValueError for fewer bytes.
    """
    if len(data) < 12:
        raise ValueError(f'expected a header, got {len(data)} bytes')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * _SECOND_NS + nanoseconds


def shift_stamp(message: Any, offset_ns: int) -> None:
    """Add to header.stamp, in place; not below 0."""
    if offset_ns:
        stamp = message.header.stamp
        shifted = time_message(max(time_ns(stamp) + offset_ns, 0))
        stamp.sec, stamp.nanosec = shifted.sec, shifted.nanosec
