"""KITTI depth completion (Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017).

Layout below the root, as the archives unpack::

    data_depth_annotated/{train,val}/DRIVE/proj_depth/groundtruth/image_0{2,3}/N.png
    data_depth_velodyne/{train,val}/DRIVE/proj_depth/velodyne_raw/image_0{2,3}/N.png
    raw/DATE/{calib_cam_to_cam.txt,DRIVE/image_0{2,3}/{data,disp}/N.png}
    depth_selection/val_selection_cropped/{image,velodyne_raw,groundtruth_depth,intrinsics}/
    depth_selection/test_depth_completion_anonymous/{image,velodyne_raw,intrinsics}/

`disp` holds the relative inverse depth of a monocular network, next to the images. The raw
recordings may also be called kitti_raw, rawdata or raw_data, and the selections may be in
data_depth_selection or in the root itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.io.calibration import read_intrinsics
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb
from dmd3c_ros.io.kitti_calibration import rectified_camera

from .files import files_by_name, first_folder, read_disparity, require_same
from .sample import DepthDataset, Sample

_RAW = ('raw', 'kitti_raw', 'rawdata', 'raw_data')
_SELECTION = ('val_selection_cropped',)
_TEST = ('test_depth_completion_anonymous',)
_PARENTS = ('depth_selection', 'data_depth_selection', '.')


class KittiDrives(DepthDataset):
    """The drives of the training or validation set: full frames with raw images.

    root: folder of the layout above.
    split: 'train' or 'val'.
    disparity: also read the monocular depth; it must then be there.
    Raises FileNotFoundError: a folder is missing, or frames of the ground truth lack a sweep.
    Raises ValueError: unknown split.
    """

    def __init__(self, root: str | Path, split: str = 'train', *, disparity: bool = False) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f'split: expected train or val, got {split!r}')
        what, root = f'KITTI {split}', Path(root)
        self._raw = first_folder(root, _RAW, what)
        self._truth = files_by_name(
            root / 'data_depth_annotated' / split, '*/proj_depth/groundtruth/image_0?/*.png', what
        )
        folder = root / 'data_depth_velodyne' / split
        sweeps = files_by_name(folder, '*/proj_depth/velodyne_raw/image_0?/*.png', what)
        self._sweeps = {_as_truth(name): path for name, path in sweeps.items()}
        require_same(self._truth, self._sweeps, folder, what)
        self._names = list(self._truth)
        self._disparity = disparity
        self._calibrations: dict[tuple[str, str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        drive, _, _, camera, frame = name.split('/')
        disparity = read_disparity(self.disparity_file(index)) if self._disparity else None
        return Sample(
            name=f'{drive}_{camera}_{frame}',
            K=self._intrinsics(drive.split('_drive_')[0], camera).copy(),
            rgb=self.image(index),
            sparse=read_depth_png(self._sweeps[name]),
            truth=read_depth_png(self._truth[name]),
            disparity=disparity,
        )

    def image(self, index: int) -> np.ndarray:
        """The image (H, W, 3) uint8 alone; errors name its file."""
        return read_rgb(self._raw_file(index, 'data'))

    def disparity_file(self, index: int) -> Path:
        """Where the monocular depth of a frame belongs."""
        return self._raw_file(index, 'disp')

    def _raw_file(self, index: int, kind: str) -> Path:
        drive, _, _, camera, frame = self._names[index].split('/')
        date = drive.split('_drive_')[0]
        return self._raw / date / drive / camera / kind / f'{frame}.png'

    def _intrinsics(self, date: str, camera: str) -> np.ndarray:
        if (date, camera) not in self._calibrations:
            path = self._raw / date / 'calib_cam_to_cam.txt'
            if not path.is_file():
                raise FileNotFoundError(f'{path}: expected the calibration of the drives of a day')
            self._calibrations[date, camera] = rectified_camera(path, camera).K
        return self._calibrations[date, camera]


class KittiSelection(DepthDataset):
    """The 1000 cropped frames that methods are compared on, or those of the anonymous test.

    root: folder of the layout above.
    split: 'selection', or 'test', which has no ground truth.
    Raises FileNotFoundError: a folder is missing, or frames lack a file in one of them.
    Raises ValueError: unknown split.
    """

    def __init__(self, root: str | Path, split: str = 'selection') -> None:
        if split not in ('selection', 'test'):
            raise ValueError(f'split: expected selection or test, got {split!r}')
        what = f'KITTI {split}'
        names = _SELECTION if split == 'selection' else _TEST
        folder = first_folder(Path(root), [f'{p}/{n}' for p in _PARENTS for n in names], what)
        self._images = files_by_name(folder / 'image', '*.png', what)
        kinds = {'velodyne_raw': '*.png', 'intrinsics': '*.txt'}
        if split == 'selection':
            kinds['groundtruth_depth'] = '*.png'
        self._files = {}
        for kind, pattern in kinds.items():
            files = files_by_name(folder / kind, pattern, what)
            files = {name.replace(f'_{kind}_', '_image_'): path for name, path in files.items()}
            require_same(self._images, files, folder / kind, what)
            self._files[kind] = files
        self.names = list(self._images)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        truth = self._files.get('groundtruth_depth')
        return Sample(
            name=name,
            K=read_intrinsics(self._files['intrinsics'][name]),
            rgb=read_rgb(self._images[name]),
            sparse=read_depth_png(self._files['velodyne_raw'][name]),
            truth=None if truth is None else read_depth_png(truth[name]),
        )


def _as_truth(name: str) -> str:
    """Name of a sweep as the ground truth's folders spell it."""
    return name.replace('/velodyne_raw/', '/groundtruth/')
