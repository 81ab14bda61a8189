"""Compressed outputs are what image_transport's plugins read."""

import cv2
import numpy as np
import pytest
from compressed_depth import decode_depth

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages.clouds import cloud_to_points, depth_to_cloud
from dmd3c_ros.messages.compressed import depth_to_compressed, rgb_to_compressed
from dmd3c_ros.messages.decoding import compressed_to_rgb
from dmd3c_ros.messages.types import Header


def depths(near: float, far: float) -> np.ndarray:
    depth = np.geomspace(near, far, 48 * 64).astype(np.float32).reshape(48, 64)
    depth[3, :5] = 0
    return depth


@pytest.mark.parametrize(('near', 'far'), [(0.5, 4.0), (3.0, 80.0), (0.2, 200.0)])
def test_depth_uses_all_levels_of_its_own_range(near: float, far: float) -> None:
    depth = depths(near, far)
    message = depth_to_compressed(depth, Header(frame_id='lens'))
    assert message.format == '32FC1; compressedDepth png'
    assert message.header.frame_id == 'lens'
    found = decode_depth(message)
    np.testing.assert_array_equal(found == 0, depth == 0)
    levels = cv2.imdecode(np.frombuffer(message.data, np.uint8)[12:], cv2.IMREAD_UNCHANGED)
    assert (levels[depth > 0].min(), levels.max()) == (1, 65535)
    # Half a level, and the rounding of floats in the reader.
    step = depth**2 * (1 / near - 1 / far) / 65534
    assert (np.abs(found - depth) <= 0.55 * step + 1e-5 * depth).all()


@pytest.mark.parametrize('value', [0.0, 7.25])
def test_images_of_one_depth_or_none_survive(value: float) -> None:
    depth = np.full((8, 9), value, np.float32)
    depth[0, 0] = np.nan
    found = decode_depth(depth_to_compressed(depth, Header()))
    expected = np.nan_to_num(depth, nan=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_millimetres_are_kept_as_they_are() -> None:
    depth = depths(0.5, 120.0)
    message = depth_to_compressed(depth, Header(), '16UC1')
    expected = np.where(depth > 65.535, 0, np.rint(depth * 1000) / np.float32(1000))
    np.testing.assert_allclose(decode_depth(message), expected, rtol=1e-6)


def test_colours_come_back_in_order() -> None:
    rgb = np.full((32, 40, 3), (200, 60, 20), np.uint8)
    message = rgb_to_compressed(rgb, Header())
    assert message.format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(compressed_to_rgb(message).astype(int) - rgb).max() <= 4


def test_a_thinned_cloud_has_every_third_point_of_the_whole_one() -> None:
    K = np.array([[50.0, 0, 31.5], [0, 51.0, 23.5], [0, 0, 1]])
    depth, rgb = depths(1, 9), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    camera = Camera.from_K(K, 64, 48)
    whole, thin = (depth_to_cloud(depth, rgb, camera, Header(), stride) for stride in (1, 3))
    assert (thin.height, thin.width) == (16, 22)
    fields = [
        np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 4)
        for cloud in (whole, thin)
    ]
    np.testing.assert_allclose(fields[1][..., :3], fields[0][::3, ::3, :3], rtol=1e-5, atol=1e-6)
    colors = [field[..., 3].copy().view(np.uint32) for field in fields]
    np.testing.assert_array_equal(colors[1], colors[0][::3, ::3])
    assert len(cloud_to_points(thin)) == (depth[::3, ::3] > 0).sum()
