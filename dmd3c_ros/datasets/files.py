"""Finding and reading a data set's files, with errors that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from dmd3c_ros.io.images import decode

_NAMED_AT_MOST = 3


def first_folder(root: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of the folders below root that exists.

    Raises FileNotFoundError: none does; names all that were looked for.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    raise FileNotFoundError(
        f'{what}: expected one of the folders {", ".join(candidates)} in {root}'
    )


def files_by_name(folder: Path, pattern: str, what: str) -> dict[str, Path]:
    """Files below a folder that match a pattern, by their path in it without suffix, sorted.

    Raises FileNotFoundError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{what}: expected the folder {folder}')
    files = {
        path.relative_to(folder).with_suffix('').as_posix(): path for path in folder.glob(pattern)
    }
    if not files:
        raise FileNotFoundError(f'{what}: expected {pattern} in {folder}, found none')
    return dict(sorted(files.items()))


def require_same(names: Iterable[str], others: dict[str, Path], folder: Path, what: str) -> None:
    """Raise FileNotFoundError, naming the first ones, if others lacks some of the names."""
    names = list(names)
    missing = [name for name in names if name not in others]
    if missing:
        shown = ', '.join(missing[:_NAMED_AT_MOST])
        more = ', ...' if len(missing) > _NAMED_AT_MOST else ''
        raise FileNotFoundError(
            f'{what}: {len(missing)} of {len(names)} frames have no file in {folder}: '
            f'{shown}{more}'
        )


def read_disparity(path: Path) -> np.ndarray:
    """Relative inverse depth (H, W) float32, 0 (far) to 1 (near), from an 8- or 16-bit image.

    Raises FileNotFoundError, ValueError: the file is missing or no such image.
    """
    values = decode(path, cv2.IMREAD_UNCHANGED)
    if values.ndim == 3:
        # Grey levels saved as colours: three equal channels.
        values = values[..., 0]
    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'{path}: expected an 8- or 16-bit image, got {values.dtype}')
    return values.astype(np.float32) / np.iinfo(values.dtype).max


def random_points(depth: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Depth (H, W) at `count` random known pixels, or at all of them if there are fewer."""
    known = np.flatnonzero(depth > 0)
    chosen = rng.choice(known, min(count, known.size), replace=False)
    sparse = np.zeros_like(depth)
    sparse.flat[chosen] = depth.flat[chosen]
    return sparse
