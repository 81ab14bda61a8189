"""The live benchmark feeds a real node, and its numbers add up."""

import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from dmd3c_ros.benchmarks.live.config import LiveCase, LiveConfig, LiveResult
from dmd3c_ros.benchmarks.live.driver import _node
from dmd3c_ros.benchmarks.live.sensors import street
from dmd3c_ros.cli.app import app

WORDS = ['bench', 'node', '--model', 'nearest', '--rate', '5', '--frames', '6', '--load', '1']
SMALL = ['--size', '48x64', '--lines', '16', '--columns', '300']


def test_every_case_is_fed_in_turns_and_all_answers_are_timed(tmp_path, wide_terminal) -> None:
    out = tmp_path / 'numbers.json'
    command = [*WORDS, *SMALL, '--turns', '2', '--max-latency', '5']
    command += ['--json', str(out), '--logs', str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    numbers = json.loads(out.read_text())
    assert numbers['machine']['cores'] >= 1
    assert numbers['config']['load'] == 1
    (case,) = numbers['cases']
    assert case['label'] == 'model nearest, max_latency 5.0'
    assert case['sent'] == 12
    # A machine that is busy may drop some.
    assert case['answered'] + case['dropped'] == 12 and case['answered'] > 0
    assert len(case['depth_ms']) >= case['answered']
    assert len(case['lost']) == case['dropped'] and set(case['lost']) <= set(range(6))
    assert min(case['depth_ms']) > 0
    assert case['depth_p50_ms'] <= case['depth_p99_ms'] <= case['depth_p100_ms']
    assert len(case['busy_ms']) == len(case['steps']) == 2
    assert {'decode_p50_ms', 'project_p99_ms', 'network_p50_ms'} <= case['steps'][0].keys()
    assert case['model'].startswith('nearest')
    assert sorted(p.name for p in tmp_path.glob('*.log')) == ['0.0.log', '0.1.log']


def test_a_node_that_cannot_start_ends_the_benchmark(wide_terminal) -> None:
    result = CliRunner().invoke(app, ['bench', 'node', '--model', 'bpnet', '--frames', '1'])
    assert result.exit_code == 1
    assert 'no weights come with the package' in result.output


@pytest.mark.parametrize(
    ('changed', 'message'),
    [({'rate_hz': 0}, 'rate_hz'), ({'load': -1}, 'load'), ({'size': (8, 64)}, 'size')],
)
def test_settings_that_cannot_be_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiveConfig(**changed)


def test_a_sweep_lies_on_ground_and_walls() -> None:
    points = street(64, 1800)
    assert points.dtype == np.float32 and points.shape[1] == 4
    ground = np.abs(points[:, 2] + 1.73) < 1e-3
    wall = np.abs(np.abs(points[:, 1]) - 8) < 1e-3
    assert (ground | wall).all() and ground.any() and wall.any()
    assert np.linalg.norm(points[:, :3], axis=1).max() <= 80.01


def test_the_node_is_that_of_the_checkout(tmp_path) -> None:
    package = tmp_path / 'dmd3c_ros'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'completion_node.py').write_text('print("the other one")\n')
    log = tmp_path / 'node.log'
    with _node(LiveCase({}, tmp_path), LiveConfig(), log) as child:
        while child.exit_code is None:
            time.sleep(0.05)
    assert log.read_text() == 'the other one\n'


def test_without_an_answer_there_is_no_percentile() -> None:
    result = LiveResult('none', sent=3, lost=[0, 1, 2])
    assert (result.answered, result.dropped) == (0, 3)
    assert np.isnan(result.percentiles()['depth_p50_ms'])
