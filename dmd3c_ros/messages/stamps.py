"""Stamps of messages in nanoseconds."""

from __future__ import annotations

from typing import Any


def stamp_ns_of(message: Any) -> int:
    """header.stamp, ns."""
    stamp = message.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def shift_stamp(message: Any, offset_ns: int) -> None:
    """Add to header.stamp, in place; not below 0."""
    if offset_ns:
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(max(stamp_ns_of(message) + offset_ns, 0), 10**9)
