"""Rows of a SQLite table in a file whose end is missing.

SQLite itself takes a page beyond the end for zeros where it is the last one of a long value, so a
message would end in zeros unnoticed. Here a row counts only if all its pages are there. Format:
"Database File Format", sqlite.org/fileformat2.html, sections 1.3, 1.6 and 2.1.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_INTERIOR, _LEAF = 0x05, 0x0D
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_BLOB = 12


class MissingPageError(Exception):
    """A page that the file does not have, or that makes no sense."""


class CutDatabase:
    """A SQLite file, open for reading page by page; to be closed."""

    def __init__(self, path: Path) -> None:
        with path.open('rb') as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(self._data[16:18], 'big')
        self._size = 65536 if size == 1 else size
        self._usable = self._size - self._data[20]

    def close(self) -> None:
        """Close the file."""
        self._data.close()

    def rows(self, root: int) -> Iterator[list[int | bytes | None]]:
        """Values of every whole row of the table whose tree starts at page `root`, by rowid.

        The rowid stands where a column is its alias (the value None of the first column).
        """
        waiting, seen = [root], set()
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            try:
                kind, body, start = self._page(number)
                if kind == _INTERIOR:
                    waiting += reversed(self._children(body, start))
                    continue
                cells = self._pointers(body, start, 8)
            except (MissingPageError, IndexError):
                continue
            for cell in cells:
                try:
                    yield self._row(body, cell)
                except (MissingPageError, IndexError):
                    continue

    def _page(self, number: int) -> tuple[int, bytes, int]:
        """Kind and bytes of a page of the tree, and where its header starts."""
        body = self._bytes(number)
        start = 100 if number == 1 else 0
        if body[start] not in (_INTERIOR, _LEAF):
            raise MissingPageError(number)
        return body[start], body, start

    def _bytes(self, number: int) -> bytes:
        body = self._data[(number - 1) * self._size : number * self._size] if number else b''
        if len(body) < self._size:
            raise MissingPageError(number)
        return body

    @staticmethod
    def _pointers(body: bytes, start: int, header: int) -> list[int]:
        count = int.from_bytes(body[start + 3 : start + 5], 'big')
        first = start + header
        return [
            int.from_bytes(body[place : place + 2], 'big')
            for place in range(first, first + 2 * count, 2)
        ]

    def _children(self, body: bytes, start: int) -> list[int]:
        cells = self._pointers(body, start, 12)
        children = [int.from_bytes(body[cell : cell + 4], 'big') for cell in cells]
        return [*children, int.from_bytes(body[start + 8 : start + 12], 'big')]

    def _row(self, body: bytes, cell: int) -> list[int | bytes | None]:
        size, place = _varint(body, cell)
        rowid, place = _varint(body, place)
        values = _values(self._payload(body, place, size))
        return [rowid if values[0] is None else values[0], *values[1:]]

    def _payload(self, body: bytes, place: int, size: int) -> bytes:
        """A cell's bytes: those on the page and those on the chain of overflow pages."""
        largest = self._usable - 35
        if size <= largest:
            return body[place : place + size]
        smallest = (self._usable - 12) * 32 // 255 - 23
        local = smallest + (size - smallest) % (self._usable - 4)
        local = local if local <= largest else smallest
        parts, left = [body[place : place + local]], size - local
        number = int.from_bytes(body[place + local : place + local + 4], 'big')
        while left > 0:
            page = self._bytes(number)
            parts.append(page[4 : 4 + min(left, self._usable - 4)])
            left -= len(parts[-1])
            number = int.from_bytes(page[:4], 'big')
        return b''.join(parts)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """An integer of one to nine bytes, and where it ends."""
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    return value << 8 | data[place + 8], place + 9


def _values(payload: bytes) -> list[int | bytes | None]:
    """The columns of a record; text and blobs as bytes, floating-point numbers as their bytes."""
    end, place = _varint(payload, 0)
    values: list[int | bytes | None] = []
    start = end
    while place < end:
        kind, place = _varint(payload, place)
        if kind in (8, 9):
            values.append(kind - 8)
        elif kind == 0:
            values.append(None)
        elif kind < len(_INTEGER_BYTES):
            size = _INTEGER_BYTES[kind]
            values.append(int.from_bytes(payload[start : start + size], 'big', signed=True))
            start += size
        else:
            size = 8 if kind == 7 else (kind - _BLOB) // 2
            values.append(payload[start : start + size])
            start += size
    if start > len(payload) or not values:
        raise MissingPageError(0)
    return values
