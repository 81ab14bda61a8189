"""Monocular distillation from settings to weights: data, labels on disk, teachers, resuming."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from training_data import made_frame

from dmd3c_ros.core.networks import mono
from dmd3c_ros.core.weights import mono as weights
from training.engine.run import train
from training.generation.sources import SourceImage
from training.mono import ablation
from training.mono.__main__ import main
from training.mono.crops import CropConfig, cut
from training.mono.data import MonoSamples
from training.mono.labels import LabelShards, make_labels
from training.mono.module import Distillation
from training.mono.normalization import KINDS
from training.mono.settings import MonoConfig
from training.mono.teaching import Teachers
from training.scenes.frames import frame_path, save_frame
from training.settings import from_dict, load

SIZE = (64, 96)
TERMS = ('shared', 'local_global', 'gradient', 'channel_wise', 'geometric', 'squared')


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Ten images of smooth colours, larger than the student's input."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for number in range(10):
        small = rng.integers(0, 255, (6, 8, 3), np.uint8)
        large = cv2.resize(small, (200, 150), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{number}.png'), large)
    return folder


@pytest.fixture(scope='module')
def teachers(tmp_path_factory) -> list[Path]:
    """Two teachers: tiny students with weights of their own."""
    folder = tmp_path_factory.mktemp('teachers')
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = mono.build('topformer_tiny')
        network.train()
        with torch.no_grad():
            network(torch.randn(4, 3, 64, 64))
        files.append(folder / f'teacher{seed}.pth')
        torch.save(network.state_dict(), files[-1])
    return files


def settings(out: Path, images: Path | str = '', teachers: list = (), **changes) -> dict:
    """A small run on the CPU; the student is the tiny one."""
    source = {'name': 'folder', 'root': str(images)}
    if not images:
        source = {'name': 'simulation', 'kind': 'indoor', 'count': 4, 'width': 160, 'height': 120}
    return {
        'out': str(out),
        'network': 'topformer_tiny',
        'data': {
            'sources': [source],
            'held_out': 2,
            'crop': {'height': SIZE[0], 'width': SIZE[1], **changes.pop('crop', {})},
            **changes.pop('data', {}),
        },
        'loss': {'shared': 1.0, **changes.pop('loss', {})},
        'teachers': [{'model': str(t), 'size': 64} for t in teachers] or [{'model': 'exact'}],
        'iterations': 2,
        'batch': 2,
        'learning_rate': 1e-3,
        'schedule': 'constant',
        'ema_decay': 0.5,
        'precision': '32-true',
        'validate_every': 2,
        'checkpoint_every': 1,
        'log_every': 1,
        'workers': 0,
        'accelerator': 'cpu',
        **changes,
    }


def config(*args, **changes) -> MonoConfig:
    return from_dict(MonoConfig, settings(*args, **changes))


def run(config: MonoConfig) -> dict[str, torch.Tensor]:
    return torch.load(train(config, kind=Distillation), weights_only=True)['net']


# Parts of images


def test_a_part_keeps_image_depth_and_camera_together():
    # Depth and colour are functions of the ray: so must they be of the part's rays.
    height, width = 120, 200
    K = np.array([[150.0, 0, 90], [0, 140.0, 70], [0, 0, 1]])
    v, u = np.indices((height, width), np.float32)
    x, y = (u - 90) / 150, (v - 70) / 140
    rgb = np.clip(np.stack([100 + 100 * x, 100 + 100 * y, 0 * x], -1), 0, 255).astype(np.uint8)
    image = SourceImage('made', rgb, (5 + 3 * x + 2 * y).astype(np.float32), K)
    for seed in range(6):
        part = cut(image, CropConfig(*SIZE, smallest=0.5), np.random.default_rng(seed))
        v, u = np.indices(SIZE)
        x, y = (u - part.K[0, 2]) / part.K[0, 0], (v - part.K[1, 2]) / part.K[1, 1]
        mirrored = np.corrcoef(x.ravel(), part.rgb[..., 0].ravel())[0, 1] < 0
        x = -x if mirrored else x
        assert np.abs(part.rgb[..., 0] - (100 + 100 * x))[2:-2, 2:-2].mean() < 1.5
        np.testing.assert_allclose(part.depth, 5 + 3 * x + 2 * y, atol=0.05)


def test_samples_depend_on_their_number_alone_and_teachers_come_by_their_probability(
    images, teachers, tmp_path
):
    base = settings(tmp_path, images, teachers)
    base['teachers'][1]['probability'] = 3.0
    samples = [MonoSamples(from_dict(MonoConfig, base), mono.build('topformer_tiny').convention)]
    samples.append(MonoSamples(from_dict(MonoConfig, base), samples[0]._convention))
    for number in (7, 3, 7):
        first, other = (s[number] for s in samples)
        assert all(torch.equal(first[name], other[name]) for name in first)
    drawn = [int(samples[0][number]['teacher']) for number in range(200)]
    assert 0.65 < np.mean(drawn) < 0.85


def test_held_out_images_are_never_trained_on(images, teachers, tmp_path):
    flat = {'colour': 0.0, 'flip': 0.0, 'smallest': 1.0, 'height': 72}
    samples = MonoSamples(
        config(tmp_path, images, teachers, crop=flat), mono.build('topformer_tiny').convention
    )
    held = {samples.validation_sample(i)['plain'].mean().item() for i in range(2)}
    trained = {samples[n]['plain'].mean().item() for n in range(40)}
    assert len(held) == 2 and len(trained) == 8 and not held & trained


# Runs


@pytest.mark.parametrize('term', TERMS)
def test_every_loss_reaches_the_whole_student(images, teachers, tmp_path, term):
    loss = {'shared': 0.0, term: 1.0, 'normalization': 'hybrid'}
    task = Distillation(config(tmp_path, images, teachers[:1], loss=loss))
    task.network.eval()
    samples = task.open_data()
    total, terms = task.loss(torch.utils.data.default_collate([samples[0], samples[1]]))
    total.backward()
    assert list(terms) == [term] and total > 0
    silent = [n for n, p in task.network.named_parameters() if p.grad is None]
    assert not silent and task.network.backbone.tpm.stem[0].c.weight.grad.any()


def test_exact_depth_of_the_simulation_teaches_and_scores(tmp_path):
    c = config(tmp_path, loss={'local_global': 0.5})
    task = Distillation(c)
    sample = task.open_data().validation_sample(0)
    inverse = torch.where(sample['depth'] > 0, 1 / sample['depth'], 0)
    torch.testing.assert_close(sample['label'], inverse)
    run(c)
    log = (tmp_path / 'tensorboard').glob('events*')
    text = b''.join(path.read_bytes() for path in log)
    assert all(f'validation/{name}'.encode() in text for name in ('absrel', 'delta1', 'distance'))


def test_all_terms_of_distill_any_depth_with_two_teachers_and_detail(images, teachers, tmp_path):
    loss = {'local_global': 0.5, 'feature': 1.0, 'gradient': 2.0, 'normalization': 'none'}
    c = config(tmp_path, images, teachers, loss=loss, crop={'detail': 1.5})
    task = Distillation(c)
    assert task._objective.projection.weight.requires_grad
    before = task.network.state_dict()
    run(c)
    found = weights.load(tmp_path / 'weights.pth').state_dict()
    assert any(not torch.equal(found[name], before[name]) for name in found)
    # Teachers are no part of what is saved.
    saved = torch.load(tmp_path / 'last.ckpt', weights_only=True)['state_dict']
    assert not any('teacher' in name for name in saved)
    assert any('projection' in name for name in saved)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(images, teachers, tmp_path):
    loss = {'geometric': 1.0, 'feature': 0.1, 'pointnet': {'learns': True, 'points': 64}}
    straight = run(config(tmp_path / 'a', images, teachers, loss=loss, iterations=2))
    stopped = config(tmp_path / 'b', images, teachers, loss=loss, iterations=2, stop_at=1)
    run(stopped)
    resumed = run(replace(stopped, stop_at=0))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_another_run_in_the_same_folder_is_refused(images, teachers, tmp_path):
    task = Distillation(config(tmp_path, images, teachers))
    checkpoint = {}
    task.on_save_checkpoint(checkpoint)
    task.on_load_checkpoint(checkpoint)
    other = Distillation(config(tmp_path, images, teachers, loss={'gradient': 1.0}))
    with pytest.raises(ValueError, match=r'other settings of .*loss'):
        other.on_load_checkpoint(checkpoint)


def test_teachers_answer_for_their_own_samples_only(teachers):
    from training.mono.settings import MonoTeacherConfig

    both = Teachers([MonoTeacherConfig(str(t), 64) for t in teachers], None).eval()
    plain = torch.rand(3, 3, *SIZE)
    mixed = both(plain, plain, torch.tensor([0, 1, 0]), []).label
    for number in range(2):
        alone = both(plain, plain, torch.full((3,), number), []).label
        rows = [0, 2] if number == 0 else [1]
        torch.testing.assert_close(mixed[rows], alone[rows], rtol=1e-4, atol=1e-4)
    assert not both.train().networks[0].training


# Labels on disk


def test_labels_hold_what_teachers_say_of_the_parts_and_resume(images, teachers, tmp_path):
    kept = {'repeated': 1, 'flip': 0.0}
    base = settings(tmp_path / 'run', images, teachers, crop=kept, loss={'local_global': 1.0})
    c = from_dict(MonoConfig, base)
    assert make_labels(c, tmp_path / 'labels') == 10
    whole = (tmp_path / 'labels/shard-000000.tar').read_bytes()
    # Killed in the middle of a sample: the rest is written again, to the same bytes.
    tar = tmp_path / 'labels/shard-000000.tar'
    tar.with_suffix('.partial').write_bytes(whole[: len(whole) // 2])
    tar.unlink()
    make_labels(c, tmp_path / 'labels')
    assert tar.read_bytes() == whole

    labels = LabelShards(tmp_path / 'labels')
    network = weights.load(teachers[1])
    sample = labels[5]
    assert len(sample.maps) == 2 and [len(p) for p in sample.patches] == [4, 4]
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.convention.mean, network.convention.std)
    )
    rgb = torch.from_numpy(sample.part.rgb).permute(2, 0, 1) / 255
    with torch.no_grad():
        said = network(((rgb - mean) / std)[None]).disparity[0, 0].numpy()
    # JPEG and 16 bits away from what the teacher says of the part itself.
    assert np.corrcoef(said.ravel(), sample.maps[1].ravel())[0, 1] > 0.9

    base['data']['labels'] = str(tmp_path / 'labels')
    run(from_dict(MonoConfig, base))
    base['loss']['patch_rows'] = 3
    with pytest.raises(ValueError, match='expected labels of patches'):
        MonoSamples(from_dict(MonoConfig, base), network.convention)
    with pytest.raises(ValueError, match='holds labels of other seed'):
        make_labels(replace(c, seed=1), tmp_path / 'labels')


# The ablation


def test_the_ablation_trains_and_scores_every_arm_once(images, teachers, tmp_path, capsys):
    for number in range(2):
        save_frame(frame_path(tmp_path / 'test', number), made_frame(number))
    shared = settings(tmp_path / 'out', images, teachers[:1])
    content = {
        'run': shared,
        'test': str(tmp_path / 'test'),
        'size': 64,
        'seeds': [1, 2],
        'references': {'teacher': str(teachers[0])},
        'arms': {
            'plain': {'loss': {'shared': 1.0}},
            'two': {
                'loss': {'squared': 1.0},
                'teachers': [{'model': str(t), 'size': 64} for t in teachers],
            },
        },
    }
    file = tmp_path / 'ablation.yaml'
    file.write_text(yaml.safe_dump(content))
    ablation.main(['--config', str(file)])
    table = capsys.readouterr().out
    results = json.loads((tmp_path / 'out/results.json').read_text())['results']
    assert all(name in table for name in ('teacher', 'plain', 'two'))
    assert results.keys() == {'plain', 'two'}
    # Each arm and each seed trained something else.
    errors = [value for row in results.values() for value in row['absrel']]
    assert len(set(errors)) == 4 and min(errors) > 0
    trained = (tmp_path / 'out/runs/plain_1/weights.pth').stat().st_mtime_ns
    ablation.main(['--config', str(file)])
    assert table.endswith(capsys.readouterr().out)
    assert (tmp_path / 'out/runs/plain_1/weights.pth').stat().st_mtime_ns == trained


def test_the_score_of_an_exact_network_is_that_of_the_truth(monkeypatch, tmp_path):
    frame = made_frame(0)
    save_frame(frame_path(tmp_path, 0), frame)

    class Exact:
        def __init__(self, weights, size):
            pass

        def predict(self, rgb):
            return 7 * np.where(frame.depth > 0, 1 / np.maximum(frame.depth, 0.1), 0) + 3

    monkeypatch.setattr(ablation, 'RelativeDepth', Exact)
    found = ablation.score('', tmp_path, 64)
    assert found['absrel'] < 1e-3 and found['delta1'] == 1 and found['boundary_f1'] > 0.99


def test_the_shipped_ablation_has_every_loss_and_normalization():
    path = 'training/config/ablation_mono.yaml'
    arms = load(ablation.MonoAblationConfig, path).arms.values()
    assert {arm.loss.normalization.kind for arm in arms} == set(KINDS)
    used = {term for arm in arms for term in TERMS if getattr(arm.loss, term)}
    assert used == set(TERMS)


# Settings


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'network': 'bpnet'}, 'network: expected one of'),
        ({'loss': {'shared': 0.0}}, 'with one above 0'),
        ({'loss': {'feature': 1.0}}, 'have no features'),
        ({'crop': {'smallest': 0.0}}, 'crop: expected smallest'),
        ({'loss': {'normalization': 'batch'}}, 'normalization: expected kind'),
    ],
)
def test_wrong_settings_say_what_was_expected(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **change)


def test_wrong_settings_for_a_network_say_what_it_expects(tmp_path):
    with pytest.raises(ValueError, match='crop: expected multiples of 14 pixels for dav2_small'):
        Distillation(config(tmp_path, network='dav2_small'))
    other = config(
        tmp_path, network='dav2_small', encoder='T.pth', crop={'height': 56, 'width': 70}
    )
    with pytest.raises(ValueError, match='encoder: expected a light student'):
        Distillation(other)


def test_someone_must_teach(tmp_path):
    with pytest.raises(ValueError, match='teachers: expected one or more'):
        from_dict(MonoConfig, settings(tmp_path) | {'teachers': []})


def test_images_without_depth_need_a_network_that_teaches(images, tmp_path):
    samples = MonoSamples(config(tmp_path, images), mono.build('topformer_tiny').convention)
    with pytest.raises(ValueError, match="image with exact depth for the teacher 'exact'"):
        samples[0]


@pytest.mark.parametrize('path', sorted(Path('training/config').glob('mono_*.yaml')), ids=str)
def test_configurations_that_come_along_are_valid(path):
    assert load(MonoConfig, path).network in mono.names()


def test_the_command_names_what_is_wrong(tmp_path):
    with pytest.raises(SystemExit, match='no file'):
        main(['--config', str(tmp_path / 'none.yaml')])
