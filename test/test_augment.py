"""Augmentation: every change applies to all of a sample, at random but repeatably."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dmd3c_ros.datasets import Sample, line_labels
from training.data.augment import AugmentConfig, augment, rotated, scaled

PLAIN = AugmentConfig(flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
K = np.array([[60.0, 0, 31.5], [0, 60.0, 19.5], [0, 0, 1]])


def sample(**changes):
    """A sample whose images all encode the pixel they came from."""
    v, u = np.mgrid[:40, :64].astype(np.float32)
    depth = 1 + v * 64 + u
    rgb = np.stack([u * 2, v * 3, (u + v)], -1).astype(np.uint8)
    parts = {'rgb': rgb, 'sparse': depth, 'truth': depth + 10_000, 'disparity': -depth}
    return Sample(name='a', K=K, **(parts | changes))


def run(config, seed=0, **changes):
    return augment(sample(**changes), config, np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing():
    result, original = run(PLAIN), sample()
    for name, image in original.images().items():
        np.testing.assert_array_equal(getattr(result, name), image)
    np.testing.assert_array_equal(result.K, K)


def test_the_same_generator_gives_the_same_sample_and_another_one_another():
    config = AugmentConfig(crop_height=20, crop_width=30, drop_points=0.5, pca=0.1)
    first, second, other = run(config, 1), run(config, 1), run(config, 2)
    for f in fields(Sample):
        np.testing.assert_array_equal(getattr(first, f.name), getattr(second, f.name))
    assert (first.rgb != other.rgb).any()


def test_flip_and_crop_keep_all_images_and_the_intrinsics_together():
    config = replace(PLAIN, flip=0.5, crop_height=17, crop_width=23)
    original = sample()
    flips = 0
    for seed in range(30):
        result = run(config, seed)
        assert result.size == (17, 23)
        pixel = (result.sparse - 1).astype(int)
        v, u = pixel // 64, pixel % 64
        for name, image in original.images().items():
            np.testing.assert_array_equal(getattr(result, name), image[v, u])
        # A pixel's ray, mirrored by a flip, is the one it had in the whole image.
        mirrored = u[0, 1] < u[0, 0]
        before = (u - K[0, 2]) / K[0, 0] * (-1 if mirrored else 1)
        after = (np.arange(23) - result.K[0, 2]) / result.K[0, 0]
        np.testing.assert_allclose(np.broadcast_to(after, before.shape), before, atol=1e-9)
        np.testing.assert_allclose((0 - result.K[1, 2]) / 60, (v[0, 0] - K[1, 2]) / 60, atol=1e-9)
        flips += mirrored
    assert 5 < flips < 25


def test_windows_reach_every_allowed_place():
    config = replace(PLAIN, crop_height=30, crop_width=60, crop_top_min=4)
    corners = {run(config, seed).sparse[0, 0] - 1 for seed in range(300)}
    tops, lefts = {int(c) // 64 for c in corners}, {int(c) % 64 for c in corners}
    assert tops == set(range(4, 11))
    assert lefts == set(range(5))


def test_colours_change_within_their_factors_and_depth_does_not():
    grey = np.full((40, 64, 3), 100, np.uint8)
    config = replace(PLAIN, brightness=0.4)
    levels = [int(run(config, seed, rgb=grey).rgb[0, 0, 0]) for seed in range(50)]
    assert 60 <= min(levels) < 75 and 125 < max(levels) <= 140
    result = run(replace(PLAIN, brightness=0.4, contrast=0.4, saturation=0.4, pca=0.1))
    assert (result.rgb != sample().rgb).any()
    np.testing.assert_array_equal(result.sparse, sample().sparse)


def test_contrast_keeps_the_mean_and_saturation_the_luma():
    rng = np.random.default_rng(0)
    rgb = rng.integers(80, 176, (40, 64, 3), dtype=np.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(5):
        contrast = run(replace(PLAIN, contrast=0.4), seed, rgb=rgb).rgb
        saturated = run(replace(PLAIN, saturation=0.4), seed, rgb=rgb).rgb
        assert (contrast @ luma).mean() == pytest.approx((rgb @ luma).mean(), abs=0.5)
        np.testing.assert_allclose(saturated @ luma, rgb @ luma, atol=1.0)
        assert contrast.std() != pytest.approx(rgb.std(), abs=0.2)


def test_principal_colour_noise_moves_all_pixels_alike():
    rgb = np.random.default_rng(0).integers(80, 176, (40, 64, 3), dtype=np.uint8)
    shift = run(replace(PLAIN, pca=0.1), rgb=rgb).rgb.astype(int) - rgb
    assert np.ptp(shift.reshape(-1, 3), axis=0).max() <= 1
    assert np.abs(shift).max() > 0


def test_points_are_drawn_from_the_ground_truth():
    result = run(replace(PLAIN, points=50), sparse=np.zeros((40, 64), np.float32))
    known = result.sparse > 0
    assert known.sum() == 50
    np.testing.assert_array_equal(result.sparse[known], sample().truth[known])


def test_dropped_points_are_a_random_share_up_to_the_largest():
    shares = [
        (run(replace(PLAIN, drop_points=0.6), seed).sparse == 0).mean() for seed in range(40)
    ]
    assert min(shares) < 0.1 and 0.5 < max(shares) < 0.65
    kept = run(replace(PLAIN, drop_points=0.6)).sparse
    np.testing.assert_array_equal(kept[kept > 0], sample().sparse[kept > 0])


def test_dropped_lines_are_whole():
    config = replace(PLAIN, drop_lines=1.0, lines=8)
    labels = line_labels(sample().sparse, K, 8)
    dropped = []
    for seed in range(20):
        kept = run(config, seed).sparse > 0
        gone = [label for label in range(9) if not kept[labels == label].any()]
        assert all(kept[labels == label].all() for label in set(range(9)) - set(gone))
        dropped.append(len(gone))
    assert min(dropped) < 3 and max(dropped) > 5


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: AugmentConfig(flip=1.5), 'flip: expected 0..1, got 1.5'),
        (lambda: AugmentConfig(crop_height=5), 'expected height and width'),
        (lambda: AugmentConfig(points=-1), 'points: expected at least 0'),
        (lambda: run(replace(PLAIN, crop_height=50, crop_width=10)), 'at least 10x50.*got 64x40'),
        (lambda: run(replace(PLAIN, points=5), truth=None), 'ground truth to draw'),
    ],
)
def test_wrong_settings_name_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def slanted(rows=60, columns=80):
    """A plane seen by a camera whose principal point is the centre: inverse depth is linear."""
    K = np.array([[70.0, 0, (columns - 1) / 2], [0, 70.0, (rows - 1) / 2], [0, 0, 1]])
    depth = depth_of_plane(K, rows, columns)
    rgb = np.zeros((rows, columns, 3), np.uint8)
    return Sample(name='a', K=K, rgb=rgb, sparse=depth, truth=depth, disparity=1 / depth)


def depth_of_plane(K, rows, columns, normal=(0.2, 0.3, 1.0)):
    """Depth of the plane n . X = 5 at every pixel."""
    v, u = np.mgrid[:rows, :columns]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], -1)
    return (5 / (rays @ normal)).astype(np.float32)


def test_a_scaled_sample_shows_the_same_scene_by_the_scaled_intrinsics():
    for factor in (0.5, 0.7, 1.4):
        result = scaled(slanted(), factor)
        rows, columns = result.size
        assert (rows, columns) == (round(60 * factor), round(80 * factor))
        expected = depth_of_plane(result.K, rows, columns)
        # A nearest pixel is up to half a pixel away.
        np.testing.assert_allclose(result.truth, expected, rtol=0.01)
        np.testing.assert_allclose(result.disparity, 1 / expected, rtol=0.01)


def test_a_rotated_sample_shows_the_scene_of_a_rolled_camera():
    angle = np.radians(5.0)
    result = rotated(slanted(), 5.0)
    # Counter-clockwise in the image; its y axis points down.
    roll = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    normal = (*(roll @ (0.2, 0.3)), 1.0)
    expected = depth_of_plane(result.K, 60, 80, normal)
    known = result.truth > 0
    assert 0.85 < known.mean() < 1
    np.testing.assert_allclose(result.truth[known], expected[known], rtol=0.01)
    assert np.isnan(result.disparity[~known]).all()
    assert np.isfinite(result.disparity[known]).all()
    assert not result.rgb[~known].any()


def test_the_window_lies_where_it_is_asked_for():
    config = replace(PLAIN, crop_height=20, crop_width=30)
    centre = run(replace(config, crop_place='centre'))
    assert centre.sparse[0, 0] == 1 + 10 * 64 + 17
    lowest = [
        run(replace(config, crop_place='bottom'), seed).sparse[0, 0] - 1 for seed in range(9)
    ]
    assert {int(value) // 64 for value in lowest} == {20} and len(set(lowest)) > 3
    with pytest.raises(ValueError, match='crop_place: expected one of'):
        replace(config, crop_place='top')
    with pytest.raises(ValueError, match='scale: expected 0 < minimum <= maximum'):
        replace(config, scale_min=2.0)
