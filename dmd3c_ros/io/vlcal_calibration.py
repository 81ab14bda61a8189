"""calib.json, the result of direct_visual_lidar_calibration.

Format (github.com/koide3/direct_visual_lidar_calibration, docs/programs.md): camera/camera_model
with its intrinsics fx, fy, cx, cy and distortion_coeffs in OpenCV's order; results/T_lidar_camera,
x y z (m) qx qy qz qw, takes points of the camera's optical frame to the LiDAR's. The images that
it is made from are raw, and their size is not in it.
"""

import json
from pathlib import Path

import numpy as np

from dmd3c_ros.core.distortion import DISTORTION_MODELS, Distortion
from dmd3c_ros.core.transforms import rotation_from_quaternion, transform

_GUESSES = ('init_T_lidar_camera', 'init_T_lidar_camera_auto')
# Numbers of a CameraInfo of these models; the program writes as many as it was given.
_COEFFICIENTS = {'plumb_bob': 5, 'equidistant': 4, 'fisheye': 4, 'rational_polynomial': 8}


def read_distortion(path: Path) -> Distortion:
    """The lens, with K of the raw image; ValueError for a camera that is no pinhole."""
    camera = _part(_read(path), 'camera', path)
    model = str(camera.get('camera_model'))
    if model not in DISTORTION_MODELS:
        raise ValueError(
            f'{path}: camera_model: expected one of {", ".join(DISTORTION_MODELS)}, whose images '
            f'can be rectified; got {model!r}'
        )
    fx, fy, cx, cy = _numbers(camera, 'intrinsics', path, 4)
    D = _numbers(camera, 'distortion_coeffs', path)
    D = np.pad(D, (0, max(0, _COEFFICIENTS[model] - len(D))))
    try:
        return Distortion(model, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), tuple(D))
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def read_extrinsics(path: Path) -> np.ndarray:
    """T_camera_lidar (4, 4), m; ValueError where the calibration was not finished."""
    results = _part(_read(path), 'results', path)
    if 'T_lidar_camera' not in results:
        guesses = [key for key in _GUESSES if key in results]
        has = f'only has the initial guess {guesses[0]}' if guesses else 'has none'
        raise ValueError(f'{path}: expected results/T_lidar_camera, {has}: run calibrate')
    numbers = _numbers(results, 'T_lidar_camera', path, 7)
    try:
        T_lidar_camera = transform(rotation_from_quaternion(numbers[3:]), numbers[:3])
    except ValueError as error:
        raise ValueError(f'{path}: T_lidar_camera: {error}') from error
    return np.linalg.inv(T_lidar_camera)


def image_beside(path: Path) -> Path | None:
    """An image of the camera that `preprocess` wrote next to the file; None if it is gone."""
    meta = _read(path).get('meta')
    names = meta.get('bag_names', []) if isinstance(meta, dict) else []
    images = [path.with_name(f'{name}.png') for name in names]
    return next((image for image in images if image.is_file()), None)


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path}: not JSON: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected a mapping, got {type(content).__name__}')
    return content


def _part(content: dict, key: str, path: Path) -> dict:
    if not isinstance(content.get(key), dict):
        raise ValueError(
            f'{path}: expected calib.json of direct_visual_lidar_calibration, with {key!r} in it'
        )
    return content[key]


def _numbers(content: dict, key: str, path: Path, size: int | None = None) -> np.ndarray:
    try:
        numbers = np.array(content[key], np.float64).ravel()
    except KeyError as error:
        raise ValueError(f'{path}: expected an entry {key!r}') from error
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {key}: expected numbers: {error}') from error
    if size is not None and numbers.size != size:
        raise ValueError(f'{path}: {key}: expected {size} numbers, got {numbers.size}')
    if not np.isfinite(numbers).all():
        raise ValueError(f'{path}: {key}: expected finite numbers, got {numbers.tolist()}')
    return numbers
