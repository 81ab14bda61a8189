"""Sweeps become sparse depth images: the nearest point wins, and hidden points go."""

import numpy as np
import pytest

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import (
    HiddenPointFilter,
    drop_enclosed_points,
    project_points,
    remove_hidden_points,
)

CAMERA = Camera.from_K(np.array([[100.0, 0, 32], [0, 100.0, 24], [0, 0, 1]]), 64, 48)
IDENTITY = np.eye(4)


def by_hand(points: np.ndarray, T: np.ndarray, camera: Camera) -> np.ndarray:
    """The definition, point by point."""
    depth = np.zeros((camera.height, camera.width), np.float32)
    for point in points:
        X = T[:3, :3] @ point[:3].astype(np.float64) + T[:3, 3]
        u, v, z = camera.P @ np.append(camera.R @ X, 1)
        if not z > 0.1:
            continue
        u, v = int(np.floor(u / z + 0.5)), int(np.floor(v / z + 0.5))
        if 0 <= u < camera.width and 0 <= v < camera.height:
            depth[v, u] = z if depth[v, u] == 0 else min(z, depth[v, u])
    return depth


def test_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-6, -6, -20], [6, 6, 40], (3000, 3)).astype(np.float32)
    T = np.eye(4)
    T[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    T[:3, :3] *= np.linalg.det(T[:3, :3])
    T[:3, 3] = 0.1, -0.2, 0.3
    depth = project_points(points, T, CAMERA)
    assert depth.dtype == np.float32
    assert (depth > 0).sum() > 50
    np.testing.assert_allclose(depth, by_hand(points, T, CAMERA), rtol=1e-5)


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_nearest_point_of_a_pixel_wins_in_any_order(order: list[int]) -> None:
    points = np.array([[0, 0, 5], [0, 0, 9]], np.float32)[order]
    assert project_points(points, IDENTITY, CAMERA)[24, 32] == 5


def test_points_behind_outside_or_not_finite_are_dropped() -> None:
    points = np.array(
        [[0, 0, -5], [90, 0, 1], [np.nan, 0, 5], [0, 0, np.inf], [np.inf, 0, 5], [1e38, 0, 1]],
        np.float32,
    )
    assert not project_points(points, IDENTITY, CAMERA).any()


def test_extra_columns_and_an_empty_sweep_are_fine() -> None:
    points = np.array([[0, 0, 5, 0.7, 11]], np.float32)
    assert project_points(points, IDENTITY, CAMERA)[24, 32] == 5
    assert not project_points(np.zeros((0, 4), np.float32), IDENTITY, CAMERA).any()


@pytest.mark.parametrize('shape', [(5, 2), (5,), (2, 5, 3)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='points: expected'):
        project_points(np.zeros(shape), IDENTITY, CAMERA)
    with pytest.raises(ValueError, match='T_camera_lidar: expected'):
        project_points(np.zeros((1, 3)), np.eye(3), CAMERA)


def test_hidden_points_go_and_visible_ones_stay() -> None:
    sparse = np.zeros((48, 64), np.float32)
    sparse[20:28:2, 20:30:2] = 4.0  # a near object
    sparse[21, 25] = 20.0  # seen past it
    sparse[21, 50] = 20.0  # far from it
    kept = remove_hidden_points(sparse)
    assert kept[21, 25] == 0
    assert kept[21, 50] == 20
    assert (kept[20:28:2, 20:30:2] == 4).all()


@pytest.mark.parametrize(
    'settings', [{'radius_u': -1}, {'radius_v': 10**6}, {'ratio': np.nan}, {'margin': np.inf}]
)
def test_a_filter_that_makes_no_sense_is_refused(settings: dict) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f'{name}: expected 0'):
        HiddenPointFilter(**settings)


def test_filter_agrees_with_a_window_search() -> None:
    rng = np.random.default_rng(3)
    sparse = np.where(rng.random((40, 50)) < 0.2, rng.uniform(2, 40, (40, 50)), 0)
    sparse = sparse.astype(np.float32)
    settings = HiddenPointFilter(radius_u=2, radius_v=4, ratio=0.8, margin=1.0)
    expected = sparse.copy()
    for v, u in np.argwhere(sparse > 0):
        window = sparse[max(v - 4, 0) : v + 5, max(u - 2, 0) : u + 3]
        nearest = window[window > 0].min()
        if nearest < sparse[v, u] * 0.8 and nearest < sparse[v, u] - 1.0:
            expected[v, u] = 0
    np.testing.assert_array_equal(remove_hidden_points(sparse, settings), expected)
    assert 0 < (expected > 0).sum() < (sparse > 0).sum()


def board_before_a_wall(behind: float) -> tuple[np.ndarray, np.ndarray]:
    """Rings that hit a board at 5 m and a wall at 20 m, some of them both: the depth they measure.

    behind: fraction of the measurements on the right part of the board between which the sensor
    sees the wall too. Also returns the depth that the camera sees.
    """
    rng = np.random.default_rng(7)
    truth = np.full((160, 240), 20, np.float32)
    truth[40:120, 80:160] = 5
    sparse = np.zeros_like(truth)
    sparse[::6, ::2] = truth[::6, ::2]
    sparse[45:117:6, 140:156:2] = 20 * (rng.random((12, 8)) < behind)
    return sparse, truth


def test_points_amid_a_nearer_surface_go_and_those_beside_it_stay() -> None:
    sparse, truth = board_before_a_wall(0.5)
    wrong = (sparse > 0) & (sparse > truth)
    kept = drop_enclosed_points(sparse, 4.0)
    assert wrong.sum() > 30
    assert np.array_equal(kept, np.where(wrong, 0, sparse))
    # The usual filter takes the wall around the board along.
    assert (remove_hidden_points(sparse) != kept)[truth == 20].sum() > 100


def test_few_enclosed_points_are_seen_through_a_gap_and_stay() -> None:
    sparse, _ = board_before_a_wall(0.0)
    sparse[81, 120] = 20
    assert np.array_equal(drop_enclosed_points(sparse, 4.0), sparse)
    nothing = np.zeros((4, 5), np.float32)
    assert np.array_equal(drop_enclosed_points(nothing, 12.0), nothing)
