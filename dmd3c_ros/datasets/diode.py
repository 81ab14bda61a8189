"""DIODE (Vasiljevic et al., 2019) as its archive unpacks: laser scans of rooms and streets::

val/{indoors,outdoor}/scene_N/scan_N/{NAME.png,NAME_depth.npy,NAME_depth_mask.npy}

Images are 1024x768, depth float32 in m, the mask nonzero where depth is valid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.io.images import read_rgb

from .files import files_by_name, random_points, require_same
from .sample import DepthDataset, Sample

KINDS = ('indoors', 'outdoor')
# Of the authors' development kit, for all images.
_K = np.array([[886.81, 0, 512.0], [0, 927.06, 384.0], [0, 0, 1]])


class Diode(DepthDataset):
    """The validation set, whole or one half of it, with random points as input.

    root: folder with val/, or val/ itself.
    kind: 'indoors', 'outdoor', or empty for both.
    points: number of points given as input.
    seed: of the draws.
    Raises FileNotFoundError: a folder is missing or empty, or an image lacks depth or mask.
    Raises ValueError: unknown kind.
    """

    def __init__(
        self, root: str | Path, *, kind: str = '', points: int = 500, seed: int = 0
    ) -> None:
        if kind and kind not in KINDS:
            raise ValueError(f'kind: expected one of {KINDS}, got {kind!r}')
        root = Path(root)
        folder = root / 'val' if (root / 'val').is_dir() else root
        what = f'DIODE {kind}'.strip()
        if kind:
            folder = folder / kind
        depths = files_by_name(folder, '**/*_depth.npy', what)
        self._images = {
            name.removesuffix('_depth'): path.with_name(path.name.replace('_depth.npy', '.png'))
            for name, path in depths.items()
        }
        found = files_by_name(folder, '**/*.png', what)
        require_same(self._images, found, folder, what)
        self._names = list(self._images)
        self._points, self._seed = points, seed

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        path = self._images[name]
        rgb = read_rgb(path)
        depth = _array(path.with_name(f'{path.stem}_depth.npy'), rgb.shape[:2])
        mask = _array(path.with_name(f'{path.stem}_depth_mask.npy'), rgb.shape[:2])
        valid = (mask > 0) & np.isfinite(depth) & (depth > 0)
        truth = np.where(valid, depth, 0).astype(np.float32)
        rng = np.random.default_rng((self._seed, index))
        return Sample(
            name=name.replace('/', '_'),
            K=_K.copy(),
            rgb=rgb,
            sparse=random_points(truth, self._points, rng),
            truth=truth,
        )


def _array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """An array (H, W) from a file of (H, W) or (H, W, 1), without running any code in it."""
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f'{path}: expected an array of NumPy: {error}') from error
    if values.shape not in (shape, (*shape, 1)):
        raise ValueError(f'{path}: expected {shape} as the image, got {values.shape}')
    return values.reshape(shape)
