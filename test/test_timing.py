"""What `python -m training.measure training` measures is what a run does."""

from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import torch
import yaml
from training_data import ON_CPU, make_shards

from dmd3c_ros.core.weights.checkpoint import read_state
from training import measure
from training.data.guard import collate
from training.engine import timing
from training.engine.module import Training
from training.engine.run import train
from training.engine.schedule import make_optimizer
from training.engine.settings import TrainConfig
from training.losses.objectives import RecipeLoss
from training.settings import from_dict


@pytest.fixture
def settings(tmp_path) -> dict:
    augment = {'crop_height': 32, 'crop_width': 64}
    shards = {'root': str(make_shards(tmp_path / 'shards', 6)), 'held_out': 2, 'augment': augment}
    return {
        'out': str(tmp_path / 'run'),
        'network': 'light',
        'data': {'shards': shards},
        'loss': {'recipe': 'lrru'},
        'iterations': 1,
        'batch': 2,
        'schedule': 'constant',
        **ON_CPU,
        'ema_decay': 0.5,
    }


def test_a_measured_iteration_trains_as_one_of_a_run_does(settings):
    config = from_dict(TrainConfig, settings)
    expected = read_state(train(config))
    task = Training(config).train()
    samples = config.data.open(config.seed, task.network.convention)
    batch, watches = collate([samples[0], samples[1]]), [timing.Watch(task.device)] * 2
    timing._iterate(task, make_optimizer(config, task.trained()), batch, *watches)
    for name, tensor in task.average.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', ['ssi', 'released', 'lrru'])
def test_terms_measured_alone_add_up_to_their_recipe(name, settings):
    config = from_dict(TrainConfig, settings | {'loss': {'recipe': name}})
    batch = {'depth': 2 + torch.rand(1, 1, 32, 64), 'disparity': torch.rand(1, 1, 32, 64)}
    depth = batch['depth'] + torch.rand(1, 1, 32, 64)
    output = timing.NetworkOutput(depth, None, (depth[..., ::2, ::2], depth))
    totals = []
    for losses in (timing._terms(config.loss), {'whole': config.loss.build()}):
        total = 0.0
        for loss in losses.values():
            assert isinstance(loss, RecipeLoss)
            torch.manual_seed(0)
            total += float(loss(output, batch).total)
        totals.append(total)
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


def test_a_batch_in_parts_takes_as_often_the_time_and_devices_share_it():
    seconds = {'loading': 0.5, 'forward': 1.0, 'backward': 2.0, timing.STEP: 1.0}
    found = timing.Timing(seconds, {'ssi': 9.0}, samples=2, parts=8, gigabytes=1.0)
    assert found.iteration == 8 * 3 + 1 and found.loading == 4
    # The optimizer's step is every device's own.
    assert found.days(86400, 8) == pytest.approx(3 + 1)


def test_the_command_tells_every_step_of_a_run(settings, tmp_path, capsys):
    settings |= {'loss': {'recipe': 'ssi'}, 'accumulate': 2, 'iterations': 100}
    file = Path(tmp_path / 'run.yaml')
    file.write_text(yaml.safe_dump(settings))
    threads = torch.get_num_threads()
    try:
        measure.main(['training', '--config', str(file), '--count', '1'])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    rows = ['loading', 'forward', 'supervised alone', 'ssi alone', 'gradient alone', 'backward']
    rows += ['clipping, AdamW, average', 'peak memory', '100 iterations, 8 such devices']
    assert all(row in said for row in rows), said
    with pytest.raises(SystemExit, match='training: expected --config'):
        measure.main(['training'])
