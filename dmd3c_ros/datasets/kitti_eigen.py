"""KITTI's split of Eigen et al. (NeurIPS 2014), with the ground truth of Uhrig et al. (3DV 2017).

What monocular networks are scored on. Below the root as for KITTI depth completion, with the list
of files that every repository of the field has (652 of its 697 frames have ground truth)::

    raw/DATE/{calib_cam_to_cam.txt,DRIVE/image_02/data/N.png}
    data_depth_annotated/{train,val}/DRIVE/proj_depth/groundtruth/image_02/N.png
    eigen_test_files_with_gt.txt
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import read_rgb
from dmd3c_ros.io.kitti_calibration import rectified_camera

from .files import first_folder
from .sample import DepthDataset, Sample

# Rows from and to, columns from and to, as fractions of the image.
CROPS = {
    'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'eigen': (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    'none': (0.0, 1.0, 0.0, 1.0),
}
_RAW = ('raw', 'kitti_raw', 'rawdata', 'raw_data')


class KittiEigen(DepthDataset):
    """Frames of a list that have ground truth; no points are given.

    root: folder of the layout above.
    files: the list, a path or a name in root; of each line the first word, the image's path below
        the raw recordings, counts.
    crop: ground truth outside does not count: 'garg' (of the field), 'eigen' or 'none'.
    Raises FileNotFoundError: a folder or the list is missing, or no frame has ground truth.
    Raises ValueError: unknown crop.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        files: str | Path = 'eigen_test_files_with_gt.txt',
        crop: str = 'garg',
    ) -> None:
        if crop not in CROPS:
            raise ValueError(f'crop: expected one of {", ".join(CROPS)}; got {crop!r}')
        root = Path(root)
        self._raw = first_folder(root, _RAW, 'KITTI Eigen')
        self._crop = CROPS[crop]
        path = root / files
        if not path.is_file():
            raise FileNotFoundError(f'KITTI Eigen: expected the list of files {path}')
        self._frames: list[tuple[Path, Path]] = []
        for line in path.read_text().splitlines():
            if not line.split():
                continue
            image = Path(line.split()[0])
            truth = _truth(root, image)
            if truth is not None:
                self._frames.append((self._raw / image, truth))
        if not self._frames:
            raise FileNotFoundError(
                f'KITTI Eigen: expected ground truth of the frames of {path} in '
                f'{root / "data_depth_annotated"}, found none'
            )

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        image, path = self._frames[index]
        rgb, truth = read_rgb(image), read_depth_png(path)
        height, width = truth.shape
        top, bottom, left, right = self._crop
        inside = np.zeros(truth.shape, bool)
        rows = slice(int(top * height), int(bottom * height))
        inside[rows, int(left * width) : int(right * width)] = True
        drive = image.parents[2]
        return Sample(
            name=f'{drive.name}_{image.parents[1].name}_{image.stem}',
            K=rectified_camera(drive.parent / 'calib_cam_to_cam.txt', image.parents[1].name).K,
            rgb=rgb,
            sparse=np.zeros_like(truth),
            truth=np.where(inside, truth, 0).astype(np.float32),
        )


def _truth(root: Path, image: Path) -> Path | None:
    """Ground truth of DATE/DRIVE/image_0N/data/N.png; None if the drive has none."""
    try:
        _, drive, camera, _, name = image.parts
    except ValueError:
        raise ValueError(
            f'KITTI Eigen: expected DATE/DRIVE/image_02/data/N.png in the list, got {image}'
        ) from None
    for split in ('val', 'train'):
        folder = root / 'data_depth_annotated' / split / drive / 'proj_depth/groundtruth'
        path = folder / camera / name
        if path.is_file():
            return path
    return None
