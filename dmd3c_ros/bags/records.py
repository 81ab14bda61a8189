"""Contents of a bag: topics and serialized messages."""

from __future__ import annotations

from typing import NamedTuple

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from dmd3c_ros.messages.stamps import stamp_ns_in

_FOREVER = QosTime(2147483647, 4294967295)


class BagError(ValueError):
    """A bag that cannot be read or written; the text names it and says why."""


class Topic(NamedTuple):
    """One topic of a bag.

    definition, digest: text and RIHS01 hash of its message type; empty where the bag lacks them.
    """

    name: str
    type: str
    count: int = 0
    qos: tuple[Qos, ...] = ()
    definition: str = ''
    digest: str = ''

    @property
    def key(self) -> tuple[str, str]:
        """Identifies a topic: a name may have two types."""
        return self.name, self.type


class Record(NamedTuple):
    """One message: when it was recorded (ns) and its CDR bytes."""

    topic: Topic
    time_ns: int
    data: bytes | memoryview

    @property
    def stamp_ns(self) -> int:
        """header.stamp, ns; BagError naming the topic for a message too short for one."""
        try:
            return stamp_ns_in(self.data)
        except ValueError as error:
            raise BagError(f'{self.topic.name}: {error}') from error


def reliable(depth: int = 10, *, latched: bool = False) -> Qos:
    """Quality of service that players offer for a topic; latched: late subscribers get it too."""
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        avoid_ros_namespace_conventions=False,
    )
