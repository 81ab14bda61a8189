"""Obstacles: few points, on the surfaces, within the limits."""

import numpy as np
import pytest

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.obstacles import ObstacleSettings, obstacle_points
from dmd3c_ros.pipeline.settings import NodeSettings

CAMERA = Camera.from_K(np.array([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]]), 320, 240)


def ground_and_box() -> np.ndarray:
    """Depth of a ground 1.53 m below the camera and a box 6 m ahead, (H, W), m."""
    v = np.arange(240)[:, None].repeat(320, 1)
    with np.errstate(divide='ignore'):
        ground = np.where(v > 120, 1.53 * 300 / (v - 120), 0).astype(np.float32)
    depth = ground.copy()
    depth[100:190, 140:180] = 6.03
    return depth


def test_one_point_for_a_voxel_and_all_of_them_on_surfaces() -> None:
    settings = ObstacleSettings(max_range=10.0)
    points = obstacle_points(ground_and_box(), CAMERA, settings)
    assert points.dtype == np.float32
    cells = np.floor(points / settings.voxel_size)
    # In float32 a mean on the face of a cube may fall on either side.
    assert len(np.unique(cells, axis=0)) >= 0.995 * len(points)
    on_box = np.abs(points[:, 2] - 6.03) < 1e-3
    assert ((points[:, 1] > 1.3) | on_box).all()
    # 0.8 m x 1.8 m of the box face the camera.
    box = points[on_box & (points[:, 1] < 1.3)]
    assert len(box) >= 0.9 * 8 * 17
    assert np.linalg.norm(points, axis=1).max() <= 10


@pytest.mark.parametrize(
    ('limits', 'axis', 'low', 'high'),
    [
        ({'min_height': -1.0, 'max_height': 0.2}, 'height', -1.0, 0.2),
        ({'min_range': 5.0, 'max_range': 6.5}, 'range', 5.0, 6.5),
    ],
    ids=['height', 'range'],
)
def test_limits_hold(limits: dict, axis: str, low: float, high: float) -> None:
    points = obstacle_points(ground_and_box(), CAMERA, ObstacleSettings(**limits))
    values = -points[:, 1] if axis == 'height' else np.linalg.norm(points, axis=1)
    assert len(points) > 20
    assert (values >= low - 1e-5).all() and (values <= high + 1e-5).all()


def test_single_pixels_and_empty_images_give_no_obstacle() -> None:
    depth = np.zeros((240, 320), np.float32)
    assert obstacle_points(depth, CAMERA, ObstacleSettings()).shape == (0, 3)
    depth[::40, ::40] = 5.0
    assert obstacle_points(depth, CAMERA, ObstacleSettings()).shape == (0, 3)
    assert len(obstacle_points(depth, CAMERA, ObstacleSettings(min_points=1))) > 20


def test_limits_that_leave_nothing_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r'obstacle_min_range: expected less than max_range 2\.0'):
        NodeSettings(obstacle_min_range=3.0, obstacle_max_range=2.0)
    with pytest.raises(ValueError, match=r'obstacle_voxel_size: expected 0\.01 to 10\.0, got 0'):
        NodeSettings(obstacle_voxel_size=0.0)
