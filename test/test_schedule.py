"""Learning rates and weight decay: those of the paper, and those of the authors' codes."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

from training.engine.schedule import make_optimizer, make_scheduler
from training.engine.settings import TrainConfig
from training.settings import from_dict, load

CONFIGS = Path(__file__).parents[1] / 'training/config'
BASE = {'out': 'o', 'data': {'shards': {'root': 'r'}}, 'loss': {'dense': {}}}


def rates(config: TrainConfig) -> tuple[list[float], list[float]]:
    """Learning rate and first momentum of every iteration."""
    optimizer = make_optimizer(config, list(torch.nn.Linear(2, 2).parameters()))
    scheduler = make_scheduler(config, optimizer)
    rows = []
    for _ in range(config.iterations):
        rows.append((optimizer.param_groups[0]['lr'], optimizer.param_groups[0]['betas'][0]))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return tuple(map(list, zip(*rows, strict=True)))


def config(**changes) -> TrainConfig:
    return from_dict(TrainConfig, {**BASE, **changes})


@pytest.mark.parametrize('iterations', [1, 2, 9, 10, 11, 20])
def test_a_run_of_any_length_has_a_cycle(iterations):
    """Ten iterations, of which the rise has exactly one, divided by zero."""
    curve, _ = rates(config(iterations=iterations))
    assert all(0 < rate <= 1e-3 * (1 + 1e-9) for rate in curve)
    if iterations >= 10:
        assert max(curve) == pytest.approx(1e-3, rel=0.05)


def test_the_cycle_of_bpnets_authors():
    shipped = load(TrainConfig, CONFIGS / 'authors/bpnet_kitti.yaml', ['iterations=1000'])
    quiet = from_dict(TrainConfig, {**BASE, **{
        name: getattr(shipped, name)
        for name in ('iterations', 'learning_rate', 'warm_up', 'div_factor', 'final_div_factor',
                     'momentum_min', 'momentum_max')
    }})  # fmt: skip
    curve, momenta = rates(quiet)
    # From a fortieth to the peak within a tenth of the run, then down to a quarter of the peak.
    assert curve[0] == pytest.approx(1e-3 / 40)
    assert curve.index(max(curve)) == pytest.approx(99, abs=1)
    assert curve[-1] == pytest.approx(1e-3 / 4)
    assert (max(momenta), min(momenta)) == pytest.approx((0.90, 0.85))
    noisy, _ = rates(shipped)
    off = [a / b - 1 for a, b in zip(noisy, curve, strict=True)]
    assert 0.09 < max(off) <= 0.1 and -0.1 <= min(off) < -0.09
    assert rates(shipped)[0] == noisy


def test_steps_rise_and_are_cut_at_their_milestones():
    curve, _ = rates(
        config(schedule='steps', iterations=100, warm_up=0.04, milestones=[0.5, 0.75])
    )
    assert curve[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert curve[49:51] == pytest.approx([1e-3, 5e-4])
    assert curve[74:76] == pytest.approx([5e-4, 2.5e-4])
    assert set(rates(config(schedule='constant', iterations=5))[0]) == {1e-3}


def test_vectors_are_decayed_unless_it_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed = make_optimizer(config(), [*network.parameters()]).param_groups
    assert [group['weight_decay'] for group in decayed] == [0.05]
    matrices, vectors = make_optimizer(
        config(decay_vectors=False), [*network.parameters()]
    ).param_groups
    assert [p.ndim for p in matrices['params']] == [4]
    assert [p.ndim for p in vectors['params']] == [1, 1, 1]
    assert (matrices['weight_decay'], vectors['weight_decay']) == (0.05, 0.0)


@pytest.mark.parametrize('file', sorted(CONFIGS.glob('authors/*.yaml')), ids=lambda f: f.stem)
def test_settings_of_the_authors_are_ones_and_name_their_command(file):
    settings = load(TrainConfig, file)
    network, _ = file.stem.split('_')
    assert settings.network.startswith({'dmd3c': 'bpnet'}.get(network, network))
    assert settings.precision == '32-true'
    assert f'training.stage2 --config training/config/authors/{file.name}' in file.read_text()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'milestones': [0.5, 0.4]}, 'milestones: expected rising fractions'),
        ({'milestones': [1.5]}, 'milestones: expected rising fractions'),
        ({'momentum_min': 0.99}, 'momentum: expected 0 <= minimum <= maximum'),
        ({'div_factor': 0}, 'div_factor: expected above 0'),
        ({'batch': 6, 'accumulate': 4}, 'accumulate: expected a divisor of the batch of 6'),
        ({'rate_noise': 1.5}, 'rate_noise: expected 0 to below 1'),
    ],
)
def test_settings_that_make_no_schedule_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
