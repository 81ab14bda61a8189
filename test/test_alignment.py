"""Relative depth brought to metres by sparse points."""

import itertools

import numpy as np
import pytest
import torch

from dmd3c_ros.core.alignment import AlignmentConfig, align_to_points, align_to_truth

GLOBAL = AlignmentConfig(local=0.0, reach=100.0)


def scene(seed=0, height=48, width=80, points=60):
    """Depth (1, 1, H, W), relative inverse depth of it, and points of it."""
    rng = np.random.default_rng(seed)
    v, u = np.indices((height, width))
    depth = 3 + 20 * (1 - v / height) ** 2 + np.sin(u / 9)
    depth[10:25, 20:40] = 4.0
    sparse = np.zeros_like(depth)
    sparse.flat[rng.choice(depth.size, points, replace=False)] = 1
    depth, sparse = (torch.tensor(x)[None, None].float() for x in (depth, depth * sparse))
    return depth, 1 / depth, sparse


def error(found, depth):
    return float(((found - depth).abs() / depth).mean())


@pytest.mark.parametrize('loss', ['squared', 'huber', 'tukey'])
@pytest.mark.parametrize(('scale', 'shift'), [(1.0, 0.0), (250.0, -17.0), (0.003, 4.0)])
def test_an_exact_relative_depth_becomes_exact_depth(loss, scale, shift):
    depth, inverse, sparse = scene()
    config = AlignmentConfig(loss=loss, local=0.0, reach=100.0)
    aligned = align_to_points((inverse - shift) / scale, sparse, config)
    torch.testing.assert_close(aligned.depth, depth, rtol=2e-3, atol=0)
    assert float(aligned.scale) == pytest.approx(scale, rel=1e-3)
    assert float(aligned.shift) == pytest.approx(shift, abs=2e-3 * (1 + abs(shift)))


def test_a_squared_fit_is_that_of_weighted_least_squares():
    _, inverse, sparse = scene()
    x = inverse + 0.02 * torch.randn(inverse.shape, generator=torch.Generator().manual_seed(0))
    config = AlignmentConfig(loss='squared', local=0.0, balance=1.5)
    aligned = align_to_points(x, sparse, config)
    known = sparse > 0
    z = sparse[known].double().numpy()
    line = np.polyfit(x[known].double().numpy(), 1 / z, 1, w=np.sqrt(z**1.5))
    assert (float(aligned.scale), float(aligned.shift)) == pytest.approx(tuple(line), rel=1e-5)


@pytest.mark.parametrize('loss', ['squared', 'huber', 'tukey'])
def test_outliers_move_a_squared_fit_and_no_robust_one(loss):
    depth, inverse, sparse = scene(points=100)
    rng = np.random.default_rng(1)
    wild = torch.tensor(rng.random(sparse.shape) < 0.2) & (sparse > 0)
    sparse = torch.where(wild, torch.full_like(sparse, 2.0), sparse)
    config = AlignmentConfig(loss=loss, local=0.0, balance=0.0, turns=12)
    off = error(align_to_points(inverse, sparse, config).depth, depth)
    assert off > 0.2 if loss == 'squared' else off < (0.06 if loss == 'huber' else 0.002)


def test_scale_and_shift_follow_a_slow_error_where_there_are_points():
    depth, inverse, sparse = scene(points=400)
    u = torch.linspace(-1, 1, 80)
    bent = inverse * (1 + 0.3 * u) + 0.03 * u**2
    errors = [
        error(align_to_points(bent, sparse, AlignmentConfig(local=local)).depth, depth)
        for local in (0.0, 0.2, 0.05)
    ]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.35 * errors[0]


def test_few_points_leave_the_global_fit_nearly_as_it_is():
    depth, inverse, sparse = scene(points=5)
    noisy = inverse + 0.01 * torch.randn(inverse.shape, generator=torch.Generator().manual_seed(0))
    whole = align_to_points(noisy, sparse, AlignmentConfig(local=0.0, loss='squared'))
    local = align_to_points(noisy, sparse, AlignmentConfig(local=0.05, loss='squared'))
    assert error(local.depth, whole.depth) < 0.1
    assert error(local.depth, depth) < 0.3


def test_depth_knows_nothing_of_the_networks_scale_and_shift():
    _, inverse, sparse = scene(points=200)
    bent = inverse**1.1
    first = align_to_points(bent, sparse).depth
    other = align_to_points(1e3 * bent - 70, sparse).depth
    torch.testing.assert_close(first, other, rtol=1e-2, atol=1e-3)


def test_what_cannot_be_fitted_is_a_plane_at_the_points_depth():
    _, inverse, sparse = scene()
    one = torch.zeros_like(sparse)
    one[0, 0, 20, 30] = 4.0
    for disparity, points in (
        (inverse, one),
        (torch.zeros_like(inverse), sparse),
        (-inverse, sparse),
    ):
        found = align_to_points(disparity, points).depth
        assert float(found.min()) == pytest.approx(float(found.max()), rel=1e-5)
        low, high = float(points[points > 0].min()), float(points.max())
        assert 0.999 * low <= float(found.max()) <= 1.001 * high


def test_no_point_gives_no_depth_and_leaves_other_images_alone():
    _, inverse, sparse = scene()
    both = torch.cat([torch.zeros_like(sparse), sparse])
    found = align_to_points(inverse.expand(2, -1, -1, -1), both)
    assert not found.depth[0].any()
    torch.testing.assert_close(found.depth[1:], align_to_points(inverse, sparse).depth)


def test_depth_stays_within_reach_of_the_points():
    _, inverse, sparse = scene()
    inverse = inverse.clone()
    inverse[..., :5, :] = -100.0
    inverse[..., 5:8, :] = 100.0
    sparse[..., :8, :] = 0
    found = align_to_points(inverse, sparse, AlignmentConfig(reach=2.0)).depth
    near, far = sparse[sparse > 0].min(), sparse.max()
    assert float(found.max()) == pytest.approx(float(2 * far))
    assert float(found.min()) == pytest.approx(float(near / 2))


@pytest.mark.parametrize(
    'settings', [{'loss': 'l3'}, {'turns': 0}, {'local': 2.0}, {'trust': 0.0}, {'reach': 0.5}]
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match='alignment: expected'):
        AlignmentConfig(**settings)


def test_shapes_that_differ_are_refused():
    _, inverse, sparse = scene()
    with pytest.raises(
        ValueError, match=r'of one shape, got \(1, 1, 48, 80\) and \(1, 1, 48, 79\)'
    ):
        align_to_points(inverse, sparse[..., :79])


def test_errors_are_local_only_where_measured():
    depth, inverse, sparse = scene(points=400)
    sparse[..., 40:] = 0
    bent = inverse * torch.linspace(0.7, 1.3, 80)
    config = AlignmentConfig(local=0.05)
    found = align_to_points(bent, sparse, config).depth
    sides = [error(found[..., s], depth[..., s]) for s in (slice(0, 40), slice(40, 80))]
    assert all(a < b for a, b in itertools.pairwise(sides))


# To ground truth, as zero-shot tables do


@pytest.mark.parametrize(
    ('method', 'relative'),
    [
        ('disparity', lambda z: 40 / z - 3),
        ('depth', lambda z: 0.1 * z + 5),
        ('log_depth', lambda z: 7 * z**0.5),
        ('median', lambda z: 0.02 * z),
        ('none', lambda z: z),
    ],
)
def test_a_prediction_right_but_for_what_the_method_leaves_open_becomes_the_truth(
    method, relative
):
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 50, (20, 30))
    truth = np.where(rng.random(depth.shape) < 0.3, depth, 0)
    np.testing.assert_allclose(align_to_truth(relative(depth), truth, method), depth, rtol=1e-5)


def test_the_fit_to_the_truth_is_that_of_least_squares_over_what_is_known():
    rng = np.random.default_rng(1)
    prediction, truth = rng.random((20, 30)), rng.uniform(1, 5, (20, 30))
    prediction[0, 0] = np.nan
    truth[5:] = 0
    known = (truth > 0) & np.isfinite(prediction)
    line = np.polyfit(prediction[known], 1 / truth[known], 1)
    expected = 1 / np.maximum(np.polyval(line, prediction), 1 / 80)
    found = align_to_truth(prediction, truth, 'disparity', max_depth=80)
    assert found[0, 0] == 0
    np.testing.assert_allclose(found.ravel()[1:], expected.ravel()[1:], rtol=1e-5)


def test_a_constant_prediction_is_the_median_and_nothing_known_is_nothing():
    truth = np.array([[1.0, 2.0, 9.0]])
    assert (align_to_truth(np.ones((1, 3)), truth) == 2).all()
    assert not align_to_truth(np.ones((1, 3)), 0 * truth).any()
    with pytest.raises(ValueError, match=r'expected one of .*got .best'):
        align_to_truth(truth, truth, 'best')
    with pytest.raises(ValueError, match='as the truth'):
        align_to_truth(truth, truth.T)
