"""Metrics against values computed by hand and the averaging of the KITTI development kit."""

import numpy as np
import pytest

from dmd3c_ros.evaluation.metrics import (
    METRIC_NAMES,
    depth_metrics,
    fill_background,
    mean_metrics,
    metrics_by_distance,
)
from dmd3c_ros.io.depth_png import quantized


def test_errors_of_two_pixels_by_hand():
    truth = np.array([[2.0, 4.0, 0.0]])
    prediction = np.array([[2.5, 4.0, 9.0]])
    m = depth_metrics(prediction, truth)
    assert m.rmse_mm == pytest.approx(1000 * np.sqrt(0.25 / 2))
    assert m.mae_mm == pytest.approx(250.0)
    # 1/2.5 - 1/2 = -0.1 per metre = -100 per kilometre.
    assert m.irmse_per_km == pytest.approx(np.sqrt(100.0**2 / 2))
    assert m.imae_per_km == pytest.approx(50.0)
    assert m.rel == pytest.approx(0.125)
    assert (m.pixels, m.missing) == (2.0, 0.0)


def test_delta_shares_count_ratios_strictly_below_the_threshold_both_ways():
    truth = np.full((1, 6), 8.0)
    prediction = 8.0 * np.array([[1.01, 1 / 1.04, 1.25, 1 / 1.3, 1.6, 3.0]])
    m = depth_metrics(prediction, truth)
    sixth = 1 / 6
    assert m.delta_1_02 == pytest.approx(1 * sixth)
    assert m.delta_1_05 == pytest.approx(2 * sixth)
    assert m.delta_1_10 == pytest.approx(2 * sixth)
    assert m.delta_1_25 == pytest.approx(2 * sixth)
    assert m.delta_1_25_2 == pytest.approx(4 * sixth)
    assert m.delta_1_25_3 == pytest.approx(5 * sixth)


def test_images_weigh_the_same_however_many_pixels_they_have():
    small = depth_metrics(np.array([[3.0]]), np.array([[1.0]]))
    large = depth_metrics(np.full((10, 10), 1.0), np.full((10, 10), 1.0))
    mean = mean_metrics([small, large, None])
    assert mean.rmse_mm == pytest.approx(1000.0)
    assert mean.mae_mm == pytest.approx(1000.0)
    assert mean.pixels == pytest.approx(50.5)
    assert tuple(mean.as_dict()) == METRIC_NAMES


def test_nothing_to_score_is_none_and_does_not_count():
    assert depth_metrics(np.ones((2, 2)), np.zeros((2, 2))) is None
    assert depth_metrics(np.zeros((2, 2)), np.ones((2, 2)), missing='ignore') is None
    assert mean_metrics([None, None]) is None


@pytest.mark.parametrize('bad', [0.0, -1.0, np.nan, np.inf])
def test_missing_prediction_is_filled_from_the_nearer_side(bad):
    truth = np.array([[4.0, 4.0, 6.0]])
    prediction = np.array([[4.0, bad, 6.0]])
    m = depth_metrics(prediction, truth)
    assert m.mae_mm == 0.0
    assert m.missing == pytest.approx(1 / 3)


def test_missing_policies_differ():
    truth, prediction = np.array([[4.5, 4.0]]), np.array([[0.0, 4.0]])
    assert depth_metrics(prediction, truth, missing='near').mae_mm == pytest.approx(2000.0)
    ignored = depth_metrics(prediction, truth, missing='ignore')
    assert (ignored.mae_mm, ignored.missing, ignored.pixels) == (0.0, 0.5, 2.0)


def test_an_empty_prediction_counts_as_an_obstacle_everywhere():
    m = depth_metrics(np.zeros((2, 2)), np.full((2, 2), 1.5))
    assert m.mae_mm == pytest.approx(1000.0)
    assert m.missing == 1.0


def test_background_fill_of_gaps_borders_and_empty_rows():
    depth = np.zeros((5, 6))
    depth[1, 1], depth[1, 4] = 8.0, 3.0
    depth[3, 2] = 5.0
    filled = fill_background(depth)
    first = [8.0, 8.0, 3.0, 3.0, 3.0, 3.0]
    np.testing.assert_array_equal(filled[0], first)
    np.testing.assert_array_equal(filled[1], first)
    np.testing.assert_array_equal(filled[3:], np.full((2, 6), 5.0))
    assert (filled > 0).all()
    assert not fill_background(np.zeros((2, 3))).any()


def test_background_fill_equals_a_plain_scan_of_every_row():
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((20, 30)) < 0.2, rng.uniform(1, 80, (20, 30)), 0.0)
    depth[:, 7] = 5.0
    filled = fill_background(depth)
    for row, result in zip(depth, filled, strict=True):
        known = np.flatnonzero(row)
        for u in range(30):
            left, right = known[known <= u], known[known >= u]
            ends = [row[left[-1]]] if left.size else []
            ends += [row[right[0]]] if right.size else []
            assert result[u] == min(ends)


def test_bands_hold_the_pixels_of_their_true_distance():
    truth = np.array([[5.0, 10.0, 15.0, 0.0]])
    prediction = truth + np.array([[1.0, 2.0, 3.0, 0.0]])
    bands = metrics_by_distance(prediction, truth, (0, 10, 20, 40))
    assert list(bands) == ['0-10 m', '10-20 m', '20-40 m']
    assert bands['0-10 m'].mae_mm == pytest.approx(1500.0)
    assert bands['10-20 m'].mae_mm == pytest.approx(3000.0)
    assert bands['20-40 m'] is None


def test_quantized_is_what_a_png_stores():
    depth = np.array([[0.0, 1.001, 1.0 + 1.6 / 256, 300.0, np.nan, -2.0]])
    expected = [[0.0, 256 / 256, 258 / 256, 65535 / 256, 0.0, 0.0]]
    np.testing.assert_array_equal(quantized(depth), np.float32(expected))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: depth_metrics(np.ones((2, 3)), np.ones((3, 2))), r'expected .*\(3, 2\).*got'),
        (lambda: depth_metrics(np.ones(3), np.ones(3)), 'expected'),
        (lambda: depth_metrics(np.ones((1, 1)), np.ones((1, 1)), missing='zero'), "got 'zero'"),
        (
            lambda: depth_metrics(np.ones((1, 1)), np.ones((1, 1)), mask=np.ones((1, 1))),
            'expected bool',
        ),
        (lambda: metrics_by_distance(np.ones((1, 1)), np.ones((1, 1)), (0, 5, 5)), 'increasing'),
    ],
)
def test_wrong_input_names_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
