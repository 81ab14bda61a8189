"""Miniature copies of the data sets, in their own layouts, from simulated drives.

They allow a first run, and the tests, without a download. Their images are small, and scores on
them only show that the workflow from files to a table works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.io.atomic import atomic_write, write_bytes, write_json
from dmd3c_ros.io.depth_png import write_depth_png
from dmd3c_ros.io.images import encode, write_rgb
from dmd3c_ros.simulation import PATTERNS, Frame, Rig, drive, lidar_mount

from .files import random_points

DATE = '2011_09_26'
DRIVE = f'{DATE}_drive_0001_sync'
SEQUENCE = 'simulated'
_LABELLED = 0.25
"""Fraction of the pixels with ground truth in the KITTI copy; about a fifth in the real one."""
_MAX_DEPTH = 80.0
_KITTI_WIDTH = 1242


def write_miniature(layout: str, root: str | Path, *, frames: int = 4, seed: int = 0) -> None:
    """Simulate a drive and write it in the layout of a data set.

    layout: one of LAYOUTS.
    root: folder to write to; made if missing.
    frames: how many.
    seed: of the scene.
    Raises ValueError: unknown layout, or no frame.
    Raises OSError: the disk.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout: expected one of {", ".join(LAYOUTS)}; got {layout!r}')
    if frames < 1:
        raise ValueError(f'frames: expected at least 1, got {frames}')
    kind, size, writer = LAYOUTS[layout]
    writer(Path(root), simulate(kind, size, frames, seed))


def simulate(kind: str, size: tuple[int, int], frames: int, seed: int = 0) -> list[Frame]:
    """Frames of a drive: images of this width and height, sweeps of a 64-line LiDAR.

    The LiDAR's steps are as much wider than KITTI's as the images are smaller, so that a sweep
    covers as little of them.
    """
    width, height = size
    # KITTI's field of view for wide images, that of an indoor depth camera for others.
    focal = 0.58 * width if width > 2 * height else 0.9 * width
    K = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    camera = Camera.from_K(K, width, height)
    pattern = PATTERNS['hdl64e']
    step = pattern.azimuth_step_deg * max(1.0, _KITTI_WIDTH / width)
    rig = Rig(camera, lidar_mount(), replace(pattern, azimuth_step_deg=step))
    return list(drive(seed, frames, rig, kind))


def write_kitti(root: Path, frames: Sequence[Frame]) -> None:
    """KITTI depth completion: train, val, selection and anonymous test, with the raw drive."""
    write_kitti_raw(root / 'raw', frames)
    rng = np.random.default_rng(0)
    selection = root / 'depth_selection' / 'val_selection_cropped'
    test = root / 'depth_selection' / 'test_depth_completion_anonymous'
    for index, frame in enumerate(frames):
        sparse, truth = _sparse(frame), _labels(frame, rng)
        for split in ('train', 'val'):
            for archive, kind, depth in (
                ('data_depth_velodyne', 'velodyne_raw', sparse),
                ('data_depth_annotated', 'groundtruth', truth),
            ):
                folder = root / archive / split / DRIVE / 'proj_depth' / kind / 'image_02'
                write_depth_png(folder / f'{index:010d}.png', depth)
        name = f'{DRIVE}_{{}}_{index:010d}_image_02'
        for kind, depth in (('velodyne_raw', sparse), ('groundtruth_depth', truth)):
            write_depth_png(selection / kind / f'{name.format(kind)}.png', depth)
        write_depth_png(test / 'velodyne_raw' / f'{index:010d}.png', sparse)
        for folder, stem in ((selection, name.format('image')), (test, f'{index:010d}')):
            write_rgb(folder / 'image' / f'{stem}.png', frame.rgb)
            _write_text(folder / 'intrinsics' / f'{stem}.txt', row(frame.camera.K))


def write_kitti_raw(root: Path, frames: Sequence[Frame]) -> None:
    """A KITTI raw drive with the relative inverse depth of a perfect monocular network."""
    folder, camera = root / DATE / DRIVE, frames[0].camera
    for index, frame in enumerate(frames):
        name = f'{index:010d}'
        write_rgb(folder / 'image_02' / 'data' / f'{name}.png', frame.rgb)
        encode(folder / 'image_02' / 'disp' / f'{name}.png', _disparity(frame.depth))
        sweep = _in_kitti_order(frame)
        write_bytes(folder / 'velodyne_points' / 'data' / f'{name}.bin', sweep.tobytes())
    stamps = [f'2011-09-26 13:02:{25 + frame.stamp_s:012.9f}' for frame in frames]
    for sensor in ('image_02', 'velodyne_points'):
        _write_text(folder / sensor / 'timestamps.txt', '\n'.join(stamps))
    _write_text(root / DATE / 'calib_cam_to_cam.txt', kitti_calibration(camera))
    T = frames[0].T_camera_lidar
    mount = f'R: {row(T[:3, :3])}\nT: {row(T[:3, 3])}'
    _write_text(root / DATE / 'calib_velo_to_cam.txt', mount)


def kitti_calibration(camera: Camera) -> str:
    """Text of calib_cam_to_cam.txt as far as rectified cameras 2 and 3 need it, both alike."""
    lines = [f'R_rect_00: {row(camera.R)}']
    for number in ('02', '03'):
        lines += [
            f'S_rect_{number}: {camera.width} {camera.height}',
            f'P_rect_{number}: {row(camera.P)}',
        ]
    return '\n'.join(lines)


def write_nyu(root: Path, frames: Sequence[Frame]) -> None:
    """NYU Depth V2 as h5 files; frames must be 640x480."""
    import h5py

    for split, scene in (('train', f'{SEQUENCE}_0001'), ('val', 'official')):
        for index, frame in enumerate(frames, start=1):
            path = root / split / scene / f'{index:05d}.h5'
            with atomic_write(path) as stream, h5py.File(stream, 'w') as file:
                file['rgb'] = frame.rgb.transpose(2, 0, 1)
                file['depth'] = frame.depth


def write_void(root: Path, frames: Sequence[Frame]) -> None:
    """VOID with 1500 points a frame."""
    folder = root / 'void_1500' / 'data' / SEQUENCE
    lists: dict[str, list[str]] = {}
    for index, frame in enumerate(frames):
        name = f'{frame.stamp_s:.4f}.png'
        sparse = random_points(frame.depth, 1500, np.random.default_rng(index))
        write_rgb(folder / 'image' / name, frame.rgb)
        write_depth_png(folder / 'sparse_depth' / name, sparse)
        write_depth_png(folder / 'ground_truth' / name, frame.depth)
        for kind in ('image', 'sparse_depth', 'ground_truth'):
            lists.setdefault(kind, []).append(f'void_1500/data/{SEQUENCE}/{kind}/{name}')
        lists.setdefault('intrinsics', []).append(f'void_1500/data/{SEQUENCE}/K.txt')
    _write_text(folder / 'K.txt', _rows(frames[0].camera.K))
    for split in ('train', 'test'):
        for kind, entries in lists.items():
            _write_text(root / 'void_1500' / f'{split}_{kind}.txt', '\n'.join(entries))


def write_scannet(root: Path, frames: Sequence[Frame]) -> None:
    """A ScanNet scan as its exporter unpacks it; images twice the size of the depth."""
    folder = root / 'scene0000_00'
    matrix = np.eye(4)
    matrix[:3, :3] = frames[0].camera.K
    _write_text(folder / 'intrinsic' / 'intrinsic_depth.txt', _rows(matrix))
    for index, frame in enumerate(frames):
        large = cv2.resize(frame.rgb, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        write_rgb(folder / 'color' / f'{index}.jpg', large)
        write_depth_png(folder / 'depth' / f'{index}.png', frame.depth, 1000.0)


def write_ddad(root: Path, frames: Sequence[Frame]) -> None:
    """A DDAD scene of one camera and the LiDAR."""
    folder, scene = root / '000000', 'scene_0123456789abcdef.json'
    data, samples = [], []
    for index, frame in enumerate(frames):
        name = f'{round(frame.stamp_s * 1e6):016d}'
        files = (f'rgb/CAMERA_01/{name}.png', f'point_cloud/LIDAR/{name}.npz')
        write_rgb(folder / files[0], frame.rgb)
        with atomic_write(folder / files[1]) as stream:
            np.savez(stream, data=frame.points)
        T_world_camera = frame.T_world_lidar @ np.linalg.inv(frame.T_camera_lidar)
        keys = (f'camera{index}', f'lidar{index}')
        data += [
            _datum(keys[0], 'CAMERA_01', 'image', files[0], T_world_camera),
            _datum(keys[1], 'LIDAR', 'point_cloud', files[1], frame.T_world_lidar),
        ]
        samples.append({'calibration_key': 'rig', 'datum_keys': list(keys)})
    camera = frames[0].camera
    lens = {'fx': camera.fx, 'fy': camera.fy, 'cx': camera.cx, 'cy': camera.cy, 'skew': 0.0}
    blind = dict.fromkeys(lens, 0.0)
    write_json(
        folder / 'calibration' / 'rig.json',
        {'names': ['LIDAR', 'CAMERA_01'], 'intrinsics': [blind, lens]},
    )
    write_json(folder / scene, {'data': data, 'samples': samples})
    split = {'filenames': [f'{folder.name}/{scene}']}
    write_json(root / 'ddad.json', {'scene_splits': {'0': split, '1': split}})


def write_bundles(root: Path, frames: Sequence[Frame]) -> None:
    """Bundles of one pickled .npy file a frame."""
    for index, frame in enumerate(frames):
        bundle = {
            'rgb': frame.rgb,
            'dep': random_points(frame.depth, 500, np.random.default_rng(index)),
            'gt': frame.depth,
            'K': frame.camera.K,
        }
        with atomic_write(root / f'{index:06d}.npy') as stream:
            np.save(stream, np.array(bundle, dtype=object), allow_pickle=True)


def write_folder(root: Path, frames: Sequence[Frame]) -> None:
    """Images and sparse depth in plain folders, as the rings protocol reads them."""
    for index, frame in enumerate(frames):
        write_rgb(root / 'image' / f'{index:06d}.png', frame.rgb)
        write_depth_png(root / 'sparse' / f'{index:06d}.png', _sparse(frame))
    _write_text(root / 'K.txt', _rows(frames[0].camera.K))


_STREET, _ROOM, _KINECT = (416, 128), (320, 240), (640, 480)
LAYOUTS: dict[str, tuple[str, tuple[int, int], Callable[[Path, Sequence[Frame]], None]]] = {
    'kitti': ('street', _STREET, write_kitti),
    'kitti-raw': ('street', _STREET, write_kitti_raw),
    'nyu': ('indoor', _KINECT, write_nyu),
    'void': ('indoor', _ROOM, write_void),
    'scannet': ('indoor', _ROOM, write_scannet),
    'ddad': ('street', _STREET, write_ddad),
    'dcverse': ('indoor', _ROOM, write_bundles),
    'folder': ('street', _STREET, write_folder),
}
"""Name to kind of scene, size of the images and writer."""


def _sparse(frame: Frame) -> np.ndarray:
    return project_points(frame.points, frame.T_camera_lidar, frame.camera)


def _labels(frame: Frame, rng: np.random.Generator) -> np.ndarray:
    """Semi-dense ground truth: exact depth below the highest laser, out to 80 m."""
    highest = int(np.flatnonzero(remove_hidden_points(_sparse(frame)).any(axis=1))[0])
    known = (frame.depth < _MAX_DEPTH) & (rng.random(frame.depth.shape) < _LABELLED)
    known[:highest] = False
    return np.where(known, frame.depth, np.float32(0))


def _disparity(depth: np.ndarray) -> np.ndarray:
    """Relative inverse depth, 8-bit: 255 at the nearest pixel, 0 at infinity."""
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0)
    return np.rint(255 * inverse / inverse.max()).astype(np.uint8)


def _in_kitti_order(frame: Frame) -> np.ndarray:
    """Sweep (N, 4) float32 laser by laser, each turn starting ahead at azimuth 0."""
    azimuth = np.mod(np.arctan2(frame.points[:, 1], frame.points[:, 0]), 2 * np.pi)
    order = np.lexsort((azimuth, frame.ring))
    reflectance = np.full((len(order), 1), 0.5, np.float32)
    return np.hstack([frame.points[order], reflectance]).astype('<f4')


def _datum(key: str, sensor: str, kind: str, file: str, T_world_sensor: np.ndarray) -> dict:
    x, y, z, w = Rotation.from_matrix(T_world_sensor[:3, :3]).as_quat().tolist()
    position = dict(zip('xyz', T_world_sensor[:3, 3].tolist(), strict=True))
    pose = {'rotation': {'qw': w, 'qx': x, 'qy': y, 'qz': z}, 'translation': position}
    return {'key': key, 'id': {'name': sensor}, 'datum': {kind: {'filename': file, 'pose': pose}}}


def row(matrix: np.ndarray) -> str:
    """Numbers of a matrix as text, none of them rounded."""
    return ' '.join(repr(value) for value in np.asarray(matrix, float).ravel().tolist())


def _rows(matrix: np.ndarray) -> str:
    return '\n'.join(map(row, matrix))


def _write_text(path: Path, text: str) -> None:
    write_bytes(path, f'{text}\n'.encode())
