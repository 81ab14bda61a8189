"""Frames of many sensors in one folder, a set for each sensor.

Layout::

    ROOT/SET/image/NAME.png     or .jpg, rectified
    ROOT/SET/sparse/NAME.png    the input: 16-bit, 256 units per metre, 0 = none
    ROOT/SET/truth/NAME.png     ground truth, as sparse
    ROOT/SET/K/NAME.txt         intrinsics, 9 numbers

ROOT may also be a single SET.
"""

from __future__ import annotations

from pathlib import Path

from dmd3c_ros.io.calibration import read_intrinsics
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb

from .files import files_by_name, require_same
from .sample import DepthDataset, Sample

_WHAT = 'folder'
_PARTS = {'image': '*.[pj][np]g', 'sparse': '*.png', 'K': '*.txt'}


class SetFolders(DepthDataset):
    """All frames of all sets, set by set; a sample's name is SET/NAME.

    root: the folder. Raises FileNotFoundError naming what is missing.
    """

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        found = sorted(path.parent for path in root.glob('*/truth'))
        if (root / 'truth').is_dir():
            found = [root]
        if not found:
            raise FileNotFoundError(f'{_WHAT}: expected {root}/SET/truth, found no such folder')
        self._frames: list[tuple[str, dict[str, Path]]] = []
        for folder in found:
            truth = files_by_name(folder / 'truth', '*.png', _WHAT)
            parts = {'truth': truth}
            for part, pattern in _PARTS.items():
                parts[part] = files_by_name(folder / part, pattern, _WHAT)
                require_same(truth, parts[part], folder / part, _WHAT)
            for name in truth:
                files = {part: paths[name] for part, paths in parts.items()}
                self._frames.append((f'{folder.name}/{name}', files))

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        name, files = self._frames[index]
        return Sample(
            name=name,
            K=read_intrinsics(files['K']),
            rgb=read_rgb(files['image']),
            sparse=read_depth_png(files['sparse']),
            truth=read_depth_png(files['truth']),
        )
