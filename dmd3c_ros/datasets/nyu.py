"""NYU Depth V2 (Silberman et al., ECCV 2012) as depth completion uses it.

The h5 files of Ma and Karaman ("Sparse-to-Dense", ICRA 2018), each with `rgb` (3, 480, 640) uint8
and `depth` (480, 640) float32 in m::

    train/SCENE/{00001.h5,disp/00001.png}
    val/official/00001.h5

`disp` holds the relative inverse depth of a monocular network, of whole images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera

from .files import files_by_name, random_points, read_disparity
from .sample import DepthDataset, Sample

_SIZE = (480, 640)
_HALF = (240, 320)
_CROP = (228, 304)
_TOP, _LEFT = ((half - crop) // 2 for half, crop in zip(_HALF, _CROP, strict=True))
_CAMERA = Camera.from_K(
    [[518.8579, 0, 325.5824], [0, 519.4696, 253.7362], [0, 0, 1]], _SIZE[1], _SIZE[0]
)


class Nyu(DepthDataset):
    """Halved images, cropped to 304x228 at the centre, with random points as input.

    The points of 'val' are those of BP-Net's and DMD3C's evaluation: one draw of pixels, the same
    for every image. Those of 'train' differ from image to image.

    root: folder with train/ and val/.
    split: 'train' or 'val'.
    points: number of points given as input.
    seed: of the draw.
    whole: the frames as they were recorded, 640x480, for training that rotates, scales and crops
        them itself.
    disparity: also read the monocular depth, which must then exist.
    Raises FileNotFoundError: a folder is missing or empty.
    Raises ImportError: h5py is not installed.
    Raises ValueError: unknown split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'val',
        *,
        points: int = 500,
        seed: int = 0,
        whole: bool = False,
        disparity: bool = False,
    ) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f'split: expected train or val, got {split!r}')
        _h5py()
        self._files = list(files_by_name(Path(root) / split, '**/*.h5', f'NYU {split}').items())
        self._split, self._points, self._seed = split, points, seed
        self._whole, self._disparity = whole, disparity

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        name, path = self._files[index]
        rgb, depth = _read(path)
        disparity = _of_size(self.disparity_file(index)) if self._disparity else None
        camera, truth = _CAMERA, depth
        if not self._whole:
            camera = _CAMERA.scaled(_HALF[1], _HALF[0]).crop(_LEFT, _TOP, _CROP[1], _CROP[0])
            rgb = np.rint(_evaluated(rgb)).astype(np.uint8)
            truth = _evaluated(depth)
            disparity = None if disparity is None else _evaluated(disparity)
        return Sample(
            name=name.replace('/', '_'),
            K=camera.K.copy(),
            rgb=np.ascontiguousarray(rgb),
            sparse=self._sparse(truth, index),
            truth=truth,
            disparity=disparity,
        )

    def image(self, index: int) -> np.ndarray:
        """The whole image (480, 640, 3) uint8 alone; errors name its file."""
        return np.ascontiguousarray(_read(self._files[index][1])[0])

    def disparity_file(self, index: int) -> Path:
        """Where the monocular depth of a frame belongs."""
        path = self._files[index][1]
        return path.parent / 'disp' / f'{path.stem}.png'

    def _sparse(self, truth: np.ndarray, index: int) -> np.ndarray:
        if self._split == 'train':
            return random_points(truth, self._points, np.random.default_rng((self._seed, index)))
        # NumPy's legacy generator, with which the published results were made.
        chosen = np.random.RandomState(self._seed).choice(truth.size, self._points, replace=False)
        sparse = np.zeros_like(truth)
        sparse.flat[chosen] = truth.flat[chosen]
        return sparse


def _evaluated(image: np.ndarray) -> np.ndarray:
    """The part of a whole image that is evaluated, at half the size: (228, 304, ...) float32."""
    window = np.s_[_TOP : _TOP + _CROP[0], _LEFT : _LEFT + _CROP[1]]
    return np.ascontiguousarray(_halved(image)[window])


def _of_size(path: Path) -> np.ndarray:
    disparity = read_disparity(path)
    if disparity.shape != _SIZE:
        raise ValueError(f'{path}: expected the size {_SIZE} of the image, got {disparity.shape}')
    return disparity


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
