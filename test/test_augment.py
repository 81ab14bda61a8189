"""Augmentation: every change applies to all of a sample, at random but repeatably."""

from dataclasses import fields, replace

import numpy as np
import pytest

from dmd3c_ros.datasets import Sample, line_labels
from training.data.augment import AugmentConfig, augment

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
        # A pixel's ray, mirrored by a flip, is the one it had in the whole picture.
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
