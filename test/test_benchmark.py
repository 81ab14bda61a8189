"""The benchmark measures cases in turns, counts what they cost, and says what it could not do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from light_weights import save_light
from typer.testing import CliRunner

from dmd3c_ros.benchmarks import precision, speed
from dmd3c_ros.benchmarks.precision import brute_force_nearest, deviations, time_nearest
from dmd3c_ros.benchmarks.speed import BenchmarkConfig, Case, cost, run, synthetic
from dmd3c_ros.cli.app import app
from dmd3c_ros.core import networks
from dmd3c_ros.core.config import CompleterConfig


@pytest.fixture
def no_processes(monkeypatch) -> None:
    """Memory takes a process a case; that it does has a test of its own."""
    monkeypatch.setattr(speed, 'peak_memory', lambda settings, size, points: 3.0)


class _Clock:
    """Time that passes only where something takes it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Completer:
    """Takes as long as it says, and longer in later turns, as on a machine that gets busy."""

    def __init__(self, clock: _Clock, duration: float, log: list) -> None:
        self.clock, self.duration, self.log = clock, duration, log

    def complete(self, *inputs: object) -> None:
        self.log.append(self.duration)
        self.clock.now += self.duration * (1 + self.clock.now)


def case(**changes: object) -> Case:
    values = {'model': 'a', 'weights': '', 'size': (32, 32), 'device': 'cpu'} | changes
    return Case(
        **values,
        precision='float32',
        backend='eager',
        parameters=7,
        gflop=1.0,
        first=0.5,
        memory=3.0,
    )


def test_cases_take_turns_so_that_their_ratio_holds_on_a_busy_machine(monkeypatch) -> None:
    clock, log = _Clock(), []
    monkeypatch.setattr(speed, 'perf_counter', clock)
    cases = [case(), case(model='b'), case(model='c')]
    durations = (0.001, 0.003, 0.001)
    completers = [_Completer(clock, duration, log) for duration in durations]
    config = BenchmarkConfig(models=('a', 'b', 'c'), turns=7, seconds=0)
    speed._take_turns(cases, completers, config, on_progress=lambda text: None)
    assert log[3:10] == [0.001] * 3 + [0.003] + [0.001] * 3  # one turn, after one warm-up each
    assert [len(c.times) for c in cases] == [21, 7, 21]
    assert cases[0].ratio == 1
    assert cases[1].ratio == pytest.approx(3, rel=0.02)
    assert cases[2].ratio == pytest.approx(1, rel=0.02)


def test_numbers_of_a_case_are_those_of_its_times() -> None:
    measured = case()
    measured.times = [0.010] * 98 + [0.030, 0.050]
    values = measured.as_dict()
    assert (values['median_ms'], values['runs'], values['first_ms']) == (10, 100, 500)
    assert values['p99_ms'] == pytest.approx(np.percentile(measured.times, 99) * 1e3, abs=1e-3)
    assert values['per_second'] == pytest.approx(100 / 1.06, abs=1e-3)
    assert 'times' not in values


def test_memory_is_that_of_a_process_of_its_own() -> None:
    held = np.ones(800_000_000, np.uint8)
    memory = speed.peak_memory(CompleterConfig(model='nearest'), (32, 64), 0.1)
    assert 100 < memory < held.nbytes / 1e6


def test_cost_counts_parameters_and_operations() -> None:
    parameters, gflop = cost('light', (352, 1216))
    assert parameters == sum(p.numel() for p in networks.build('light').parameters())
    assert gflop == pytest.approx(5.3, abs=0.1)
    # Twice the height, twice the operations.
    assert cost('lrru_mini', (128, 64))[1] == pytest.approx(
        2 * cost('lrru_mini', (64, 64))[1], 0.05
    )


def test_what_cannot_run_is_left_out_with_the_reason(caplog, no_processes) -> None:
    config = BenchmarkConfig(
        models=('nearest', 'light'),
        sizes=((32, 64),),
        devices=('cpu', 'cuda:77'),
        precisions=('float32', 'bfloat16'),
        seconds=0,
        turns=1,
    )
    cases = run(config, on_progress=lambda text: None)
    # A baseline has one device and one precision, whatever is asked for.
    assert [(c.model, c.device, c.precision) for c in cases] == [
        ('nearest', 'cpu', 'float32'),
        ('light', 'cpu', 'float32'),
        ('light', 'cpu', 'bfloat16'),
    ]
    assert 'cuda:77 is not available' in caplog.text


def test_networks_without_weights_are_measured_with_random_ones(no_processes) -> None:
    config = BenchmarkConfig(models=('lrru_mini',), sizes=((32, 64),), seconds=0, turns=1)
    [found] = run(config, on_progress=lambda text: None)
    assert (found.weights, found.parameters) == ('random', 329674)
    assert found.gflop > 0


def test_the_search_is_timed_beside_every_distance(monkeypatch) -> None:
    found = time_nearest((40, 60), 0.1, 'cpu')
    assert found.equal
    assert found.points == (synthetic((40, 60), 0.1).sparse > 0).sum()
    assert found.ours > 0
    assert found.brute_force > 0
    right = precision.nearest_valid
    monkeypatch.setattr(
        precision, 'nearest_valid', lambda valid, count: right(valid, count).flip(3)
    )
    assert not time_nearest((40, 60), 0.1, 'cpu').equal


def test_the_brute_force_finds_the_smallest_distances() -> None:
    valid = torch.zeros(5, 9, dtype=torch.bool)
    for row, column in ((0, 0), (4, 8), (2, 4), (2, 6), (0, 8)):
        valid[row, column] = True
    squared = brute_force_nearest(valid, torch.tensor([2 * 9 + 5, 0]), 4)
    assert squared.tolist() == [[1, 1, 13, 13], [0, 20, 40, 64]]


def test_deviations_are_those_of_the_precision_alone(tmp_path: Path) -> None:
    settings = CompleterConfig(weights=str(save_light(tmp_path / 'a.pth', 2)), device='cpu')
    same, low = deviations(settings, ('float32', 'bfloat16'), [synthetic((64, 96), 0.1)] * 2)
    assert (same.model, same.frames, same.rmse_mm, same.p99_mm) == ('light', 2, 0, 0)
    assert low.precision == 'bfloat16'
    assert 0 < low.mean_mm < low.rmse_mm < 2000
    assert same.share == 0 < low.share < 1
    assert deviations(CompleterConfig(model='nearest'), ('bfloat16',), []) == []


def test_without_weights_all_precisions_get_the_same_random_ones() -> None:
    frames = [synthetic((32, 64), 0.1)]
    settings = CompleterConfig(model='lrru_mini', device='cpu')
    same, low = deviations(settings, ('float32', 'bfloat16'), frames)
    assert (same.weights, same.rmse_mm, low.weights) == ('random', 0, 'random')
    assert low.rmse_mm > 0


def test_all_names_every_network() -> None:
    from dmd3c_ros.cli.benchmark import _models

    assert _models('all') == networks.names()
    assert _models('bpnet=a.pth') == ('bpnet=a.pth',)


def test_the_command_prints_a_table_and_writes_the_numbers(
    tmp_path: Path, monkeypatch, no_processes
) -> None:
    monkeypatch.setenv('COLUMNS', '300')
    arguments = ['--model', 'nearest', '--size', '32x64', '--size', '40x64', '--device', 'cpu']
    arguments += ['--seconds', '0', '--turns', '2', '--json', str(tmp_path / 'a.json')]
    result = CliRunner().invoke(app, ['bench', 'speed', *arguments])
    assert result.exit_code == 0, result.output
    for text in ('median ms', 'p99 ms', 'GFLOP', 'brute force', '40x64'):
        assert text in result.output
    content = json.loads((tmp_path / 'a.json').read_text())
    assert [c['size'] for c in content['cases']] == [[32, 64], [40, 64]]
    assert all(c['runs'] >= 2 and c['median_ms'] > 0 for c in content['cases'])
    assert all(search['equal'] and search['ratio'] > 0 for search in content['nearest'])
    assert content['machine']['threads'] >= 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '352'], '--size: expected HEIGHTxWIDTH'),
        (['--size', '8x64'], 'sizes: expected 32 pixels or more'),
        (['--model', 'lihgt'], 'nothing could be measured'),
        (['--points', '0'], 'points: expected a fraction above 0'),
    ],
)
def test_bad_options_end_with_the_reason(arguments: list[str], message: str, monkeypatch) -> None:
    monkeypatch.setenv('COLUMNS', '300')
    result = CliRunner().invoke(app, ['bench', 'speed', *arguments])
    assert result.exit_code == 1
    assert message in result.output
