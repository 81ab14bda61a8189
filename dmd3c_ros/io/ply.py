"""PLY point clouds and meshes: the vertex element of text and binary files, triangles written.

Format: Greg Turk, "The PLY polygon file format", 1994.
"""

from io import BytesIO
from pathlib import Path

import numpy as np

from .atomic import write_bytes

_TYPES = {
    **dict.fromkeys(('char', 'int8'), 'i1'),
    **dict.fromkeys(('uchar', 'uint8'), 'u1'),
    **dict.fromkeys(('short', 'int16'), 'i2'),
    **dict.fromkeys(('ushort', 'uint16'), 'u2'),
    **dict.fromkeys(('int', 'int32'), 'i4'),
    **dict.fromkeys(('uint', 'uint32'), 'u4'),
    **dict.fromkeys(('float', 'float32'), 'f4'),
    **dict.fromkeys(('double', 'float64'), 'f8'),
}
_BYTE_ORDERS = {'binary_little_endian': '<', 'binary_big_endian': '>', 'ascii': '='}
_COLOURED = np.dtype(
    [('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('red', 'u1'), ('green', 'u1'), ('blue', 'u1')]
)
_TRIANGLE = np.dtype([('count', 'u1'), ('corners', '<i4', 3)])


def read_ply(path: str | Path) -> np.ndarray:
    """Read the vertices as a structured array (N,) with the file's property names."""
    data = Path(path).read_bytes()
    end = data.find(b'end_header')
    start = data.find(b'\n', end) + 1
    if not data.startswith(b'ply') or end < 0 or not start:
        raise ValueError(f'{path}: expected a PLY file, found no PLY header')
    header = data[:end].decode('ascii', errors='replace').splitlines()
    body = data[start:]
    layout, dtype, count = _parse_header(header, path)
    if layout == 'ascii':
        return _read_text(body, dtype, count, path)
    if len(body) < count * dtype.itemsize:
        raise ValueError(
            f'{path}: expected {count} points of {dtype.itemsize} bytes, got {len(body)} bytes'
        )
    return np.frombuffer(body, dtype, count)


def write_ply(
    path: str | Path, points: np.ndarray, colors: np.ndarray, triangles: np.ndarray | None = None
) -> None:
    """Write points (N, 3) in m with colours (N, 3) uint8 RGB as a binary PLY, atomically.

    triangles: (M, 3) int, of points, of a mesh.
    """
    try:
        data = ply_bytes(points, colors, triangles)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    write_bytes(path, data)


def ply_bytes(
    points: np.ndarray, colors: np.ndarray, triangles: np.ndarray | None = None
) -> bytes:
    """What `write_ply` writes."""
    if points.ndim != 2 or points.shape[1] != 3 or points.shape != colors.shape:
        raise ValueError(
            f'expected points (N, 3) and colors (N, 3), got {points.shape} and {colors.shape}'
        )
    vertices = np.empty(len(points), _COLOURED)
    for axis, name in enumerate(('x', 'y', 'z')):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(('red', 'green', 'blue')):
        vertices[name] = colors[:, channel]
    kinds = {'<f4': 'float', '|u1': 'uchar'}
    properties = [f'property {kinds[_COLOURED[name].str]} {name}' for name in _COLOURED.names]
    header = ['ply', 'format binary_little_endian 1.0', f'element vertex {len(points)}']
    faces = np.empty(0 if triangles is None else len(triangles), _TRIANGLE)
    if triangles is not None:
        properties += [f'element face {len(faces)}', 'property list uchar int vertex_indices']
        faces['count'], faces['corners'] = 3, triangles
    text = '\n'.join([*header, *properties, 'end_header', ''])
    return text.encode('ascii') + vertices.tobytes() + faces.tobytes()


def _parse_header(lines: list[str], path: str | Path) -> tuple[str, np.dtype, int]:
    """Return the layout, the vertex type and the number of vertices."""
    layout, element, count, properties = '', '', 0, []
    for line in lines:
        words = line.split()
        match words:
            case ['format', kind, *_]:
                layout = kind
            case ['element', name, number]:
                if not properties and element:
                    raise ValueError(f'{path}: expected vertices first, got {element!r} elements')
                if not number.isdecimal():
                    raise ValueError(f'{path}: expected a number of {name} elements: {line!r}')
                element = name
                count = int(number) if name == 'vertex' else count
            case ['property', kind, name] if element == 'vertex':
                if kind not in _TYPES:
                    raise ValueError(f'{path}: unknown type {kind!r} of property {name!r}')
                properties.append((name, kind))
            case ['property', 'list', *_] if element == 'vertex':
                raise ValueError(f'{path}: a list among the vertex properties is not supported')
    if layout not in _BYTE_ORDERS or not properties:
        raise ValueError(f'{path}: expected a format and vertex properties in the PLY header')
    order = _BYTE_ORDERS[layout]
    return layout, np.dtype([(name, order + _TYPES[kind]) for name, kind in properties]), count


def _read_text(body: bytes, dtype: np.dtype, count: int, path: str | Path) -> np.ndarray:
    if count == 0:
        return np.zeros(0, dtype)
    try:
        vertices = np.loadtxt(BytesIO(body), dtype, max_rows=count, ndmin=1)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if len(vertices) != count:
        raise ValueError(f'{path}: expected {count} points, got {len(vertices)}')
    return vertices
