"""DDAD (Guizilini et al., CVPR 2020), in the format of TRI's Dataset Governance Policy.

Layout below the root::

    ddad.json                                   scene_splits: "0" train, "1" validation
    SCENE/scene_HASH.json                       samples and their data, with poses
    SCENE/calibration/HASH.json                 names, intrinsics, extrinsics
    SCENE/rgb/CAMERA_0X/TIME.png
    SCENE/point_cloud/LIDAR/TIME.npz            data: (N, 3 or more), LiDAR frame, m
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.core.transforms import rotation_from_quaternion
from dmd3c_ros.io.images import read_rgb

from .sample import DepthDataset, Sample

_SPLITS = {'train': '0', 'val': '1'}
_LIDAR = 'LIDAR'


@dataclass(frozen=True)
class _Frame:
    name: str
    image: Path
    cloud: Path
    calibration: Path
    T_camera_lidar: np.ndarray


class Ddad(DepthDataset):
    """Frames of one camera; a random part of the sweep is the input, the rest the ground truth.

    Image and sweep have poses at their own times, so the vehicle's motion between them is
    compensated.

    root: folder with ddad.json.
    split: 'val' or 'train'.
    camera: such as 'CAMERA_01', the front camera.
    fraction: of the points used as input, 0..1.
    seed: of the draws.
    Raises FileNotFoundError: ddad.json or a scene's file is missing.
    Raises ValueError: unknown split, fraction outside 0..1, incomplete files.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = 'val',
        *,
        camera: str = 'CAMERA_01',
        fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(f'split: expected one of {tuple(_SPLITS)}, got {split!r}')
        if not 0 < fraction < 1:
            raise ValueError(f'fraction: expected more than 0 and less than 1, got {fraction}')
        self._root = Path(root)
        self._camera, self._fraction, self._seed = camera, fraction, seed
        index = self._root / 'ddad.json'
        scenes = _entry(_read_json(index), index, 'scene_splits', _SPLITS[split], 'filenames')
        self._frames = [frame for scene in scenes for frame in self._scene(self._root / scene)]
        if not self._frames:
            raise ValueError(f'{index}: expected frames of {camera} with a sweep, found none')

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self._frames[index]
        rgb = read_rgb(frame.image)
        K = _intrinsics(frame.calibration, self._camera)
        camera = Camera.from_K(K, rgb.shape[1], rgb.shape[0])
        points = _read_cloud(frame.cloud)
        shown = np.random.default_rng((self._seed, index)).random(len(points)) < self._fraction
        full = remove_hidden_points(project_points(points, frame.T_camera_lidar, camera))
        sparse = project_points(points[shown], frame.T_camera_lidar, camera)
        return Sample(
            name=frame.name,
            K=K,
            rgb=rgb,
            sparse=sparse,
            truth=np.where(sparse > 0, np.float32(0), full),
        )

    def _scene(self, path: Path) -> list[_Frame]:
        """Frames of a scene that have an image of the camera and a sweep."""
        content = _read_json(path)
        data, samples = _entry(content, path, 'data'), _entry(content, path, 'samples')
        try:
            return self._paired({datum['key']: datum for datum in data}, samples, path)
        except KeyError as error:
            raise ValueError(f'{path}: expected an entry {error}') from error

    def _paired(self, data: dict[str, dict], samples: list[dict], path: Path) -> list[_Frame]:
        frames = []
        for sample in samples:
            here = [data[key] for key in sample['datum_keys'] if key in data]
            by_name = {datum['id']['name']: datum['datum'] for datum in here}
            if self._camera not in by_name or _LIDAR not in by_name:
                continue
            image, cloud = by_name[self._camera]['image'], by_name[_LIDAR]['point_cloud']
            file = path.parent / image['filename']
            frames.append(
                _Frame(
                    name=f'{path.parent.name}_{self._camera}_{file.stem}',
                    image=file,
                    cloud=path.parent / cloud['filename'],
                    calibration=path.parent / 'calibration' / f'{sample["calibration_key"]}.json',
                    T_camera_lidar=np.linalg.inv(_pose(image['pose'])) @ _pose(cloud['pose']),
                )
            )
        return frames


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f'DDAD: expected {path}')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: expected JSON: {error}') from error


def _entry(content: dict, path: Path, *keys: str):
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise ValueError(f'{path}: expected an entry {" > ".join(keys)}')
        content = content[key]
    return content


def _pose(pose: dict) -> np.ndarray:
    """T_world_sensor (4, 4)."""
    rotation, translation = pose['rotation'], pose['translation']
    T = np.eye(4)
    T[:3, :3] = rotation_from_quaternion([rotation[q] for q in ('qx', 'qy', 'qz', 'qw')])
    T[:3, 3] = [translation[axis] for axis in 'xyz']
    return T


def _intrinsics(path: Path, camera: str) -> np.ndarray:
    content = _read_json(path)
    names = _entry(content, path, 'names')
    if camera not in names:
        raise ValueError(f'{path}: expected {camera}, got {", ".join(names)}')
    lens = _entry(content, path, 'intrinsics')[names.index(camera)]
    fx, fy, cx, cy = (_entry(lens, path, key) for key in ('fx', 'fy', 'cx', 'cy'))
    return np.array([[fx, lens.get('skew', 0.0), cx], [0, fy, cy], [0, 0, 1.0]])


def _read_cloud(path: Path) -> np.ndarray:
    try:
        with np.load(path) as file:
            points = file['data']
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f'{path}: expected an npz with data: {error}') from error
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f'{path}: expected points (N, 3) or more columns, got {points.shape}')
    return points[:, :3].astype(np.float32)
