"""Point clouds from files of the common kinds."""

from pathlib import Path
from tokenize import TokenError

import numpy as np

from .kitti_raw import read_sweep
from .pcd import read_pcd
from .ply import read_ply, write_ply

__all__ = ['SUFFIXES', 'read_cloud', 'write_ply']

SUFFIXES = ('.bin', '.npy', '.pcd', '.ply')


def read_cloud(path: str | Path) -> np.ndarray:
    """Read the finite points of a cloud as (N, 3) float32 in the file's frame and unit (m).

    The suffix names the format: .bin as KITTI writes it (4 float32 a point), .npy of shape
    (N, 3 or more), .pcd and .ply with fields x, y, z. Raises FileNotFoundError, or ValueError
    naming the file for what does not parse.
    """
    path = Path(path)
    readers = {'.bin': read_sweep, '.npy': _read_npy, '.pcd': read_pcd, '.ply': read_ply}
    if path.suffix.lower() not in readers:
        raise ValueError(f'{path}: expected a cloud of {", ".join(SUFFIXES)}')
    points = readers[path.suffix.lower()](path)
    if points.dtype.names:
        points = _xyz(points, path)
    points = points[:, :3].astype(np.float32, copy=False)
    return points[np.isfinite(points).all(axis=1)]


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
