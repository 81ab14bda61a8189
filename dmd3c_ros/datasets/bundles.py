"""Bundles of one .npy file a frame, as the zero-shot benchmarks DCVerse and OMNI-DC ship them.

Each is a pickled dictionary: `rgb` (H, W, 3) uint8, `dep` or `lidar` the sparse depth, `gt` or
`depth` the ground truth, both (H, W) in m, and `K` (3, 3) or (fx, fy, cx, cy).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import files_by_name
from .sample import DepthDataset, Sample

_SPARSE = ('dep', 'lidar')
_TRUTH = ('gt', 'depth')


class Bundles(DepthDataset):
    """Frames of a folder of bundles.

    root: folder of .npy files.
    allow_pickle: a pickle runs code when it is opened, so this must be allowed explicitly, and
        only for trusted files.
    Raises FileNotFoundError: no such folder, or no bundle in it.
    Raises ValueError: pickles are not allowed.
    """

    def __init__(self, root: str | Path, *, allow_pickle: bool = False) -> None:
        if not allow_pickle:
            raise ValueError(
                f'{root}: bundles are pickles, which run code when they are opened; allow it '
                'explicitly (--allow-pickle) if you trust where they come from'
            )
        self._files = list(files_by_name(Path(root), '*.npy', 'bundles').items())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        name, path = self._files[index]
        content = _read(path)
        return Sample(
            name=name,
            K=_intrinsics(_first(content, ('K',), path), path),
            rgb=_rgb(_first(content, ('rgb',), path), path),
            sparse=_depth(_first(content, _SPARSE, path), path),
            truth=_depth(_first(content, _TRUTH, path), path),
        )


def _read(path: Path) -> dict:
    try:
        content = np.load(path, allow_pickle=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # corrupt pickles may raise anything
        raise ValueError(f'{path}: expected a pickled dictionary: {error}') from error
    if content.shape != () or not isinstance(content.item(), dict):
        raise ValueError(f'{path}: expected a pickled dictionary, got an array {content.shape}')
    return content.item()


def _first(content: dict, keys: tuple[str, ...], path: Path) -> np.ndarray:
    for key in keys:
        if key in content:
            return np.asarray(content[key])
    raise ValueError(
        f'{path}: expected an entry {" or ".join(keys)}, got {", ".join(map(str, content))}'
    )


def _rgb(rgb: np.ndarray, path: Path) -> np.ndarray:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f'{path}: rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
    return rgb


def _depth(depth: np.ndarray, path: Path) -> np.ndarray:
    depth = np.squeeze(depth)
    if depth.ndim != 2:
        raise ValueError(f'{path}: expected depth (H, W), got {depth.shape}')
    known = np.isfinite(depth) & (depth > 0)
    return np.where(known, depth, 0).astype(np.float32)


def _intrinsics(K: np.ndarray, path: Path) -> np.ndarray:
    if K.shape == (4,):
        fx, fy, cx, cy = K
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    if K.shape != (3, 3):
        raise ValueError(f'{path}: K: expected (3, 3) or (fx, fy, cx, cy), got {K.shape}')
    return K.astype(np.float64)
