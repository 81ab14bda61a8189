"""Bags of every kind as topics and CDR records; damaged ones as far as they can be read."""

from __future__ import annotations

import heapq
import logging
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.convert.converter import generate_message_converter
from rosbags.interfaces import MessageDefinitionFormat, QosDurability
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1ReaderError
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.rosbag2 import ReaderError as Ros2ReaderError
from rosbags.rosbag2 import storage_mcap, storage_sqlite3
from rosbags.serde import SerdeError
from rosbags.typesys import (
    Stores,
    TypesysError,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from dmd3c_ros.messages.cdr import ros2_types

from . import recovery
from .records import BagError, Record, Topic, reliable

_log = logging.getLogger(__name__)
_SUFFIXES = ('.mcap', '.db3', '.bag', '.active')
_IDL_SEPARATOR = '=' * 80 + '\n'
# What rosbags raises for files that are cut off or garbled: it checks most, not all, of a file.
_DAMAGE = (
    Ros1ReaderError,
    Ros2ReaderError,
    getattr(storage_sqlite3, 'apsw', sqlite3).Error,
    storage_mcap.zstd.ZstdError,
    struct.error,
    AssertionError,
    EOFError,
    IndexError,
    KeyError,
    # Both of garbled lengths: of more bytes than an index counts, or than there is memory for.
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
)


class _Source(NamedTuple):
    """One topic of one file: how its bytes become CDR."""

    topic: Topic
    to_cdr: Callable[[bytes], bytes | memoryview]


class Bag:
    """A ROS 2 bag (folder, .mcap or .db3 file) or a ROS 1 bag (.bag file), open for reading.

    topics: sorted by name. damage: what is wrong with the bag, or ''. format: 'mcap', 'sqlite3' or
    'ros1'. Use it in a `with` block. Raises FileNotFoundError, or BagError naming the file if it
    is not a bag.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.damage = ''
        self._stack = ExitStack()
        self._files = _storage_files(self.path)
        self.format = _format(self._files[0])
        self._ros1 = self.format == 'ros1'
        self._reader: Ros1Reader | Ros2Reader | None = None
        self._typestore = get_typestore(Stores.EMPTY)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @property
    def count(self) -> int:
        """Number of messages."""
        return sum(topic.count for topic in self.topics)

    def of_type(self, *types: str) -> list[Topic]:
        """Topics of the given types that have messages."""
        return [topic for topic in self.topics if topic.type in types and topic.count]

    def topic(self, name: str) -> Topic:
        """The topic of this name; BagError where the bag has none."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        names = ', '.join(topic.name for topic in self.topics) or 'none'
        raise BagError(f'{self.path}: expected a topic {name}, has {names}')

    def records(self, topics: Collection[Topic] | None = None) -> Iterator[Record]:
        """Messages of the given topics, or all, in order of recording time.

        If reading fails, the messages end early and `damage` says so.
        """
        keys = {topic.key for topic in (self.topics if topics is None else topics)}
        if not keys:
            return
        try:
            for source, time_ns, data in self._raw(keys):
                try:
                    cdr = source.to_cdr(data)
                except SerdeError as error:
                    _log.warning(
                        '%s: %s at %d ns: %s', self.path, source.topic.name, time_ns, error
                    )
                    continue
                yield Record(source.topic, time_ns, cdr)
        except _DAMAGE as error:
            self.damage = self.damage or f'stopped reading early: {_text(error)}'

    def decode(self, record: Record) -> Any:
        """The message with its fields as attributes; BagError for bytes that do not parse."""
        name = record.topic.type
        store = self._typestore if name in self._typestore.fielddefs else ros2_types()
        try:
            return store.deserialize_cdr(record.data, name)
        except (SerdeError, KeyError, IndexError) as error:
            raise BagError(f'{record.topic.name}: cannot parse {name}: {_text(error)}') from error

    def first(self, topic: Topic) -> Any:
        """The first message of a topic that parses; BagError where none does."""
        for record in self.records([topic]):
            with suppress(BagError):
                return self.decode(record)
        raise BagError(f'{self.path}: {topic.name}: expected a message, could not read any')

    def span_ns(self) -> tuple[int, int]:
        """Times of the first and the last message; (0, 0) without messages."""
        if not self.count:
            return 0, 0
        if self._reader is not None:
            return self._reader.start_time, self._reader.end_time - 1
        times = [record.time_ns for record in self.records()]
        return min(times), max(times)

    @property
    def typestore(self) -> Typestore:
        """The message definitions that the bag itself carries, as ROS 2 has them."""
        return self._typestore

    # ---------------------------------------------------------------- opening

    def _open(self) -> None:
        try:
            self._reader = self._open_whole()
        except _DAMAGE as error:
            self.damage = _text(error)
            self._open_damaged()
        else:
            self._describe(
                (c.topic, c.msgtype, c.msgcount, _definition(c), _qos(c), _digest(c))
                for c in self._reader.connections
            )
        if self.damage:
            _log.warning(
                '%s is damaged (%s): %d messages can be read', self.path, self.damage, self.count
            )

    def _open_whole(self) -> Ros1Reader | Ros2Reader:
        if self.path.is_dir() and not (self.path / 'metadata.yaml').is_file():
            raise Ros2ReaderError('metadata.yaml is missing')
        # Others are compressed (.zstd): decompression will show.
        if any(recovery.is_cut_sqlite(path) for path in self._files if path.suffix == '.db3'):
            raise Ros2ReaderError('the file is truncated')
        reader = Ros1Reader(self.path) if self._ros1 else Ros2Reader(self.path)
        reader.open()
        self._stack.callback(reader.close)
        return reader

    def _open_damaged(self) -> None:
        self._scans = [(recovery.scanner(path), path) for path in self._files]
        described = []
        for scan, path in self._scans:
            for channel, count in recovery.count(scan, path).items():
                qos = (reliable(latched=True),) if channel.latched else channel.qos
                described.append((channel.name, channel.type, count, channel.definition, qos, ''))
        self._describe(described)

    def _describe(self, connections) -> None:
        """Topics of connections (topic, type, count, definition, qos, digest)."""
        connections = list(connections)
        own = _register({kind: text for _, kind, _, text, _, _ in connections if text}, self.path)
        if self._ros1:
            own, renamed = _as_ros2(own)
        self._typestore, topics = own, {}
        self._sources: dict[tuple[str, str], _Source] = {}
        for name, kind, count, text, qos, digest in connections:
            to_cdr: Callable = bytes
            source_kind = kind
            if self._ros1:
                kind, to_cdr = renamed(kind)
                text = digest = ''
            old = topics.get((name, kind))
            total = count + (old.count if old else 0)
            latched = any(q.durability == QosDurability.TRANSIENT_LOCAL for q in qos)
            if name.rsplit('/', 1)[-1] == 'tf_static' and not latched:
                # Sent once: a player that does not keep it for those who come late sends it to
                # nobody. Converters write the default, which is not what was offered.
                qos = (reliable(latched=True),)
            topic = Topic(name, kind, total, tuple(qos), text, digest)
            topics[topic.key] = topic
            self._sources[name, source_kind] = _Source(topic, to_cdr)
        # Every source refers to its topic with all that is counted.
        self._sources = {
            key: source._replace(topic=topics[source.topic.key])
            for key, source in self._sources.items()
        }
        self.topics = sorted(topics.values())

    # ---------------------------------------------------------------- reading

    def _raw(self, keys: set[tuple[str, str]]) -> Iterator[tuple[_Source, int, bytes]]:
        sources = {k: s for k, s in self._sources.items() if s.topic.key in keys}
        if self._reader is None:
            scans = (
                (
                    (sources[c.name, c.type], time_ns, data)
                    for c, time_ns, data in scan(path)
                    if (c.name, c.type) in sources
                )
                for scan, path in self._scans
            )
            yield from heapq.merge(*scans, key=lambda item: item[1])
            return
        connections = [c for c in self._reader.connections if (c.topic, c.msgtype) in sources]
        for connection, time_ns, data in self._reader.messages(connections):
            yield sources[connection.topic, connection.msgtype], time_ns, data


def _storage_files(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f'{path}: expected a bag, found nothing')
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in ('.mcap', '.db3'))
    packed = sorted(path.glob('*.zstd'))
    if not files and not packed:
        raise BagError(f'{path}: expected a bag, found no .mcap or .db3 file in the folder')
    return files or packed


def _format(path: Path) -> str:
    name = path.name.removesuffix('.zstd')
    if name.endswith(('.bag', '.bag.active')):
        return 'ros1'
    if name.endswith('.mcap'):
        return 'mcap'
    if name.endswith('.db3'):
        return 'sqlite3'
    raise BagError(f'{path}: expected a bag, one of {", ".join(_SUFFIXES)}, or a folder with one')


def _definition(connection) -> str:
    definition = connection.msgdef
    return '' if definition.format == MessageDefinitionFormat.NONE else definition.data


def _digest(connection) -> str:
    return connection.digest if connection.digest.startswith('RIHS01_') else ''


def _qos(connection) -> tuple:
    if getattr(connection.ext, 'latching', None):
        return (reliable(latched=True),)
    return tuple(getattr(connection.ext, 'offered_qos_profiles', ()))


def _register(definitions: dict[str, str], path: Path) -> Typestore:
    """Message types from a bag's own definitions; those that cannot be parsed are skipped."""
    store = get_typestore(Stores.EMPTY)
    for kind, text in definitions.items():
        try:
            if not text.startswith(f'{_IDL_SEPARATOR}IDL: '):
                store.register(get_types_from_msg(text, kind))
                continue
            for part in text.split(_IDL_SEPARATOR)[1:]:
                store.register(get_types_from_idl(part.split('\n', 1)[1]))
        except TypesysError as error:
            _log.warning('%s: the definition of %s is not used: %s', path, kind, _text(error))
    return store


def _as_ros2(ros1: Typestore) -> tuple[Typestore, Callable[[str], tuple[str, Callable]]]:
    """ROS 2 types for a ROS 1 bag, and a function from a type to its new name and converter."""
    ros2, cache = get_typestore(Stores.ROS2_HUMBLE), {}

    def renamed(kind: str) -> tuple[str, Callable]:
        target = 'tf2_msgs/msg/TFMessage' if kind == 'tf/msg/tfMessage' else kind
        if target not in ros2.fielddefs:
            definition, _ = ros1.generate_msgdef(kind, ros_version=2)
            types = get_types_from_msg(definition, target)
            ros2.register({k: v for k, v in types.items() if k not in ros2.fielddefs})
        return target, generate_message_converter(
            ros1, ros2, kind, target, cache, src_is2=False, dst_is2=True
        )

    return ros2, renamed


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
