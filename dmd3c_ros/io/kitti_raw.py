"""KITTI raw drives: synchronized and rectified images with Velodyne sweeps.

Layout, as the benchmark ships it (Geiger et al., "Vision meets robotics", IJRR 2013)::

    2011_09_26/calib_cam_to_cam.txt  calib_velo_to_cam.txt
    2011_09_26/2011_09_26_drive_0001_sync/image_02/{timestamps.txt,data/0000000000.png}
    2011_09_26/2011_09_26_drive_0001_sync/velodyne_points/{timestamps.txt,data/0000000000.bin}
"""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .images import read_rgb
from .kitti_calibration import (
    CAM_TO_CAM,
    CAMERAS,
    VELO_TO_CAM,
    read_rigid_transform,
    rectified_camera,
)

SWEEP_FIELDS = ('x', 'y', 'z', 'reflectance')
"""The float32 numbers of a point in a sweep's file."""
_NAMED_AT_MOST = 10
# No LiDAR on a vehicle reaches so far, m.
_FARTHEST = 1000.0
# Of the points; a garbled few are no reason to refuse a whole sweep.
_MAY_BE_WRONG = 0.001
_log = logging.getLogger(__name__)


class KittiFrame(NamedTuple):
    """One image with its sweep."""

    name: str
    """File name without suffix, such as '0000000000'."""
    stamp_ns: int
    """Time of the image since 1970, the drive's own clock read as UTC."""
    points_stamp_ns: int
    """Time at which the turning laser faced forward."""
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    points: np.ndarray
    """(N, 4) float32: x, y, z in m in the Velodyne's frame (x forward, z up), reflectance 0..1."""


class KittiDrive:
    """The frames of one drive that have both an image and a sweep, in order.

    `camera` is the rectified one of P_rect_0X, and `T_camera_lidar` (4, 4) takes Velodyne points
    into its own frame, in which depth is measured: over camera 0's, R_rect_00 and P_rect_0X's
    fourth column.
    `missing` names what one side lacks. Raises FileNotFoundError and ValueError naming the file.
    """

    def __init__(self, path: str | Path, camera: str = 'image_02'):
        if camera not in CAMERAS:
            raise ValueError(f'expected a camera of {", ".join(CAMERAS)}, got {camera!r}')
        self.path = Path(path)
        images = _files(self.path / camera / 'data', ('.png', '.jpg'))
        sweeps = _files(self.path / 'velodyne_points' / 'data', ('.bin',))
        self.missing = _unpaired(self.path, camera, images, sweeps)
        self.names = sorted(images.keys() & sweeps.keys())
        if not self.names:
            raise ValueError(f'{self.path}: no image in {camera} has a sweep of the same name')
        self._images, self._sweeps = images, sweeps
        self._image_stamps = read_stamps(self.path / camera / 'timestamps.txt', images)
        self._sweep_stamps = read_stamps(self.path / 'velodyne_points' / 'timestamps.txt', sweeps)
        of_the_rig = rectified_camera(self.calibration(CAM_TO_CAM), camera)
        T_camera0_lidar = read_rigid_transform(self.calibration(VELO_TO_CAM))
        self.camera = of_the_rig.rectified
        self.T_camera_lidar = of_the_rig.T_rectified @ T_camera0_lidar

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> KittiFrame:
        name = self.names[index]
        rgb = read_rgb(self._images[name])
        size = (self.camera.height, self.camera.width)
        if rgb.shape[:2] != size:
            raise ValueError(
                f'{self._images[name]}: expected {size[1]}x{size[0]} as in the calibration, '
                f'got {rgb.shape[1]}x{rgb.shape[0]}'
            )
        return KittiFrame(
            name,
            self._image_stamps[name],
            self._sweep_stamps[name],
            rgb,
            read_sweep(self._sweeps[name]),
        )

    def __iter__(self) -> Iterator[KittiFrame]:
        return (self[index] for index in range(len(self)))

    @property
    def sweep_names(self) -> tuple[str, ...]:
        """Names of all sweeps, those without an image too."""
        return tuple(self._sweeps)

    def stamp_ns(self, index: int) -> int:
        """Time of a frame's image, without reading the frame."""
        return self._image_stamps[self.names[index]]

    def calibration(self, name: str) -> Path:
        """The file in the drive's folder, or in one of the two folders above."""
        drive = self.path.resolve()
        folders = (drive, drive.parent, drive.parent.parent)
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(
            f'{name}: expected in {folders[1]} (also looked in {folders[0]} and {folders[2]})'
        )


def read_sweep(path: str | Path) -> np.ndarray:
    """Read a Velodyne .bin file as (N, 4) float32: x, y, z in m, reflectance.

    Raises FileNotFoundError, or ValueError for a file of another layout.
    """
    data = Path(path).read_bytes()
    if len(data) % 16:
        raise ValueError(f'{path}: expected 4 float32 a point, got {len(data)} bytes')
    points = np.frombuffer(data, '<f4').reshape(-1, 4).copy()
    fault = misreading(points)
    if fault:
        raise ValueError(f'{path}: expected x, y, z, reflectance as float32: {fault}')
    return points


def misreading(points: np.ndarray) -> str:
    """Why points (N, 4 or more) cannot be x, y, z (m), reflectance; else ''.

    A file of another layout, read as this one, has coordinates where the reflectance should be.
    """
    if not len(points):
        return ''
    with np.errstate(invalid='ignore', over='ignore'):
        far = ~(np.abs(points[:, :3]) < _FARTHEST).all(axis=1)
        # Unmeasured points are NaN, or stand at the origin.
        far &= ~np.isnan(points[:, :3]).any(axis=1)
        negative = points[:, 3] < 0
    if far.mean() > _MAY_BE_WRONG:
        return f'{far.mean():.0%} of the points are more than {_FARTHEST:g} m away'
    if negative.mean() > _MAY_BE_WRONG:
        return f'{negative.mean():.0%} of the reflectances are negative'
    return ''


def ring_indices(points: np.ndarray) -> np.ndarray:
    """Laser index (N,) int of each point of a whole sweep, top laser first.

    KITTI keeps no laser numbers, but stores a sweep laser by laser, each turn starting ahead
    of the car (x > 0) where the azimuth passes from negative to positive.
    """
    azimuth_positive = points[:, 1] >= 0
    starts = azimuth_positive[1:] & ~azimuth_positive[:-1] & (points[1:, 0] > 0)
    return np.concatenate([np.zeros(min(1, len(points)), np.intp), np.cumsum(starts)])


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: expected the folder of a KITTI raw drive')
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in suffixes}
    if not files:
        raise FileNotFoundError(f'{folder}: expected {" or ".join(suffixes)} files, found none')
    return files


def _unpaired(drive: Path, camera: str, images: dict, sweeps: dict) -> tuple[str, ...]:
    """Name the frames that one side lacks, as paths inside the drive, and log them."""
    missing = [f'velodyne_points/data/{name}.bin' for name in sorted(images.keys() - sweeps)]
    missing += [f'{camera}/data/{name}.png' for name in sorted(sweeps.keys() - images)]
    if missing:
        named = ', '.join(missing[:_NAMED_AT_MOST])
        more = f' and {len(missing) - _NAMED_AT_MOST} more' * (len(missing) > _NAMED_AT_MOST)
        _log.warning('%s: %d frames skipped, without %s%s', drive.name, len(missing), named, more)
    return tuple(missing)


def read_stamps(path: Path, files: Collection[str]) -> dict[str, int]:
    """Time in ns of each of the files, named without suffix.

    Lines correspond to files in order; if the drive lacks files, as some of KITTI's own do, or was
    cut, the file's number is the line number.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: expected the time stamps of the drive')
    lines = path.read_text(encoding='ascii').split('\n')
    lines = [line.strip() for line in lines if line.strip()]
    names = sorted(files)
    rows = list(range(len(names))) if len(lines) == len(names) else _numbers(names, path)
    if max(rows) >= len(lines):
        raise ValueError(f'{path}: expected a line for {names[-1]}, got {len(lines)} lines')
    try:
        return {
            name: int(np.datetime64(lines[row], 'ns').astype(np.int64))
            for name, row in zip(names, rows, strict=True)
        }
    except ValueError as error:
        raise ValueError(
            f'{path}: expected lines like 2011-09-26 13:02:25.964389445: {error}'
        ) from error


def _numbers(names: list[str], path: Path) -> list[int]:
    if not all(name.isdigit() for name in names):
        raise ValueError(f'{path}: expected one line for each of {len(names)} files')
    return [int(name) for name in names]
