"""NYU Depth V2 (Silberman et al., ECCV 2012) as depth completion uses it.

The h5 files of Ma and Karaman ("Sparse-to-Dense", ICRA 2018), each with `rgb` (3, 480, 640) uint8
and `depth` (480, 640) float32 in m::

    train/SCENE/00001.h5
    val/official/00001.h5
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera

from .files import files_by_name, random_points
from .sample import DepthDataset, Sample

_SIZE = (480, 640)
_HALF = (240, 320)
_CROP = (228, 304)
_CAMERA = Camera.from_K(
    [[518.8579, 0, 325.5824], [0, 519.4696, 253.7362], [0, 0, 1]], _SIZE[1], _SIZE[0]
)


class Nyu(DepthDataset):
    """Halved images, cropped to 304x228 at the centre, with random points as input.

    The points of 'val' are those of BP-Net's and DMD3C's evaluation: one draw of pixels, the same
    for every image. Those of 'train' differ from image to image.

    Args:
        root: folder with train/ and val/.
        split: 'train' or 'val'.
        points: number of points given as input.
        seed: of the draw.

    Raises:
        FileNotFoundError: a folder is missing or empty.
        ImportError: h5py is not installed.
        ValueError: unknown split.
    """

    def __init__(
        self, root: str | Path, split: str = 'val', *, points: int = 500, seed: int = 0
    ) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f'split: expected train or val, got {split!r}')
        _h5py()
        self._files = list(files_by_name(Path(root) / split, '**/*.h5', f'NYU {split}').items())
        self._split, self._points, self._seed = split, points, seed

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        name, path = self._files[index]
        rgb, depth = _read(path)
        top, left = (_HALF[0] - _CROP[0]) // 2, (_HALF[1] - _CROP[1]) // 2
        window = np.s_[top : top + _CROP[0], left : left + _CROP[1]]
        truth = np.ascontiguousarray(_halved(depth)[window])
        camera = _CAMERA.scaled(_HALF[1], _HALF[0]).crop(left, top, _CROP[1], _CROP[0])
        return Sample(
            name=name.replace('/', '_'),
            K=camera.K,
            rgb=np.ascontiguousarray(np.rint(_halved(rgb)[window]).astype(np.uint8)),
            sparse=self._sparse(truth, index),
            truth=truth,
        )

    def _sparse(self, truth: np.ndarray, index: int) -> np.ndarray:
        if self._split == 'train':
            return random_points(truth, self._points, np.random.default_rng((self._seed, index)))
        # NumPy's legacy generator: the published results are those of its draws.
        chosen = np.random.RandomState(self._seed).choice(truth.size, self._points, replace=False)
        sparse = np.zeros_like(truth)
        sparse.flat[chosen] = truth.flat[chosen]
        return sparse


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with _h5py().File(path, 'r') as file:
            rgb, depth = file['rgb'][:], file['depth'][:]
    except FileNotFoundError:
        raise
    except (OSError, KeyError) as error:
        raise ValueError(f'{path}: expected HDF5 with rgb and depth: {error}') from error
    if rgb.shape != (3, *_SIZE) or depth.shape != _SIZE:
        raise ValueError(
            f'{path}: expected rgb (3, 480, 640) and depth (480, 640), got {rgb.shape} and '
            f'{depth.shape}'
        )
    return rgb.transpose(1, 2, 0), depth.astype(np.float32)


def _halved(image: np.ndarray) -> np.ndarray:
    """Half the size, float32, with the triangle filter of an antialiased bilinear resize."""
    image = np.asarray(image, np.float32)
    for axis in (0, 1):
        image = np.moveaxis(_halved_rows(np.moveaxis(image, axis, 0)), 0, axis)
    return image


def _halved_rows(image: np.ndarray) -> np.ndarray:
    weights = np.array([1, 3, 3, 1], np.float32)
    pad = [(1, 1)] + [(0, 0)] * (image.ndim - 1)
    padded = np.pad(image, pad)
    inside = np.pad(np.ones(len(image), np.float32), 1)
    half = len(image) // 2
    parts = [slice(i, i + 2 * half, 2) for i in range(4)]
    total = sum(weight * padded[part] for weight, part in zip(weights, parts, strict=True))
    norm = sum(weight * inside[part] for weight, part in zip(weights, parts, strict=True))
    return total / norm.reshape(-1, *[1] * (image.ndim - 1))


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise ImportError('NYU Depth V2 is read with h5py: pip install h5py') from error
    return h5py
