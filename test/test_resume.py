"""Runs of both stages, in one process and in two, that SIGKILL ends and that go on bit for bit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import torch
from training_data import make_shards

from dmd3c_ros.datasets.miniature import write_miniature

# On a busy machine processes starve.
pytestmark = pytest.mark.timeout(900)

TEST = Path(__file__).resolve().parent
RUNS = [(stage, processes) for stage in ('stage1', 'stage2') for processes in (1, 2)]


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> tuple[Path, dict[tuple[str, int], list[int]]]:
    """Folder of all runs, and how each of its three starts ended."""
    folder = tmp_path_factory.mktemp('runs')
    make_shards(folder / 'shards', 5)
    write_miniature('kitti', folder / 'kitti', frames=2)
    command = [sys.executable, str(TEST / 'killed_runs.py'), 'kitti', 'shards', 'out']
    # One thread: sums in another order end in other digits. Nothing may run beside a fork.
    environment = {**os.environ, 'PYTHONPATH': str(TEST.parent), 'OMP_NUM_THREADS': '1'}
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800
    )
    assert process.returncode == 0, process.stderr[-2000:]
    lines = [line.split() for line in process.stdout.splitlines() if line.startswith('stage')]
    ends = {(stage, int(count)): [int(end) for end in rest] for stage, count, *rest in lines}
    assert sorted(ends) == RUNS, process.stderr[-2000:]
    return folder / 'out', ends


def leaves(content: object, name: str = '') -> Iterator[tuple[str, object]]:
    """What a checkpoint holds, by its place."""
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    else:
        yield name, content
        return
    for key, value in items:
        yield from leaves(value, f'{name}/{key}')


@pytest.mark.parametrize(('stage', 'processes'), RUNS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(stage, processes, runs):
    out, ends = runs
    assert ends[stage, processes] == [0, 9, 0]
    whole, killed = (out / f'{stage}_{processes}_{name}' for name in ('whole', 'killed'))
    for file in ('last.ckpt', 'weights.pth', 'best.pth'):
        expected, got = (
            dict(leaves(torch.load(run / file, weights_only=True))) for run in (whole, killed)
        )
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
            assert same(value, got[name]), f'{file}{name}'
    # Nor is anything left of the checkpoint in whose middle a run was killed.
    assert not list(killed.glob('.*'))
