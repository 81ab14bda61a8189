"""The training engine: several processes, every network, all objectives."""

import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import lightning.pytorch as pl
import torch
import yaml
from training_data import made_sample, make_shards

from dmd3c_ros.core import networks
from dmd3c_ros.core.networks import NetworkOutput
from dmd3c_ros.core.weights.checkpoint import load_weights, read_checkpoint, read_state
from training import report
from training.engine import module
from training.engine import run as engine
from training.engine.checkpoints import save, weights_content
from training.engine.loaders import NumberSampler
from training.engine.module import Training, pad
from training.engine.run import train
from training.engine.settings import TrainConfig
from training.losses.objectives import ObjectiveConfig
from training.settings import from_dict, load

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    'PYTHONPATH': f'{REPOSITORY}{os.pathsep}{REPOSITORY / "test"}',
}


@pytest.fixture(scope='module')
def shards(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp('shards'))


def settings(shards: Path, out: Path, **changes) -> dict:
    """A short run of the light network on the CPU."""
    return {
        'out': str(out),
        'network': 'light',
        'data': {
            'shards': {
                'root': str(shards),
                'held_out': 2,
                'augment': {'crop_height': 32, 'crop_width': 64},
            }
        },
        'loss': {'dense': {'kind': 'l1'}},
        'iterations': 6,
        'batch': 2,
        'precision': '32-true',
        'ema_decay': 0.9,
        'validate_every': 3,
        'checkpoint_every': 2,
        'log_every': 1,
        'workers': 0,
        'accelerator': 'cpu',
        **changes,
    }


def losses(out: Path) -> dict[int, float]:
    """Loss of each step, from the TensorBoard log; of a step logged twice, the last one."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = {}
    for file in sorted((out / 'tensorboard').glob('events*'), key=lambda f: f.stat().st_mtime):
        events = EventAccumulator(str(file)).Reload()
        if 'train/loss' in events.Tags()['scalars']:
            curve |= {event.step: event.value for event in events.Scalars('train/loss')}
    return curve


def validations(out: Path) -> list[int]:
    """Iterations at which a run was validated."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = []
    for file in sorted((out / 'tensorboard').glob('events*')):
        events = EventAccumulator(str(file)).Reload()
        if 'validation/rmse_mm' in events.Tags()['scalars']:
            found += [event.step for event in events.Scalars('validation/rmse_mm')]
    return found


# Of two processes. Batch normalization sees half a batch in each; its statistics stay fixed here.
IN_STEP = {'iterations': 3, 'freeze_norm': True, 'validate_every': 3}


# What torchrun does, but for the processes that it starts: each would take longer to import
# everything than to train. They are forked, after all has been imported once.
TORCHRUN = """
import sys
from dataclasses import replace
from torch.distributed import run
from training.stage1 import main

def train(*files):
    for file in files:
        main(['--config', file])

words = ['--rdzv-backend=c10d', '--rdzv-endpoint=localhost:0', '--nproc-per-node=2', 'script']
config, *_ = run.config_from_args(run.parse_args(words))
run.elastic_launch(replace(config, start_method='fork'), train)(*sys.argv[1:])
"""


@pytest.fixture(scope='module')
def of_two_processes(shards, tmp_path_factory) -> Path:
    """Folder of `in_step` and `at_random`, runs of `python -m training.stage1` under torchrun.

    One after the other in the same two processes.
    """
    folder = tmp_path_factory.mktemp('two')
    changes = {'in_step': IN_STEP, 'at_random': {'network': 'lrru_tiny', 'validate_every': 6}}
    files = []
    for name, changed in changes.items():
        files.append(folder / f'{name}.yaml')
        files[-1].write_text(yaml.safe_dump(settings(shards, folder / name, **changed)))
    process = subprocess.run(
        [sys.executable, '-c', TORCHRUN, *map(str, files)],
        env=ENVIRONMENT,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=480,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return folder


@pytest.mark.timeout(600)  # of a busy machine
def test_two_processes_train_in_step_with_one_at_the_same_total_batch(
    of_two_processes, shards, tmp_path
):
    one, two = tmp_path / 'one', of_two_processes / 'in_step'
    train(from_dict(TrainConfig, settings(shards, one, **IN_STEP)))
    expected, got = (read_state(f / 'weights.pth') for f in (one, two))
    initial = Training(from_dict(TrainConfig, settings(shards, one))).network.state_dict()
    moved = 0
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            moved += (tensor - initial[name]).abs().sum()
            torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=2e-6)
    assert moved > 1
    # The log tells of the whole batch, not of the part that the first process sees.
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


def test_a_batch_in_parts_trains_as_a_whole_one_and_goes_on_after_a_stop(shards, tmp_path):
    changes = {'iterations': 4, 'batch': 4, 'freeze_norm': True, 'validate_every': 2}
    train(from_dict(TrainConfig, settings(shards, tmp_path / 'one', **changes)))
    parts = settings(shards, tmp_path / 'parts', **changes, accumulate=2, checkpoint_every=1)
    train(from_dict(TrainConfig, {**parts, 'stop_at': 3}))
    assert torch.load(tmp_path / 'parts/last.ckpt', weights_only=True)['global_step'] == 3
    train(from_dict(TrainConfig, parts))
    expected, got = (read_state(tmp_path / n / 'weights.pth') for n in ('one', 'parts'))
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=2e-6)
    [events] = {len(validations(tmp_path / name)) for name in ('one', 'parts')}
    assert events == 2


@pytest.mark.timeout(600)  # of a busy machine
def test_processes_train_a_network_that_leaves_out_blocks_at_random(of_two_processes):
    assert (of_two_processes / 'at_random' / 'weights.pth').is_file()


def test_more_processes_than_images_to_validate_are_refused(shards, tmp_path):
    task = Training(from_dict(TrainConfig, settings(shards, tmp_path / 'run', batch=3)))
    task._trainer = SimpleNamespace(world_size=3)
    with pytest.raises(ValueError, match='an image for each of the 3 processes, got 2'):
        task.setup('fit')


def lrru_with_recipe(shards: Path, out: Path, **loss) -> dict:
    return settings(shards, out, network='lrru_mini', loss={'recipe': 'l1', **loss}, iterations=3)


def test_a_loss_that_leaves_parameters_untrained_is_refused(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(module, '_PATIENCE', 2)
    with pytest.raises(ValueError, match=r'got none for 78 .* such as upproj0.*loss\.earlier'):
        train(from_dict(TrainConfig, lrru_with_recipe(shards, tmp_path / 'last')))
    train(from_dict(TrainConfig, lrru_with_recipe(shards, tmp_path / 'all', earlier=0.8)))


def test_processes_share_the_batch_of_every_step_between_them():
    whole = list(NumberSampler(3, 6, 4, 0, 1))
    parts = [list(NumberSampler(3, 6, 4, rank, 2)) for rank in (0, 1)]
    assert whole == list(range(12, 24))
    for step in range(3):
        shared = parts[0][2 * step : 2 * step + 2] + parts[1][2 * step : 2 * step + 2]
        assert sorted(shared) == whole[4 * step : 4 * step + 4]


def test_a_run_leaves_weights_that_the_package_loads(shards, tmp_path):
    weights = train(from_dict(TrainConfig, settings(shards, tmp_path / 'run', iterations=2)))
    network = networks.build('light')
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_weights(network, weights)
    assert any((network.state_dict()[name] != before[name]).any() for name in before)
    load_weights(network, weights.with_name('best.pth'))
    config = settings(shards, tmp_path / 'next', iterations=1, initial_weights=str(weights))
    state = read_state(weights)
    for name, tensor in Training(from_dict(TrainConfig, config)).network.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


def test_weights_state_what_they_expect_wherever_they_lie(shards, tmp_path):
    """BP-Net's two conventions differ by a factor of ten; a folder called NYU must not decide."""
    stated = {'std': [0.2, 0.3, 0.4], 'depth_scale': 10.0}
    folder = tmp_path / 'nyu_street'
    for name, convention in (('plain', {}), ('stated', stated)):
        config = settings(shards, folder / name, iterations=1, convention=convention)
        train(from_dict(TrainConfig, config))
    expected = networks.build('light').convention
    for name in ('weights.pth', 'best.pth'):
        network = networks.build('light')
        load_weights(network, folder / 'plain' / name)
        assert network.convention == expected
        load_weights(network, folder / 'stated' / name)
        assert network.convention == replace(expected, std=(0.2, 0.3, 0.4), depth_scale=10.0)
        assert read_checkpoint(folder / 'plain' / name).facts['network'] == 'light'
    # A run that goes on from weights takes their convention over, unless it states another.
    begun = settings(shards, tmp_path, initial_weights=str(folder / 'stated/best.pth'))
    assert Training(from_dict(TrainConfig, begun)).network.convention.depth_scale == 10.0
    begun['convention'] = {'depth_scale': 1.0}
    assert Training(from_dict(TrainConfig, begun)).network.convention == replace(
        expected, std=(0.2, 0.3, 0.4)
    )


def test_weights_of_bpnet_are_not_judged_by_the_name_of_their_folder(tmp_path):
    folder = tmp_path / 'nyu'
    folder.mkdir()
    network = networks.build('bpnet')
    expected = network.convention
    save(weights_content(network, 'bpnet'), folder / 'weights.pth')
    torch.save({'net': network.state_dict()}, folder / 'old.pth')
    # A file without its convention is still read as before.
    load_weights(network, folder / 'old.pth')
    assert network.convention.depth_scale == 10.0
    load_weights(network, folder / 'weights.pth')
    assert network.convention == expected


def test_the_averaged_weights_are_the_moving_average_of_the_trained_ones(shards, tmp_path):
    config = from_dict(TrainConfig, settings(shards, tmp_path / 'run', iterations=3))
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(module.network.coarse_head.weight.detach().clone())

    weights = train(config, (Watch(),))
    expected = seen[0]
    for tensor in seen[1:]:
        expected = 0.9 * expected + 0.1 * tensor
    torch.testing.assert_close(read_state(weights)['coarse_head.weight'], expected)


def test_the_last_weights_are_those_of_the_last_iteration_validated_or_not(shards, tmp_path):
    weights = train(from_dict(TrainConfig, settings(shards, tmp_path / 'run', iterations=4)))
    last = torch.load(tmp_path / 'run/last.ckpt', weights_only=True)
    assert last['global_step'] == 4
    for name, tensor in read_state(weights).items():
        torch.testing.assert_close(tensor, last['state_dict'][f'average.module.{name}'])


def test_a_compiled_run_ends_with_the_weights_of_a_plain_one(shards, tmp_path, monkeypatch):
    compile_module, compiled = torch.nn.Module.compile, []

    def traced(module):
        compiled.append(module)
        compile_module(module, backend='eager')  # without the minute that machine code takes

    monkeypatch.setattr(torch.nn.Module, 'compile', traced)
    plain, other = (
        train(from_dict(TrainConfig, settings(shards, tmp_path / name, iterations=2, **changes)))
        for name, changes in (('plain', {}), ('compiled', {'compile': True}))
    )
    assert len(compiled) == 1
    expected, found = read_state(plain), read_state(other)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)


def test_losses_are_computed_in_full_precision(shards, tmp_path):
    """CUDA refuses some of them in lower precision, the cross entropy of the confidence among
    them."""
    config = settings(shards, tmp_path / 'run', iterations=1, precision='bf16-mixed')
    task, seen = Training(from_dict(TrainConfig, config | {'loss': {'relative': {}}})), []
    objective = task._objective

    def watched(output, batch):
        seen.append((torch.is_autocast_enabled('cpu'), output.depth.dtype))
        return objective(output, batch)

    task._objective = watched
    pl.Trainer(fast_dev_run=1, accelerator='cpu', precision='bf16-mixed', logger=False).fit(task)
    assert seen == [(False, torch.float32)]


def test_without_a_number_all_gpus_are_taken_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    data, loss = {'shards': {'root': 'r'}}, {'dense': {}}
    for accelerator, expected in (('auto', 4), ('gpu', 4), ('cpu', 1)):
        config = {'out': 'o', 'data': data, 'loss': loss, 'accelerator': accelerator}
        assert engine._processes(from_dict(TrainConfig, config))['devices'] == expected


def test_a_folder_of_another_run_is_refused(shards, tmp_path):
    config = settings(shards, tmp_path / 'run', iterations=1)
    train(from_dict(TrainConfig, config))
    with pytest.raises(ValueError, match='other settings of weight_decay'):
        train(from_dict(TrainConfig, {**config, 'weight_decay': 0.5}))
    # How often it is saved is no other run.
    train(from_dict(TrainConfig, {**config, 'checkpoint_every': 5}))


def test_a_run_from_before_a_setting_existed_goes_on(shards, tmp_path):
    config, path = settings(shards, tmp_path / 'run', iterations=2), tmp_path / 'run/last.ckpt'
    train(from_dict(TrainConfig, {**config, 'stop_at': 1}))
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint['config']['convention'], checkpoint['config']['data']['shards']['simulation']
    torch.save(checkpoint, path)
    train(from_dict(TrainConfig, config))
    assert torch.load(path, weights_only=True)['global_step'] == 2


def test_a_full_disk_while_saving_leaves_the_checkpoint_before(shards, tmp_path, monkeypatch):
    config = from_dict(TrainConfig, settings(shards, tmp_path / 'run'))
    save = torch.save

    def full_disk(content, file):
        if content.get('global_step') == 4:
            file.write(b'half of it')
            raise OSError(28, 'No space left on device')
        save(content, file)

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        train(config)
    monkeypatch.undo()
    assert torch.load(tmp_path / 'run/last.ckpt', weights_only=True)['global_step'] == 2
    assert not list((tmp_path / 'run').glob('.*tmp'))
    train(config)
    assert torch.load(tmp_path / 'run/last.ckpt', weights_only=True)['global_step'] == 6


def test_training_lowers_the_validation_error(shards, tmp_path):
    config = settings(
        shards, tmp_path / 'run', iterations=40, learning_rate=3e-3, validate_every=20
    )
    config['data']['shards']['augment'] = {}
    config['loss'] = {'relative': {}}
    errors = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer, module):
            errors.append(float(trainer.callback_metrics['validation/rmse_mm']))

    train(from_dict(TrainConfig, config), (Watch(),))
    assert errors[-1] < 0.9 * errors[0]


@pytest.fixture
def collected():
    """Trainer and network hold each other: gigabytes that would wait for Python's collector."""
    yield
    gc.collect()


@pytest.mark.parametrize('name', ['bpnet', 'lrru_base', 'completionformer'])
def test_one_step_of_each_large_network_runs(name, shards, tmp_path, collected):
    config = settings(shards, tmp_path, network=name, batch=1)
    task = Training(from_dict(TrainConfig, config))
    before = [parameter.detach().double().sum() for parameter in task.network.parameters()]
    # Neither checkpoints nor images: with the optimizer's state they take a gigabyte.
    trainer = pl.Trainer(
        fast_dev_run=True, accelerator='cpu', precision='bf16-mixed', logger=False
    )
    trainer.fit(task)
    after = [parameter.detach().double().sum() for parameter in task.network.parameters()]
    assert all(total.isfinite() for total in after)
    moved = [old != new for old, new in zip(before, after, strict=True)]
    assert np.mean(moved) > 0.9
    assert np.isfinite(float(trainer.callback_metrics['validation/rmse_mm']))


def output_of(depth: torch.Tensor) -> NetworkOutput:
    coarse = depth[..., ::2, ::2]
    return NetworkOutput(depth, torch.full_like(depth, 0.5), (coarse, depth))


@pytest.mark.parametrize(
    'loss',
    [
        {'dense': {'kind': 'l1'}},
        {'dense': {'kind': 'ssi'}},
        {'dense': {'kind': 'ssi', 'inverse': True}},
        {'dense': {'kind': 'random_patch'}},
        {'relative': {'confidence': 0.0}},
        {'relative': {'confidence': 0.0, 'geometric': True}},
    ],
)
def test_every_objective_prefers_the_truth_and_reaches_every_scale(loss):
    objective = from_dict(ObjectiveConfig, loss).build()
    truth = torch.from_numpy(made_sample(1).depth)[None, None]
    truth[..., :5] = 0
    batch = {'depth': truth, 'sparse': truth}
    coarse = truth[..., ::2, ::2].clone().requires_grad_()
    fine = (truth + torch.rand_like(truth)).requires_grad_()
    loss_of_wrong = objective(NetworkOutput(fine, None, (coarse + 0.1 * coarse**2, fine)), batch)
    loss_of_truth = objective(output_of(truth.where(truth > 0, torch.tensor(3.0))), batch)
    assert loss_of_truth.total < 0.7 * loss_of_wrong.total
    loss_of_wrong.total.backward()
    assert coarse.grad.abs().sum() > 0 and fine.grad.abs().sum() > 0
    assert not fine.grad[..., :5].any()


def test_in_the_geometric_mean_easy_and_hard_images_weigh_alike():
    loss = {'relative': {'confidence': 0.0, 'geometric': True}}
    objective = from_dict(ObjectiveConfig, loss).build()
    truth = torch.full((2, 1, 16, 16), 5.0)

    def total(easy: float, hard: float) -> float:
        depth = truth + torch.tensor([easy, hard]).view(2, 1, 1, 1)
        output = NetworkOutput(depth, None, (depth,))
        return float(objective(output, {'depth': truth, 'sparse': truth}).total)

    before = total(0.4, 4.0)
    assert total(0.2, 4.0) - before == pytest.approx(total(0.4, 2.0) - before, rel=0.1)
    assert total(0.0, 0.0) < before


def test_far_pixels_count_more_where_asked_for():
    truth = torch.full((1, 1, 16, 16), 5.0)
    truth[..., :8] = 15.0

    def total(power: float, error: torch.Tensor) -> float:
        loss = {'relative': {'confidence': 0.0, 'l2': 0.0, 'depth_power': power}}
        depth = truth + error
        output = NetworkOutput(depth, None, (depth,))
        return float(
            from_dict(ObjectiveConfig, loss)
            .build()(output, {'depth': truth, 'sparse': truth})
            .total
        )

    far, near = (truth > 10).float(), (truth < 10).float()
    assert total(0, far) == pytest.approx(total(0, near)) == pytest.approx(0.5 / 10)
    assert total(1, far) == pytest.approx(0.75 / 10)
    assert total(1, near) == pytest.approx(0.25 / 10)


def test_the_relative_objective_learns_trust():
    objective = from_dict(ObjectiveConfig, {'relative': {}}).build()
    truth = torch.full((1, 1, 16, 16), 5.0)
    truth[..., 8:] = 0
    batch = {'depth': truth, 'sparse': truth}
    sure = torch.where(truth > 0, 0.95, 0.05)
    right, wrong = (
        objective(NetworkOutput(truth + 1e-3, trust, (truth + 1e-3,)), batch).terms['confidence']
        for trust in (sure, 1 - sure)
    )
    assert right < 0.1 < 2 < wrong


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'network': 'resnet'}, 'network: expected one of'),
        ({'batch': 0}, 'batch: expected at least 1'),
        ({'ema_decay': 1.0}, 'ema_decay'),
        ({'learning_rate': 0}, 'learning_rate'),
        ({'schedule': 'cosine'}, 'schedule'),
        ({'iteration': 5}, 'unknown iteration; expected some of'),
        ({'loss': {}}, 'loss: expected one of dense, relative, recipe, terms; got 0'),
        ({'loss': {'recipe': 'best'}}, 'recipe: expected one of'),
        ({'loss': {'dense': {}, 'earlier': 0.8}}, 'earlier: expected with a recipe only'),
        ({'data': {}}, 'data: expected one of shards, scenes, dataset, mixed; got 0'),
        ({'data': {'shards': {'root': 'a', 'held': 1}}}, 'unknown data.shards.held'),
        ({'iterations': 'many'}, 'iterations: expected int'),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        from_dict(TrainConfig, settings(tmp_path, tmp_path, **changes))


def test_the_default_settings_are_those_of_the_paper():
    config = from_dict(
        TrainConfig, {'out': 'o', 'data': {'shards': {'root': 'r'}}, 'loss': {'dense': {}}}
    )
    assert (config.network, config.iterations, config.batch) == ('bpnet', 600_000, 16)
    assert (config.weight_decay, config.clip_norm, config.ema_decay) == (0.05, 0.1, 0.9999)


def test_padding_enlarges_a_batch_to_what_a_network_takes_and_adds_nothing_known():
    batch = {
        'image': torch.rand(1, 3, 33, 50),
        'sparse': torch.rand(1, 1, 33, 50),
        'depth': torch.rand(1, 1, 33, 50),
        'disparity': torch.rand(1, 1, 33, 50),
        'K': torch.eye(3)[None],
    }
    padded = pad(batch, 32)
    for name in ('image', 'sparse', 'depth', 'disparity'):
        assert padded[name].shape[-2:] == (64, 64)
        np.testing.assert_array_equal(padded[name][..., :33, :50], batch[name])
    assert padded['sparse'].sum() == pytest.approx(batch['sparse'].sum().item())
    assert padded['depth'].sum() == pytest.approx(batch['depth'].sum().item())
    assert padded['disparity'].isfinite().sum() == 33 * 50
    torch.testing.assert_close(padded['K'], batch['K'])


@pytest.mark.parametrize('loss', [{'dense': {'kind': 'l1'}}, {'recipe': 'bpnet'}])
def test_a_window_of_any_size_trains(loss, shards, tmp_path):
    """NYU's 228x304, a multiple of nothing, ended in a traceback."""
    config = settings(shards, tmp_path, network='completionformer', batch=1, loss=loss)
    config['data']['shards']['augment'] = {'crop_height': 52, 'crop_width': 72}
    task = Training(from_dict(TrainConfig, config))
    pl.Trainer(fast_dev_run=True, accelerator='cpu', logger=False).fit(task)


def test_a_report_shows_curves_images_settings_and_the_command(shards, tmp_path):
    pytest.importorskip('matplotlib')
    out = tmp_path / 'run'
    config = settings(shards, out, iterations=4, validate_every=2, validation_images=1)
    train(from_dict(TrainConfig, {**config, 'stop_at': 2}))
    train(from_dict(TrainConfig, config))
    report.main([str(out)])
    page = (out / 'report.html').read_text()
    # Losses, learning rate, scores in mm, 1/km and without unit; one image of the validation.
    assert page.count('data:image/png;base64,') == 5 + 1
    assert all(f'<th>{name}</th>' in page for name in module.SCORES)
    assert 'validation/0, iteration 4' in page
    # The scores, too, are told of the iterations after which they were taken.
    assert '<td>4</td>' in page and '<td>3</td>' not in page
    assert 'weight_decay: 0.05' in page and f'root: {shards}' in page
    assert load(TrainConfig, out / 'settings.yaml') == from_dict(TrainConfig, config)
    with pytest.raises(SystemExit, match='expected a run, with its log'):
        report.main([str(tmp_path)])


def test_a_run_may_stop_early_and_go_on(shards, tmp_path):
    config = settings(shards, tmp_path / 'run')
    train(from_dict(TrainConfig, {**config, 'stop_at': 3}))
    assert torch.load(tmp_path / 'run/last.ckpt', weights_only=True)['global_step'] == 3
    train(from_dict(TrainConfig, config))
    train(from_dict(TrainConfig, settings(shards, tmp_path / 'whole')))
    curve, whole = losses(tmp_path / 'run'), losses(tmp_path / 'whole')
    assert curve == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    'file', sorted(REPOSITORY.glob('training/config/stage?_*.yaml')), ids=lambda f: f.stem
)
def test_every_shipped_configuration_is_one(file):
    config = load(TrainConfig, file)
    assert config.network in file.stem or config.network.startswith('lrru')
    if file.stem.startswith('stage2'):
        assert config.iterations == 300_000 and config.loss.recipe == 'ssi'
        # No gradient runs between the updates of LRRU.
        assert config.loss.earlier == (0.8 if config.network.startswith('lrru') else 0)
