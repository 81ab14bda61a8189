"""ScanNet (Dai et al., CVPR 2017) as its own exporter unpacks a scan::

SCENE/color/N.jpg
SCENE/depth/N.png                     16-bit, mm
SCENE/intrinsic/intrinsic_depth.txt   4x4
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb

from .files import files_by_name, random_points, require_same
from .sample import DepthDataset, Sample

_MILLIMETRES = 1000.0


class ScanNet(DepthDataset):
    """Frames at the depth camera's size with random points of its depth as input.

    root: folder of scenes.
    points: number of points given as input.
    step: take every step-th frame of a scene.
    seed: of the draws.
    Raises FileNotFoundError: no scene, or depth without its image.
    Raises ValueError: a step below 1.
    """

    def __init__(
        self, root: str | Path, *, points: int = 500, step: int = 1, seed: int = 0
    ) -> None:
        if step < 1:
            raise ValueError(f'step: expected at least 1, got {step}')
        root = Path(root)
        scenes = sorted(path.parent for path in root.glob('*/depth') if path.is_dir())
        if not scenes:
            raise FileNotFoundError(f'ScanNet: expected SCENE/depth folders in {root}')
        self._frames: list[tuple[Path, Path]] = []
        for scene in scenes:
            what = f'ScanNet {scene.name}'
            depths = files_by_name(scene / 'depth', '*.png', what)
            colors = files_by_name(scene / 'color', '*.jpg', what)
            require_same(depths, colors, scene / 'color', what)
            # Frames are numbered without leading zeros.
            names = sorted(depths, key=lambda name: (len(name), name))[::step]
            self._frames += [(colors[name], depths[name]) for name in names]
        self._points, self._seed = points, seed

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        color, depth = self._frames[index]
        scene = depth.parent.parent
        truth = read_depth_png(depth, _MILLIMETRES)
        size = truth.shape[::-1]
        rng = np.random.default_rng((self._seed, index))
        return Sample(
            name=f'{scene.name}_{depth.stem}',
            K=_intrinsics(scene / 'intrinsic' / 'intrinsic_depth.txt'),
            rgb=cv2.resize(read_rgb(color), size, interpolation=cv2.INTER_AREA),
            sparse=random_points(truth, self._points, rng),
            truth=truth,
        )


def _intrinsics(path: Path) -> np.ndarray:
    try:
        matrix = np.loadtxt(path)
    except ValueError as error:
        raise ValueError(f'{path}: expected a 4x4 matrix: {error}') from error
    if matrix.shape not in ((4, 4), (3, 3)):
        raise ValueError(f'{path}: expected a 4x4 matrix, got {matrix.shape}')
    return matrix[:3, :3]
