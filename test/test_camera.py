"""The camera model keeps pixels and points together through every change of the image."""

import numpy as np
import pytest

from dmd3c_ros.core.camera import Camera

K = np.array([[700.0, 0, 310.5], [0, 690.0, 95.25], [0, 0, 1]])


def kitti_like() -> Camera:
    """A camera with a rectifying rotation and an optical centre off the frame's origin."""
    angle = 0.02
    R = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    P = np.hstack([K, [[44.9], [0.22], [0.0027]]])
    return Camera(P, 640, 192, R)


def points_ahead(n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform([-4, -1, 6], [4, 1, 60], (n, 3))


def test_projects_a_point_by_hand() -> None:
    uv, z = Camera.from_K(K, 640, 192).project(np.array([[1.0, -0.5, 10.0]]))
    np.testing.assert_allclose(uv, [[310.5 + 70.0, 95.25 - 34.5]])
    np.testing.assert_allclose(z, [10.0])


def test_fourth_column_and_rotation_take_part() -> None:
    camera, X = kitti_like(), np.array([0.5, 0.2, 8.0])
    u, v, w = camera.P @ np.append(camera.R @ X, 1)
    uv, z = camera.project(X[None])
    np.testing.assert_allclose(uv[0], [u / w, v / w])
    np.testing.assert_allclose(z, [w])


@pytest.mark.parametrize('camera', [Camera.from_K(K, 640, 192), kitti_like()])
def test_backprojection_inverts_projection(camera: Camera) -> None:
    depth = np.zeros((camera.height, camera.width), np.float32)
    depth[10:150:7, 5:600:11] = np.random.default_rng(1).uniform(1, 80, (20, 55))
    cloud = camera.backproject(depth)
    assert cloud.dtype == np.float32
    assert np.isnan(cloud[depth == 0]).all()
    uv, z = camera.rectified.project(cloud[depth > 0])
    rows, cols = np.nonzero(depth)
    np.testing.assert_allclose(uv, np.stack([cols, rows], 1), atol=2e-3)
    np.testing.assert_allclose(z, depth[depth > 0], rtol=1e-5)


def test_points_of_a_depth_image_are_those_that_consumers_make_of_it() -> None:
    """By the formulas of image_geometry and depth_image_proc, which know fx, fy, cx, cy alone."""
    camera = kitti_like()
    depth = np.random.default_rng(2).uniform(1, 80, (192, 640)).astype(np.float32)
    v, u = np.mgrid[:192, :640]
    ray = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones((192, 640))], -1)
    expected = ray * depth[..., None]
    np.testing.assert_allclose(camera.backproject(depth), expected, rtol=1e-5, atol=1e-4)


def test_the_rectified_frame_lies_where_rotation_and_fourth_column_say() -> None:
    camera, X = kitti_like(), points_ahead()
    in_rectified = X @ camera.T_rectified[:3, :3].T + camera.T_rectified[:3, 3]
    expected, depth = camera.project(X)
    uv, z = camera.rectified.project(in_rectified)
    np.testing.assert_allclose(uv, expected)
    np.testing.assert_allclose(z, depth)
    np.testing.assert_array_equal(camera.rectified.K, camera.K)


def test_backprojection_marks_what_is_not_finite() -> None:
    camera = Camera.from_K(K, 640, 192)
    depth = np.full((192, 640), 5, np.float32)
    depth[0, :3] = np.nan, np.inf, -1
    assert np.isnan(camera.backproject(depth)[0, :3]).all()


def test_crop_and_pad_shift_pixels() -> None:
    camera, X = kitti_like(), points_ahead()
    uv, _ = camera.project(X)
    np.testing.assert_allclose(camera.crop(100, 20, 300, 100).project(X)[0], uv - [100, 20])
    padded = camera.pad(3, 5, 7, 11)
    assert (padded.width, padded.height) == (650, 208)
    np.testing.assert_allclose(padded.project(X)[0], uv + np.array([3, 5]))


def test_a_mirrored_world_is_seen_mirrored() -> None:
    camera, points = kitti_like(), points_ahead()
    uv, z = camera.project(points)
    mirrored, same_z = camera.flipped().project(points * [-1, 1, 1])
    np.testing.assert_allclose(mirrored, np.stack([639 - uv[:, 0], uv[:, 1]], 1))
    np.testing.assert_allclose(same_z, z)


def test_scaling_maps_pixel_areas() -> None:
    camera, X = kitti_like(), points_ahead()
    uv, z = camera.project(X)
    uv2, z2 = camera.scaled(320, 96).project(X)
    # The left edge of the image lies at -0.5, whatever the size.
    np.testing.assert_allclose(uv2 + 0.5, (uv + 0.5) / 2)
    np.testing.assert_allclose(z2, z)


@pytest.mark.parametrize('P', [np.zeros((3, 4)), np.full((3, 4), np.nan)])
def test_uncalibrated_camera_is_refused(P: np.ndarray) -> None:
    with pytest.raises(ValueError, match='not calibrated'):
        Camera(P, 640, 192)


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'P': np.eye(3)}, '3x4'),
        ({'R': np.ones((3, 3))}, 'orthonormal'),
        ({'width': 0}, 'positive size'),
    ],
)
def test_impossible_cameras_are_refused(changed: dict, message: str) -> None:
    arguments = {'P': kitti_like().P, 'width': 640, 'height': 192, **changed}
    with pytest.raises(ValueError, match=message):
        Camera(**arguments)


def test_zero_rotation_of_camera_info_means_none() -> None:
    camera = Camera.from_matrices(kitti_like().P.ravel(), 640, 192, np.zeros(9))
    np.testing.assert_array_equal(camera.R, np.eye(3))
