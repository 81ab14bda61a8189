"""PCD point clouds of the Point Cloud Library: ascii, binary and binary_compressed."""

from io import BytesIO
from pathlib import Path

import numpy as np

_KINDS = {'F': 'f', 'I': 'i', 'U': 'u'}
_COLOURED = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<u4')])


def read_pcd(path: str | Path) -> np.ndarray:
    """Read the points as a structured array (N,) with the file's field names."""
    data = Path(path).read_bytes()
    start = data.find(b'\nDATA ')
    if start < 0:
        raise ValueError(f'{path}: expected a PCD file, found no DATA line')
    end = data.find(b'\n', start + 1)
    end = len(data) if end < 0 else end
    header = _parse_header(data[:end].decode('ascii', errors='replace'))
    try:
        dtype, count = _dtype(header), int(header['POINTS'][0])
        layout = header['DATA'][0]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f'{path}: bad PCD header: {error}') from error
    body = data[end + 1 :]
    if layout == 'ascii':
        return _read_text(body, dtype, count, path)
    if layout == 'binary':
        return _from_bytes(body, dtype, count, path)
    if layout == 'binary_compressed':
        return _read_compressed(body, dtype, count, path)
    raise ValueError(f'{path}: expected DATA ascii, binary or binary_compressed, got {layout!r}')


def pcd_bytes(points: np.ndarray, colors: np.ndarray) -> bytes:
    """A binary PCD of points (N, 3) in m with colours (N, 3) uint8 RGB, packed as PCL does."""
    cloud = np.empty(len(points), _COLOURED)
    for axis, name in enumerate('xyz'):
        cloud[name] = points[:, axis]
    red, green, blue = colors.astype(np.uint32).T
    cloud['rgb'] = red << 16 | green << 8 | blue
    header = (
        'VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n'
        f'WIDTH {len(cloud)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(cloud)}\n'
        'DATA binary\n'
    )
    return header.encode('ascii') + cloud.tobytes()


def _parse_header(text: str) -> dict[str, list[str]]:
    lines = (line.split() for line in text.splitlines() if not line.startswith('#'))
    return {words[0]: words[1:] for words in lines if words}


def _dtype(header: dict[str, list[str]]) -> np.dtype:
    names = header['FIELDS']
    counts = header.get('COUNT', ['1'] * len(names))
    fields = []
    rows = zip(names, header['SIZE'], header['TYPE'], counts, strict=True)
    for index, (name, size, kind, count) in enumerate(rows):
        # PCL writes padding as fields all named '_'; a structured type needs them apart.
        unique = f'_{index}' if name == '_' else name
        item = f'<{_KINDS[kind]}{size}'
        fields.append((unique, item) if count == '1' else (unique, item, (int(count),)))
    return np.dtype(fields)


def _read_text(body: bytes, dtype: np.dtype, count: int, path: str | Path) -> np.ndarray:
    if count == 0:
        return np.zeros(0, dtype)
    try:
        points = np.loadtxt(BytesIO(body), dtype, ndmin=1)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if len(points) != count:
        raise ValueError(f'{path}: expected {count} points, got {len(points)}')
    return points


def _from_bytes(body: bytes, dtype: np.dtype, count: int, path: str | Path) -> np.ndarray:
    if len(body) < count * dtype.itemsize:
        raise ValueError(
            f'{path}: expected {count} points of {dtype.itemsize} bytes, got {len(body)} bytes'
        )
    return np.frombuffer(body, dtype, count)


def _read_compressed(body: bytes, dtype: np.dtype, count: int, path: str | Path) -> np.ndarray:
    """Undo the compression; inside it, the values lie field by field, not point by point."""
    sizes = np.frombuffer(body[:8], '<u4')
    if len(sizes) != 2 or len(body) < 8 + sizes[0] or sizes[1] != count * dtype.itemsize:
        raise ValueError(f'{path}: the compressed block does not fit the PCD header')
    plain = _expand_lzf(body[8 : 8 + int(sizes[0])], int(sizes[1]), path)
    points, offset = np.empty(count, dtype), 0
    for name in dtype.names:
        column = np.frombuffer(plain, dtype[name].base, points[name].size, offset)
        points[name] = column.reshape(points[name].shape)
        offset += column.nbytes
    return points


def _expand_lzf(packed: bytes, size: int, path: str | Path) -> bytes:
    """Decompress LZF: runs of literal bytes and references to earlier output.

    A control byte below 32 announces that many literals plus one. Otherwise its top three bits
    are the length less two (7: a further byte adds to it) and its low five bits with the next
    byte are how far back the copy starts, less one.
    """
    plain, position = bytearray(), 0
    try:
        while position < len(packed):
            control = packed[position]
            position += 1
            if control < 32:
                plain += packed[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[position]
                position += 1
            start = len(plain) - ((control & 31) << 8) - packed[position] - 1
            position += 1
            _copy_back(plain, start, length + 2)
    except IndexError as error:
        raise ValueError(f'{path}: the compressed block is truncated') from error
    if len(plain) != size:
        raise ValueError(f'{path}: expected {size} bytes after expansion, got {len(plain)}')
    return bytes(plain)


def _copy_back(plain: bytearray, start: int, length: int) -> None:
    """Append `length` bytes from `start` on; a copy longer than its distance repeats itself."""
    if start < 0:
        raise IndexError('reference before the start')
    seed = plain[start : start + length]
    repeats = -(-length // len(seed))
    plain += (seed * repeats)[:length]
