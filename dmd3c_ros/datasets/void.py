"""VOID (Wong et al., "Unsupervised depth completion from visual inertial odometry", RA-L 2020).

Layout below the root::

    void_1500/{train,test}_{image,sparse_depth,ground_truth,intrinsics,...}.txt
    void_1500/data/SEQUENCE/{image,sparse_depth,ground_truth}/TIME.png
    void_1500/data/SEQUENCE/K.txt

The lists name one file a line, such as void_1500/data/SEQUENCE/image/TIME.png. The densities are
1500, 500 and 150 points. Depth images are 16-bit with 256 units a metre.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dmd3c_ros.io.calibration import read_intrinsics
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb

from .sample import DepthDataset, Sample

DENSITIES = (1500, 500, 150)
_KINDS = ('image', 'sparse_depth', 'ground_truth', 'intrinsics')


class Void(DepthDataset):
    """Indoor frames with the points of visual-inertial odometry.

    root: void_release, or one of its densities.
    points: the density.
    split: 'test' or 'train'.
    Raises FileNotFoundError: a list is missing.
    Raises ValueError: unknown density or split, or lists of different lengths.
    """

    def __init__(self, root: str | Path, *, points: int = 1500, split: str = 'test') -> None:
        if points not in DENSITIES:
            raise ValueError(f'points: expected one of {DENSITIES}, got {points}')
        if split not in ('test', 'train'):
            raise ValueError(f'split: expected test or train, got {split!r}')
        root = Path(root)
        folder = root / f'void_{points}'
        self._folder = folder if folder.is_dir() else root
        lists = {kind: self._list(f'{split}_{kind}.txt') for kind in _KINDS}
        counts = {kind: len(entries) for kind, entries in lists.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f'{self._folder}: expected {split} lists of one length, got {counts}')
        self._frames = list(zip(*lists.values(), strict=True))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image, sparse, truth, intrinsics = (self._path(entry) for entry in self._frames[index])
        return Sample(
            name=f'{image.parent.parent.name}_{image.stem}',
            K=read_intrinsics(intrinsics),
            rgb=read_rgb(image),
            sparse=read_depth_png(sparse),
            truth=read_depth_png(truth),
        )

    def _list(self, name: str) -> list[str]:
        path = self._folder / name
        if not path.is_file():
            raise FileNotFoundError(f'VOID: expected the list {path}')
        lines = path.read_text(encoding='utf-8').splitlines()
        entries = [line.strip() for line in lines if line.strip()]
        if not entries:
            raise ValueError(f'{path}: expected a file name a line, found none')
        return entries

    def _path(self, entry: str) -> Path:
        """File of a list's entry; the lists count from different folders in different releases."""
        parts = PurePosixPath(entry).parts
        if 'data' not in parts:
            raise ValueError(f'{self._folder}: expected .../data/SEQUENCE/..., got {entry!r}')
        # The last one: some releases unpack below a folder that is called data itself.
        start = len(parts) - 1 - parts[::-1].index('data')
        return self._folder.joinpath(*parts[start:])
