"""Both training stages of the light network from the command line, without any download."""

import json
import logging
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import torch
import yaml
from commands import invoke
from training_data import ON_CPU

from dmd3c_ros.core import networks
from training import generate, stage1, stage2

# On a busy machine processes starve.
pytestmark = pytest.mark.timeout(900)

RUN = {
    'network': 'light',
    'batch': 2,
    'learning_rate': 3e-3,
    'ema_decay': 0.8,
    'clip_norm': 1.0,
    **ON_CPU,
}
CONFIGS = Path(__file__).parents[1] / 'training/config'
STAGE1_ITERATIONS, STAGE2_ITERATIONS = 8, 28


@pytest.fixture(autouse=True)
def logging_level():
    level = logging.getLogger('lightning.pytorch').level
    yield
    logging.getLogger('lightning.pytorch').setLevel(level)


def written(path: Path, settings: dict) -> list[str]:
    """Arguments that name a configuration of these settings."""
    path.write_text(yaml.safe_dump(settings))
    return ['--config', str(path)]


def shipped(name: str, *changes: str) -> list[str]:
    """Arguments that name a configuration that comes along, and what is other than there."""
    return ['--config', str(CONFIGS / f'{name}.yaml'), '--set', *changes]


def mae(weights: Path, kitti: Path, out: Path) -> float:
    """Of the selection set, by `dmd3c evaluate`."""
    arguments = ('--dataset', 'kitti-selection', '--root', kitti, '--weights', weights)
    invoke('evaluate', *arguments, '--device', 'cpu', '--out', out)
    [result] = json.loads((out / 'summary.json').read_text())
    return result['mean']['mae_mm']


def test_the_walk_of_the_documentation_makes_a_network_better_with_each_stage(
    tmp_path, monkeypatch
):
    """Its configurations, with fewer images and iterations."""
    monkeypatch.chdir(tmp_path)
    source = '{name: simulation, kind: street, count: 6, seed: 1, width: 416, height: 128}'
    generate.main(shipped('generate_miniature', f'sources=[{source}]', 'workers=1'))
    quick = ('batch=2', 'learning_rate=3e-3', 'ema_decay=0.8', 'workers=0', 'accelerator=cpu')
    count = (f'iterations={STAGE1_ITERATIONS}', f'validate_every={STAGE1_ITERATIONS}')
    stage1.main(shipped('miniature_stage1', *quick, *count, 'data.shards.held_out=2'))
    kitti = tmp_path / 'data/miniature_kitti'
    invoke('export', 'miniature', 'kitti', kitti, '--frames', 4)
    count = (f'iterations={STAGE2_ITERATIONS}', f'validate_every={STAGE2_ITERATIONS}')
    stage2.main(shipped('miniature_stage2', *quick, *count, 'data.dataset.validation_root='))

    runs = Path('runs')
    pretrained, tuned = runs / 'miniature_stage1/weights.pth', runs / 'miniature_stage2/best.pth'
    torch.manual_seed(0)
    untrained = tmp_path / 'untrained.pth'
    torch.save({'net': networks.build('light').state_dict()}, untrained)
    errors = [
        mae(weights, kitti, tmp_path / f'evaluation_{number}')
        for number, weights in enumerate((untrained, pretrained, tuned))
    ]
    assert errors[2] < errors[1], errors
    assert errors[2] < 0.95 * errors[0], errors


def test_nyu_trains_at_its_own_size_and_unit(tmp_path):
    """As the shipped configuration, with a small network: turned, scaled, 228x304, depth x 10."""
    pytest.importorskip('h5py')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    invoke('export', 'miniature', 'nyu', tmp_path / 'nyu', '--frames', 2)
    settings = yaml.safe_load((CONFIGS / 'stage2_bpnet_nyu.yaml').read_text())
    dataset = {**settings['data']['dataset'], 'root': str(tmp_path / 'nyu'), 'disparity': False}
    changes = {
        'out': str(tmp_path / 'run'),
        'initial_weights': '',
        'data': {'dataset': dataset},
        'loss': {'recipe': 'l1'},
        'iterations': 2,
        'validate_every': 2,
        'batch': 1,
    }
    stage2.main(written(tmp_path / 'nyu.yaml', settings | RUN | changes))
    weights = tmp_path / 'run/best.pth'
    invoke('evaluate', '--dataset', 'nyu', '--root', tmp_path / 'nyu', '--weights', weights,
           '--device', 'cpu', '--out', tmp_path / 'scores')  # fmt: skip
    [result] = json.loads((tmp_path / 'scores/summary.json').read_text())
    # Scored by the command as during the run: neither unit nor colours are mistaken.
    [file] = (tmp_path / 'run/tensorboard').glob('events*')
    [event] = EventAccumulator(str(file)).Reload().Scalars('validation/rmse_mm')
    assert result['mean']['rmse_mm'] == pytest.approx(event.value, rel=1e-4)
