"""What a confidence threshold keeps, counted by hand and measured on a small drive."""

import json
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from dmd3c_ros.benchmarks.confidence import Drives, Kept, as_rows, kept, pixels_of
from dmd3c_ros.cli.app import app
from dmd3c_ros.core.completer import Completion

CONFIDENCE = np.array([0.9, 0.6, 0.3, 0.9, 0.1])
DEPTH = np.array([10.0, 22, 30, 50, 60])
TRUTH = np.array([10.0, 20, 20, 0, 0])


def test_shares_and_errors_are_those_of_the_pixels_that_are_kept():
    everything = kept(0.0, CONFIDENCE, DEPTH, TRUTH)
    assert everything == Kept(0.0, 1.0, 1.0, 4.0, pytest.approx(np.sqrt(104 / 3)), 2 / 3)
    some = kept(0.5, CONFIDENCE, DEPTH, TRUTH)
    assert some == Kept(0.5, 2 / 3, 0.5, 1.0, pytest.approx(np.sqrt(2)), 0.5)


def test_a_threshold_that_keeps_nothing_has_no_error():
    nothing = kept(0.95, CONFIDENCE, DEPTH, TRUTH)
    assert (nothing.surface, nothing.sky) == (0.0, 0.0)
    assert np.isnan([nothing.mae, nothing.rmse, nothing.wrong]).all()
    (row,) = as_rows([nothing])
    assert row['mae'] is None and row['surface'] == 0


def test_depth_that_is_unknown_already_is_not_kept():
    assert kept(0.0, CONFIDENCE, np.zeros(5), TRUTH).surface == 0


def test_surfaces_too_far_away_do_not_count_and_the_sky_does():
    truth = np.array([[10.0, 90, 0]])
    full = np.ones((1, 3), np.float32)
    confidence, _, counted = pixels_of(Completion(full, full), truth, 80.0)
    assert counted.tolist() == [10, 0]
    assert len(confidence) == 2


def test_the_command_measures_a_simulated_drive(tmp_path, monkeypatch):
    small = partial(Drives, seeds=(1,), width=304, height=88)
    monkeypatch.setattr('dmd3c_ros.benchmarks.confidence.Drives', small)
    path = tmp_path / 'numbers.json'
    options = ('--model', 'nearest', '--lidar', 'vlp16', '--scene', 'indoor', '--frames', '1')
    result = CliRunner().invoke(app, ['bench', 'confidence', *options, '--json', str(path)])
    assert result.exit_code == 0, result.output
    assert 'min_confidence' in result.output
    numbers = json.loads(path.read_text())
    first, *_, last = numbers['thresholds']
    # A baseline is sure of the measured pixels alone.
    assert first['surface'] > 0.99
    assert 0 < last['surface'] < 0.5
    assert last['mae'] < first['mae']


def test_unknown_scenes_and_patterns_are_named():
    for option, text in (('--scene', "got 'moon'"), ('--lidar', "got 'moon'")):
        result = CliRunner().invoke(app, ['bench', 'confidence', option, 'moon'])
        assert result.exit_code == 1
        assert text in result.output
