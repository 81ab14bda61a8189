"""Point clouds from files of the common kinds."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np

from .kitti_raw import SWEEP_FIELDS, misreading
from .pcd import pcd_bytes, read_pcd
from .ply import ply_bytes, read_ply, write_ply

__all__ = ['SUFFIXES', 'check_cloud_name', 'cloud_bytes', 'read_cloud', 'write_ply']

SUFFIXES = ('.bin', '.npy', '.pcd', '.ply')
_WRITERS = {'.pcd': pcd_bytes, '.ply': ply_bytes}
_NUSCENES_FIELDS = (*SWEEP_FIELDS, 'ring')


def read_cloud(path: str | Path, fields: Sequence[str] | None = None) -> np.ndarray:
    """Read the finite points of a cloud as (N, 3) float32 in the file's frame and unit (m).

    The suffix names the format: .bin (float32 numbers, nothing else), .npy of shape (N, 3 or
    more), .pcd and .ply with fields x, y, z. fields: names of the numbers of a point in a .bin
    file, x, y and z among them; without, those of KITTI (x, y, z, reflectance) or of nuScenes
    (NAME.pcd.bin: x, y, z, intensity, ring), by name, size and values. Raises FileNotFoundError,
    or ValueError naming the file if it cannot be parsed or is not a cloud.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        '.bin': partial(_read_bin, fields=fields),
        '.npy': _read_npy,
        '.pcd': read_pcd,
        '.ply': read_ply,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f'{path}: expected a cloud of {", ".join(SUFFIXES)}')
    if fields and path.suffix.lower() != '.bin':
        raise ValueError(f'{path}: already names its fields; field names are for .bin files only')
    points = readers[path.suffix.lower()](path)
    if points.dtype.names:
        points = _xyz(points, path)
    points = points[:, :3].astype(np.float32, copy=False)
    return points[np.isfinite(points).all(axis=1)]


def cloud_bytes(path: str | Path, points: np.ndarray, colors: np.ndarray) -> bytes:
    """A file of points (N, 3), m, with colours (N, 3) uint8 RGB, in the format of the suffix."""
    check_cloud_name(path)
    return _WRITERS[Path(path).suffix.lower()](points, colors)


def check_cloud_name(path: str | Path) -> None:
    """Raise ValueError for a name that does not end in the format of a cloud to write."""
    if Path(path).suffix.lower() not in _WRITERS:
        raise ValueError(f'{path}: expected a cloud to write, {" or ".join(_WRITERS)}')


def _read_bin(path: Path, fields: Sequence[str] | None) -> np.ndarray:
    """Points (N,) of a file that does not say what its numbers are."""
    data = path.read_bytes()
    if fields is not None:
        if not set('xyz') <= set(fields) or len(set(fields)) < len(fields):
            raise ValueError(
                f'{path}: expected fields x, y, z, each once, got {", ".join(fields)}'
            )
        return _as_points(data, fields, path)
    layouts = [SWEEP_FIELDS, _NUSCENES_FIELDS]
    if path.name.lower().endswith('.pcd.bin'):
        layouts.reverse()
    reasons = []
    for layout in layouts:
        try:
            points = _as_points(data, layout, path)
        except ValueError as error:
            reasons.append(str(error))
            continue
        fault = misreading(points.view('<f4').reshape(len(points), len(layout)))
        if not fault:
            return points
        reasons.append(f'{path}: as {len(layout)} float32 a point: {fault}')
    raise ValueError(
        f'{reasons[0]}; expected x, y, z, reflectance (KITTI) or x, y, z, intensity, ring '
        '(nuScenes); name other fields in their order'
    )


def _as_points(data: bytes, fields: Sequence[str], path: Path) -> np.ndarray:
    dtype = np.dtype([(name, '<f4') for name in fields])
    if len(data) % dtype.itemsize:
        raise ValueError(
            f'{path}: expected {len(fields)} float32 a point, got {len(data)} bytes, no multiple '
            f'of {dtype.itemsize}'
        )
    return np.frombuffer(data, dtype)


def _read_npy(path: Path) -> np.ndarray:
    try:
        points = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TokenError) as error:
        # NumPy parses the header as Python.
        raise ValueError(f'{path}: not an array file: {error}') from error
    if points.dtype.names:
        return points.ravel()
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in 'fiu':
        raise ValueError(
            f'{path}: expected numbers of shape (N, 3 or more), '
            f'got {points.dtype} of shape {points.shape}'
        )
    return points


def _xyz(points: np.ndarray, path: Path) -> np.ndarray:
    kinds = {name: points.dtype[name] for name in points.dtype.names}
    if not all(axis in kinds and kinds[axis].shape == () for axis in 'xyz'):
        raise ValueError(f'{path}: expected fields x, y, z, got {points.dtype}')
    return np.stack([points[axis].astype(np.float32) for axis in 'xyz'], axis=1)
