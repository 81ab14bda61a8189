"""Data sets of depth completion by their own layouts, opened by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from .bundles import Bundles
from .ddad import Ddad
from .diode import Diode
from .eth3d import Eth3d
from .kitti_depth import KittiDrives, KittiSelection
from .kitti_eigen import KittiEigen
from .lines import LINES, keep_lines, line_labels
from .nyu import Nyu
from .rings import DriveRings, FolderRings, open_rings
from .sample import DepthDataset, Sample
from .scannet import ScanNet
from .sets import SetFolders
from .void import Void

__all__ = [
    'DATASETS',
    'LINES',
    'Bundles',
    'Ddad',
    'DepthDataset',
    'Diode',
    'DriveRings',
    'Eth3d',
    'FolderRings',
    'KittiDrives',
    'KittiEigen',
    'KittiSelection',
    'Nyu',
    'Sample',
    'ScanNet',
    'SetFolders',
    'Void',
    'keep_lines',
    'line_labels',
    'open_dataset',
    'open_rings',
]

DATASETS: dict[str, tuple[Callable[..., DepthDataset], dict[str, object]]] = {
    'kitti-train': (KittiDrives, {'split': 'train'}),
    'kitti-val': (KittiDrives, {'split': 'val'}),
    'kitti-selection': (KittiSelection, {'split': 'selection'}),
    'kitti-test': (KittiSelection, {'split': 'test'}),
    'nyu-train': (Nyu, {'split': 'train'}),
    'nyu-train-whole': (Nyu, {'split': 'train', 'whole': True}),
    'nyu': (Nyu, {'split': 'val'}),
    'void': (Void, {}),
    'scannet': (ScanNet, {}),
    'ddad': (Ddad, {}),
    'dcverse': (Bundles, {}),
    'diode': (Diode, {}),
    'eth3d': (Eth3d, {}),
    'kitti-eigen': (KittiEigen, {}),
    'rings': (open_rings, {}),
    'folder': (SetFolders, {}),
}
"""Name to class and the settings that the name stands for."""


def open_dataset(name: str, root: str | Path, **options: object) -> DepthDataset:
    """Open a data set by name.

    name: one of DATASETS.
    root: its folder.
    options: settings of the class behind the name.
    Raises ValueError: unknown name, or an option that this data set does not have.
    Raises FileNotFoundError: something is missing; the message names it.
    """
    if name not in DATASETS:
        raise ValueError(f'dataset: expected one of {", ".join(DATASETS)}; got {name!r}')
    opener, fixed = DATASETS[name]
    known = _options(opener, Path(root)) - fixed.keys()
    unknown = options.keys() - known
    if unknown:
        raise ValueError(
            f'{name}: expected options among {", ".join(sorted(known)) or "none"}; '
            f'got {", ".join(sorted(unknown))}'
        )
    return opener(root, **fixed, **options)


def _options(opener: Callable[..., DepthDataset], root: Path) -> set[str]:
    if opener is open_rings:
        opener = DriveRings if (root / 'velodyne_points').is_dir() else FolderRings
    return set(inspect.signature(opener).parameters) - {'root'}
