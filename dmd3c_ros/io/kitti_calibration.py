"""Calibration files of KITTI: those of raw drives and the single ones of its benchmarks.

Raw drives have calib_cam_to_cam.txt and calib_velo_to_cam.txt. The object and tracking benchmarks
have one file a frame or a drive, with P0 to P3, R0_rect and Tr_velo_to_cam; odometry's calib.txt
has P0 to P3 and Tr, which goes to camera 0 as it is rectified (Geiger et al., CVPR 2012; their
development kits).

Each camera is that of its rectified image: the transforms from the LiDAR lead to that camera's own
rectified frame and include the rectifying rotation and P's fourth column.
"""

from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.transforms import transform

CAMERAS = ('image_00', 'image_01', 'image_02', 'image_03')
CAM_TO_CAM, VELO_TO_CAM = 'calib_cam_to_cam.txt', 'calib_velo_to_cam.txt'
# Names that the benchmarks use for the same.
_ROTATIONS = ('R0_rect', 'R_rect')
_SWEEPS = ('Tr_velo_to_cam', 'Tr_velo_cam', 'Tr')


def is_kitti(path: Path) -> bool:
    """Whether a text file has entries `key: numbers` with one of KITTI's keys."""
    keys = entries_of(path).keys()
    known = {'R', 'T'} <= keys or any(key.startswith('P_rect_') for key in keys)
    return known or 'P2' in keys


def has_extrinsics(path: Path) -> bool:
    """Whether a KITTI calibration file has LiDAR extrinsics besides its cameras."""
    return any(key in entries_of(path) for key in _SWEEPS)


def read_camera(path: Path, camera: str, width: int, height: int) -> Camera:
    """The rectified camera ('image_02', ...) of an image of this size, in its own frame.

    Raises ValueError naming what the file lacks, or the size that it is of.
    """
    if not any(key.startswith('P') for key in entries_of(path)):
        raise ValueError(f'{path}: has no camera; expected {CAM_TO_CAM} or a calib.txt')
    of_the_rig = _camera_of_rig(path, camera, width, height)
    if (of_the_rig.width, of_the_rig.height) != (width, height):
        raise ValueError(
            f'{path}: calibrated for {of_the_rig.width}x{of_the_rig.height}, the image has '
            f'{width}x{height}'
        )
    return of_the_rig.rectified


def read_extrinsics(path: Path, camera: str) -> np.ndarray:
    """T_camera_lidar (4, 4), m, into the rectified camera's own frame.

    For a raw drive's calib_velo_to_cam.txt, calib_cam_to_cam.txt must be in the same folder.
    Raises FileNotFoundError and ValueError naming what is missing.
    """
    entries = entries_of(path)
    if {'R', 'T'} <= entries.keys():
        cameras = path.with_name(CAM_TO_CAM)
        if not cameras.is_file():
            raise FileNotFoundError(
                f'{cameras}: expected next to {path.name}, which only transforms to the '
                'unrectified camera 0'
            )
        return _camera_of_rig(cameras, camera).T_rectified @ read_rigid_transform(path)
    for key in _SWEEPS:
        if key in entries:
            T_camera0_lidar = np.vstack([entry(entries, key, (3, 4), path), [0, 0, 0, 1]])
            return _camera_of_rig(path, camera).T_rectified @ T_camera0_lidar
    raise ValueError(
        f'{path}: has no LiDAR extrinsics; expected {VELO_TO_CAM} or a calib.txt with one '
        f'of {", ".join(_SWEEPS)}'
    )


def rectified_camera(path: Path, camera: str) -> Camera:
    """The camera ('image_02', ...) of a calib_cam_to_cam.txt, in camera 0's optical frame.

    Raises ValueError naming what the file lacks.
    """
    entries, number = entries_of(path), _number(camera)
    width, height = entry(entries, f'S_rect_{number}', (2,), path).astype(int)
    P = entry(entries, f'P_rect_{number}', (3, 4), path)
    # One rotation rectifies the whole rig: R_rect_00 turns camera 0, and every P_rect_0X
    # starts from camera 0's rectified frame.
    R = entry(entries, 'R_rect_00', (3, 3), path)
    return Camera.from_matrices(P, int(width), int(height), R)


def read_rigid_transform(path: Path) -> np.ndarray:
    """The transform (4, 4), m, of a calib_A_to_B.txt: T_B_A."""
    entries = entries_of(path)
    return transform(entry(entries, 'R', (3, 3), path), entry(entries, 'T', (3,), path))


def size_of(path: Path, camera: str) -> tuple[int, int] | None:
    """Width and height of the rectified image; None for the benchmarks' files, which lack it."""
    entries, key = entries_of(path), f'S_rect_{_number(camera)}'
    if key not in entries:
        return None
    width, height = entry(entries, key, (2,), path).astype(int)
    return int(width), int(height)


def _camera_of_rig(path: Path, camera: str, width: int = 1, height: int = 1) -> Camera:
    """The camera in camera 0's optical frame; width and height where the file has none."""
    entries, number = entries_of(path), _number(camera)
    if f'P_rect_{number}' in entries or 'P2' not in entries:
        return rectified_camera(path, camera)
    P = entry(entries, f'P{int(number)}', (3, 4), path)
    rotations = [key for key in _ROTATIONS if key in entries]
    R = entry(entries, rotations[0], (3, 3), path) if rotations else np.eye(3)
    return Camera.from_matrices(P, width, height, R)


def _number(camera: str) -> str:
    if camera not in CAMERAS:
        raise ValueError(f'expected a camera of {", ".join(CAMERAS)}, got {camera!r}')
    return camera[-2:]


def entries_of(path: Path) -> dict[str, np.ndarray]:
    """Entries `key: numbers` of a calibration file; others (the date) are ignored.

    The tracking benchmark omits the colon after some keys.
    """
    entries = {}
    for line in path.read_text(encoding='ascii', errors='replace').splitlines():
        key, _, text = line.strip().partition(' ')
        try:
            entries[key.rstrip(':')] = np.array(text.split(), dtype=np.float64)
        except ValueError:
            continue
    return entries


def entry(
    entries: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """The numbers of an entry in this shape; ValueError naming the file if they do not fit."""
    numbers = entries.get(key)
    if numbers is None or numbers.size != np.prod(shape):
        got = 'no such entry' if numbers is None else f'{numbers.size}'
        raise ValueError(f'{path}: expected {np.prod(shape)} numbers for {key}, got {got}')
    return numbers.reshape(shape)
