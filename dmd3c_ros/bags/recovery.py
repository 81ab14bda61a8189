"""Reads bags whose end is missing because the recorder crashed or the disk was full.

MCAP and ROS 1: such files have no index. They are read from the start, record by record, up to the
first truncated one. The readable part of a truncated chunk is used as well: 24 truncated
recordings with a camera and a LiDAR yielded 2099 messages, where the readers of the library mcap
1.6 yielded 1851. sqlite3: read by SQLite itself, see `scan_sqlite`; its command .recover yielded
nothing from such files. Formats: the MCAP specification, "Bag format 2.0" of ROS 1.
"""

from __future__ import annotations

import functools
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import apsw
from rosbags.rosbag1.reader import decompressors as _ROS1_DECOMPRESSORS
from rosbags.rosbag2.metadata import parse_qos
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS as _MCAP_DECOMPRESSORS

from .records import BagError

_MCAP_MAGIC, _ROS1_MAGIC = b'\x89MCAP0\r\n', b'#ROSBAG V2.0\n'
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x03, 0x04, 0x05, 0x06
_MESSAGE_ROW = 'SELECT topic_id, timestamp, data FROM messages WHERE rowid=?'
_ROS1_MESSAGE, _ROS1_CHUNK, _ROS1_CONNECTION = 0x02, 0x05, 0x07


class Channel(NamedTuple):
    """A topic as a file describes it; latched is ROS 1's word for transient local."""

    name: str
    type: str
    definition: str = ''
    qos: tuple = ()
    latched: bool = False


Message = tuple[Channel, int, bytes]
Scan = Callable[[Path], Iterator[Message]]


def scanner(path: Path) -> Scan:
    """The reader for damaged files of this kind; BagError for other kinds."""
    with path.open('rb') as file:
        magic = file.read(16)
    if magic.startswith(_MCAP_MAGIC):
        return scan_mcap
    if magic.startswith(_ROS1_MAGIC):
        return scan_ros1
    if magic.startswith(b'SQLite format 3'):
        return scan_sqlite
    raise BagError(f'{path}: expected an MCAP, sqlite3 or ROS 1 bag, found {magic[:8]!r}')


def count(scan: Scan, path: Path) -> Counter[Channel]:
    """Messages of each channel that can be read."""
    return Counter(channel for channel, _, _ in scan(path))


# ---------------------------------------------------------------------------- MCAP


def scan_mcap(path: Path) -> Iterator[Message]:
    """Messages of an MCAP file in file order, within a chunk in order of their times."""
    schemas: dict[int, tuple[str, str]] = {}
    channels: dict[int, Channel] = {}
    with path.open('rb') as file:
        file.seek(len(_MCAP_MAGIC))
        for kind, body in _mcap_records(file):
            inner = [(kind, body)] if kind != _CHUNK else list(_mcap_chunk(body))
            messages = []
            for inner_kind, record in inner:
                if inner_kind == _SCHEMA:
                    _read_schema(record, schemas)
                elif inner_kind == _CHANNEL:
                    _read_channel(record, schemas, channels)
                elif inner_kind == _MESSAGE:
                    number, _, time_ns, _ = struct.unpack_from('<HIQQ', record)
                    if number in channels:
                        messages.append((channels[number], time_ns, record[22:]))
            yield from sorted(messages, key=lambda message: message[1])


def _mcap_records(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each complete record; of a truncated chunk, the part that exists."""
    while len(head := stream.read(9)) == 9:
        kind, size = head[0], int.from_bytes(head[1:], 'little')
        body = stream.read(size)
        if len(body) == size or kind == _CHUNK:
            yield kind, body
        if len(body) < size:
            return


def _mcap_chunk(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The records inside a chunk; of a compressed one that is cut off, none."""
    if len(body) < 40:
        return
    name_size = int.from_bytes(body[28:32], 'little')
    compression = body[32 : 32 + name_size].decode('ascii', errors='replace')
    start = 40 + name_size
    size = int.from_bytes(body[start - 8 : start], 'little')
    data = body[start : start + size]
    if compression:
        if len(data) < size or compression not in _MCAP_DECOMPRESSORS:
            return
        data = _MCAP_DECOMPRESSORS[compression](data, int.from_bytes(body[16:24], 'little'))
    yield from _mcap_records(BytesIO(data))


def _read_schema(record: bytes, schemas: dict[int, tuple[str, str]]) -> None:
    stream = BytesIO(record)
    number = int.from_bytes(stream.read(2), 'little')
    name, _, definition = (_text(stream) for _ in range(3))
    schemas[number] = name, definition


def _read_channel(
    record: bytes, schemas: dict[int, tuple[str, str]], channels: dict[int, Channel]
) -> None:
    stream = BytesIO(record)
    number, schema = struct.unpack('<HH', stream.read(4))
    topic, _ = _text(stream), _text(stream)
    name, definition = schemas.get(schema, ('', ''))
    end = int.from_bytes(stream.read(4), 'little') + stream.tell()
    metadata = {}
    while stream.tell() < end:
        key = _text(stream)
        metadata[key] = _text(stream)
    qos = metadata.get('offered_qos_profiles', '')
    channels[number] = Channel(topic, name, definition, tuple(parse_qos(qos)) if qos else ())


def _text(stream: BinaryIO) -> str:
    return stream.read(int.from_bytes(stream.read(4), 'little')).decode('utf-8', errors='replace')


# ---------------------------------------------------------------------------- ROS 1


def scan_ros1(path: Path) -> Iterator[Message]:
    """Messages of a ROS 1 bag, in the order of the file."""
    channels: dict[int, Channel] = {}
    with path.open('rb') as file:
        file.seek(len(_ROS1_MAGIC))
        for header, data in _ros1_records(file):
            if header.get('op') == bytes([_ROS1_CHUNK]):
                yield from _ros1_messages(_ros1_records(_open_chunk(header, data)), channels)
            else:
                yield from _ros1_messages([(header, data)], channels)


def _ros1_records(stream: BinaryIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """Header fields and data of each whole record, and of a chunk that is cut off."""
    while len(size := stream.read(4)) == 4:
        block = stream.read(int.from_bytes(size, 'little'))
        length = stream.read(4)
        if len(length) < 4:
            return
        data, header = stream.read(int.from_bytes(length, 'little')), _ros1_fields(block)
        whole = len(data) == int.from_bytes(length, 'little')
        if whole or header.get('op') == bytes([_ROS1_CHUNK]):
            yield header, data
        if not whole:
            return


def _open_chunk(header: dict[str, bytes], data: bytes) -> BytesIO:
    """The content of a chunk; of a compressed one that is cut off, nothing."""
    compression = header.get('compression', b'none').decode('ascii', errors='replace')
    if compression == 'none':
        return BytesIO(data)
    try:
        return BytesIO(_ROS1_DECOMPRESSORS[compression](data))
    except (KeyError, ValueError, RuntimeError, OSError, EOFError):
        return BytesIO()


def _ros1_messages(records, channels: dict[int, Channel]) -> Iterator[Message]:
    for header, data in records:
        kind = header.get('op', b'\0')[0]
        number = int.from_bytes(header.get('conn', b''), 'little')
        if kind == _ROS1_CONNECTION:
            channels[number] = _ros1_channel(header, data)
        elif kind == _ROS1_MESSAGE and number in channels:
            seconds, nanoseconds = struct.unpack('<II', header['time'])
            yield channels[number], seconds * 10**9 + nanoseconds, data


def _ros1_channel(header: dict[str, bytes], data: bytes) -> Channel:
    fields = {key: value.decode('utf-8', 'replace') for key, value in _ros1_fields(data).items()}
    package, _, name = fields.get('type', '').partition('/')
    topic = '/' + header['topic'].decode('utf-8', 'replace').strip('/')
    return Channel(
        topic,
        f'{package}/msg/{name}',
        fields.get('message_definition', ''),
        latched=fields.get('latching') == '1',
    )


def _ros1_fields(block: bytes) -> dict[str, bytes]:
    fields, position = {}, 0
    while position + 4 <= len(block):
        size = int.from_bytes(block[position : position + 4], 'little')
        key, _, value = block[position + 4 : position + 4 + size].partition(b'=')
        fields[key.decode('ascii', errors='replace')] = value
        position += 4 + size
    return fields


# ---------------------------------------------------------------------------- sqlite3


def is_cut_sqlite(path: Path) -> bool:
    """True where the file has fewer pages than its header says."""
    with path.open('rb') as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b'SQLite format 3'):
        return True
    page = int.from_bytes(header[16:18], 'big')
    page = 65536 if page == 1 else page
    return path.stat().st_size < page * int.from_bytes(header[28:32], 'big')


class _WholeReads(apsw.VFS):
    """Files that are not read beyond their end.

    SQLite reads missing data as zeros, so a message could end in zeros unnoticed.
    """

    vfs_name = 'dmd3c_ros_whole_reads'

    def __init__(self) -> None:
        super().__init__(self.vfs_name, '')

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _WholeReadsFile('', name, flags)


class _WholeReadsFile(apsw.VFSFile):
    def xRead(self, amount: int, offset: int) -> bytes:
        data = super().xRead(amount, offset)
        if len(data) < amount:
            raise apsw.IOError(f'{amount} bytes at {offset}: the file ends before that')
        return data


# SQLite knows it by its name as long as it lives.
_whole_reads = functools.cache(_WholeReads)


def scan_sqlite(path: Path) -> Iterator[Message]:
    """Messages of a sqlite3 bag whose pages are complete, in order of recording."""
    uri, vfs = f'{path.resolve().as_uri()}?immutable=1', _whole_reads().vfs_name
    try:
        connection = apsw.Connection(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs)
    except apsw.Error:
        return
    try:
        # Without this, SQLite refuses a file that is shorter than its header says.
        connection.execute('PRAGMA writable_schema=ON')
        channels = _sqlite_channels(connection)
        for number in _sqlite_rows(connection):
            try:
                (row,) = connection.execute(_MESSAGE_ROW, (number,))
            except apsw.Error:
                continue
            topic, time_ns, data = row
            if topic in channels and isinstance(data, bytes):
                yield channels[topic], time_ns, data
    except apsw.Error:
        # Cut before the list of the topics ends: nothing can be read.
        return
    finally:
        connection.close()


def _sqlite_rows(connection: apsw.Connection) -> Iterator[int]:
    """Row numbers of the messages as far as the table exists; an index may end earlier."""
    with suppress(apsw.Error):
        for (number,) in connection.execute('SELECT rowid FROM messages NOT INDEXED'):
            yield number


def _sqlite_channels(connection: apsw.Connection) -> dict[int, Channel]:
    columns = {row[1] for row in connection.execute('PRAGMA table_info(topics)')}
    qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
    definitions = {}
    # Older recordings have no such table; if it is truncated, the types of ROS 2 itself are used.
    with suppress(apsw.Error):
        query = 'SELECT topic_type, encoded_message_definition FROM message_definitions'
        for kind, text in connection.execute(query):
            definitions[kind] = text
    return {
        number: Channel(
            name, kind, definitions.get(kind, ''), tuple(parse_qos(text)) if text else ()
        )
        for number, name, kind, text in connection.execute(
            f'SELECT id, name, type, {qos} FROM topics'
        )
    }
