"""Intrinsics and extrinsics from the files that people have: text, YAML, KITTI's, calib.json."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.distortion import Distortion
from dmd3c_ros.core.transforms import rotation_from_quaternion, transform

from . import kitti_calibration, vlcal_calibration

_YAML = ('.yaml', '.yml')
_KITTI_CAMERA = 'image_02'
_KEYS_OF_POSE = {'translation', 'rotation'}


def read_intrinsics(path: str | Path) -> np.ndarray:
    """Read K (3, 3), pixels, from nine numbers in any arrangement.

    Covers a 3x3 text file and the one-line files of KITTI's depth selection.
    """
    K = _numbers(path, {9: (3, 3)})
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], [0, 0, 1])):
        raise ValueError(
            f'{path}: expected intrinsics [fx 0 cx; 0 fy cy; 0 0 1], got {K.tolist()}'
        )
    return K


def read_camera(
    path: str | Path, width: int, height: int, kitti_camera: str = _KITTI_CAMERA
) -> Camera:
    """Read the camera of a rectified image of this size.

    Text holds K (9 numbers) or P (12, row by row), or is a calibration file of KITTI with
    `kitti_camera` in it. YAML is the camera calibration file of ROS, of which `projection_matrix`
    and `rectification_matrix` count, and the size must agree. JSON is calib.json of
    direct_visual_lidar_calibration, whose K the rectified image keeps.
    """
    path = Path(path)
    R = None
    if path.suffix in _YAML:
        P, R = _matrices_from_yaml(path, width, height)
    elif path.suffix == '.json':
        P = np.hstack([vlcal_calibration.read_distortion(path).K, np.zeros((3, 1))])
    elif kitti_calibration.is_kitti(path):
        return kitti_calibration.read_camera(path, kitti_camera, width, height)
    else:
        numbers = _numbers(path, {9: (3, 3), 12: (3, 4)})
        P = np.eye(3, 4)
        P[:, : numbers.shape[1]] = numbers
    try:
        return Camera.from_matrices(P, width, height, R)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def image_size(path: str | Path, kitti_camera: str = _KITTI_CAMERA) -> tuple[int, int] | None:
    """Image width and height from a calibration file; None if it lacks them."""
    path = Path(path)
    if path.suffix in _YAML:
        content = _load_yaml(path)
        size = content.get('image_width'), content.get('image_height')
        return size if all(isinstance(side, int) for side in size) else None
    if path.suffix != '.json' and kitti_calibration.is_kitti(path):
        return kitti_calibration.size_of(path, kitti_camera)
    return None


def read_distortion(path: str | Path) -> Distortion | None:
    """Read how the raw image is distorted: a calibration file of ROS (YAML), or calib.json.

    None for text, which describes rectified images.
    """
    path = Path(path)
    if path.suffix == '.json':
        return vlcal_calibration.read_distortion(path)
    if path.suffix not in _YAML:
        return None
    content = _load_yaml(path)
    matrices = {key: value['data'] for key, value in content.items() if _is_matrix(value)}
    K = _vector(matrices, 'camera_matrix', 9, path).reshape(3, 3)
    try:
        D = np.array(matrices.get('distortion_coefficients', []), np.float64).ravel()
        return Distortion(str(content.get('distortion_model', '')), K, tuple(D))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error


def read_extrinsics(path: str | Path, kitti_camera: str = _KITTI_CAMERA) -> np.ndarray:
    """Read T_camera_lidar (4, 4): LiDAR frame -> camera's optical frame, metres.

    Text holds the 4x4 matrix or its first three rows, or is a calibration file of KITTI. YAML
    holds `translation: [x, y, z]` (m) with `rotation: [x, y, z, w]` (unit quaternion), or the
    parameters of a node with `T_camera_lidar`. JSON is calib.json of
    direct_visual_lidar_calibration.
    """
    path = Path(path)
    if path.suffix in _YAML:
        T = _pose_from_yaml(path)
    elif path.suffix == '.json':
        T = vlcal_calibration.read_extrinsics(path)
    elif kitti_calibration.is_kitti(path):
        T = kitti_calibration.read_extrinsics(path, kitti_camera)
    else:
        T = np.eye(4)
        rows = _numbers(path, {16: (4, 4), 12: (3, 4)})
        T[: len(rows)] = rows
    rotation_error = np.abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max()
    if (
        rotation_error > 1e-3
        or np.linalg.det(T[:3, :3]) < 0
        or not np.allclose(T[3], [0, 0, 0, 1])
    ):
        raise ValueError(f'{path}: expected a rotation and a translation, got {T.tolist()}')
    return T


def _numbers(path: str | Path, shapes: dict[int, tuple[int, int]]) -> np.ndarray:
    text = Path(path).read_text(encoding='utf-8', errors='replace').replace(',', ' ')
    expected = ' or '.join(map(str, shapes))
    try:
        numbers = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f'{path}: expected {expected} numbers: {error}') from error
    if numbers.size not in shapes:
        raise ValueError(f'{path}: expected {expected} numbers, got {numbers.size}')
    if not np.isfinite(numbers).all():
        wrong = numbers[~np.isfinite(numbers)][0]
        raise ValueError(f'{path}: expected finite numbers, got {wrong:g} among them')
    return numbers.reshape(shapes[numbers.size])


def _load_yaml(path: Path) -> dict:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected a mapping, got {type(content).__name__}')
    return content


def _vector(content: dict, key: str, size: int, path: Path) -> np.ndarray:
    try:
        vector = np.array(content[key], dtype=np.float64).ravel()
    except KeyError as error:
        raise ValueError(f'{path}: expected an entry {key!r}') from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {key}: expected {size} numbers: {error}') from error
    if vector.size != size:
        raise ValueError(f'{path}: {key}: expected {size} numbers, got {vector.size}')
    return vector


def _matrices_from_yaml(
    path: Path, width: int, height: int
) -> tuple[np.ndarray, np.ndarray | None]:
    content = _load_yaml(path)
    size = (content.get('image_width', width), content.get('image_height', height))
    if size != (width, height):
        raise ValueError(
            f'{path}: calibrated for {size[0]}x{size[1]}, the image has {width}x{height}'
        )
    matrices = {key: value['data'] for key, value in content.items() if _is_matrix(value)}
    P = _vector(matrices, 'projection_matrix', 12, path)
    R = None
    if 'rectification_matrix' in matrices:
        R = _vector(matrices, 'rectification_matrix', 9, path)
    return P, R


def _is_matrix(value: object) -> bool:
    return isinstance(value, dict) and 'data' in value


def _pose_from_yaml(path: Path) -> np.ndarray:
    content = _load_yaml(path)
    numbers = list(_parameters(content, 'T_camera_lidar'))
    if len(numbers) > 1:
        raise ValueError(f'{path}: has T_camera_lidar of {len(numbers)} nodes, expected one')
    if numbers:
        return _pose_from_numbers(numbers[0], path)
    unknown = content.keys() - _KEYS_OF_POSE
    if unknown:
        raise ValueError(
            f'{path}: unknown entries {", ".join(map(repr, sorted(map(str, unknown))))}; '
            'expected translation and rotation'
        )
    rotation = _vector(content, 'rotation', 4, path)
    norm = np.linalg.norm(rotation)
    if abs(norm - 1) > 1e-2:
        raise ValueError(f'{path}: rotation: expected a unit quaternion, got one of norm {norm:g}')
    translation = _vector(content, 'translation', 3, path)
    return transform(rotation_from_quaternion(rotation), translation)


def _parameters(content: object, name: str) -> Iterator[object]:
    """The values of a parameter of that name, of the nodes in a ROS parameter file."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == 'ros__parameters' and isinstance(value, dict) and name in value:
            yield value[name]
        else:
            yield from _parameters(value, name)


def _pose_from_numbers(numbers: object, path: Path) -> np.ndarray:
    """T (4, 4) of the 7 or 16 numbers of the parameter T_camera_lidar."""
    size = 16 if np.size(numbers) == 16 else 7
    values = _vector({'T_camera_lidar': numbers}, 'T_camera_lidar', size, path)
    if size == 16:
        return values.reshape(4, 4)
    try:
        return transform(rotation_from_quaternion(values[3:]), values[:3])
    except ValueError as error:
        raise ValueError(f'{path}: T_camera_lidar: {error}') from error
