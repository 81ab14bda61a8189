"""One's own recording as a test set: hide a part of the sweep, complete the rest, score the part.

No ground truth is needed. Every second laser ring is hidden, or a random fraction of the points. A
hidden point counts if no nearer surface hides it from the camera, in the whole sweep as among the
hidden points, and if its pixel is not part of the input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.io.calibration import read_intrinsics
from dmd3c_ros.io.depth_png import quantized, read_depth_png
from dmd3c_ros.io.images import read_rgb
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices

from .files import files_by_name, require_same
from .lines import line_labels
from .sample import DepthDataset, Sample

_LEAST_DEPTH = 1.0
"""Nearer returns are the vehicle itself, m."""


class DriveRings(DepthDataset):
    """A KITTI raw drive with a part of each sweep hidden.

    root: folder of the drive.
    hide: fraction of the points to hide at random; None hides every second laser ring.
    camera: of the drive.
    seed: of the draws.
    Raises FileNotFoundError, ValueError: what KittiDrive raises, or a fraction outside 0..1.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        hide: float | None = None,
        camera: str = 'image_02',
        seed: int = 0,
    ) -> None:
        _check_fraction(hide)
        self._drive = KittiDrive(root, camera)
        self._hide, self._seed = hide, seed

    def __len__(self) -> int:
        return len(self._drive)

    def __getitem__(self, index: int) -> Sample:
        frame = self._drive[index]
        if self._hide is None:
            hidden = ring_indices(frame.points) % 2 == 1
        else:
            hidden = _draw(len(frame.points), self._hide, self._seed, index)
        sparse = self._project(frame.points[~hidden])
        truth = _truth(self._project(frame.points[hidden]), self._project(frame.points), sparse)
        return Sample(
            name=frame.name,
            K=self._drive.camera.K,
            rgb=frame.rgb,
            sparse=quantized(sparse),
            truth=quantized(truth),
        )

    def _project(self, points: np.ndarray) -> np.ndarray:
        drive = self._drive
        return project_points(points, drive.T_camera_lidar, drive.camera, _LEAST_DEPTH)


class FolderRings(DepthDataset):
    """A folder of images and sparse depth with a part of the depth held out.

    Layout: image/NAME.png or .jpg, sparse/NAME.png (16-bit, 256 units per metre), and the
    intrinsics of all of them in K.txt or of each in intrinsics/NAME.txt.

    root: the folder.
    hide: fraction of the points to hold out at random; None holds out every second line, as
        identified by elevation.
    lines: lines of the sensor.
    seed: of the draws.
    Raises FileNotFoundError: a folder or a file is missing.
    Raises ValueError: a fraction outside 0..1.
    """

    def __init__(
        self, root: str | Path, *, hide: float | None = None, lines: int = 64, seed: int = 0
    ) -> None:
        _check_fraction(hide)
        root, what = Path(root), 'rings'
        self._sparse = files_by_name(root / 'sparse', '*.png', what)
        self._images = files_by_name(root / 'image', '*.[pj][np]g', what)
        require_same(self._sparse, self._images, root / 'image', what)
        self._names = list(self._sparse)
        if (root / 'intrinsics').is_dir():
            self._intrinsics = files_by_name(root / 'intrinsics', '*.txt', what)
            require_same(self._sparse, self._intrinsics, root / 'intrinsics', what)
        elif (root / 'K.txt').is_file():
            self._intrinsics = dict.fromkeys(self._names, root / 'K.txt')
        else:
            raise FileNotFoundError(f'{what}: expected K.txt or the folder intrinsics in {root}')
        self._hide, self._lines, self._seed = hide, lines, seed

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        K = read_intrinsics(self._intrinsics[name])
        full = read_depth_png(self._sparse[name])
        if self._hide is None:
            hidden = line_labels(full, K, self._lines) % 2 == 1
        else:
            hidden = _draw(full.size, self._hide, self._seed, index).reshape(full.shape)
        sparse = np.where(hidden, np.float32(0), full)
        return Sample(
            name=name,
            K=K,
            rgb=read_rgb(self._images[name]),
            sparse=sparse,
            truth=_truth(np.where(hidden, full, np.float32(0)), full, sparse),
        )


def open_rings(root: str | Path, **options: object) -> DepthDataset:
    """DriveRings of a KITTI raw drive, FolderRings of any other folder."""
    is_drive = (Path(root) / 'velodyne_points').is_dir()
    return DriveRings(root, **options) if is_drive else FolderRings(root, **options)


def _check_fraction(hide: float | None) -> None:
    if hide is not None and not 0 < hide < 1:
        raise ValueError(f'hide: expected a fraction of more than 0 and less than 1, got {hide}')


def _draw(count: int, fraction: float, seed: int, index: int) -> np.ndarray:
    return np.random.default_rng((seed, index)).random(count) < fraction


def _truth(hidden: np.ndarray, full: np.ndarray, sparse: np.ndarray) -> np.ndarray:
    """Held-out points that the camera sees and whose pixel is not part of the input."""
    visible = (remove_hidden_points(full) > 0) & (sparse == 0)
    return np.where(visible, remove_hidden_points(hidden), np.float32(0))
