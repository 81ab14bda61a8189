"""Training on several sources at a time."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import torch
from training_data import ON_CPU, made_frame, make_shards

from dmd3c_ros.core import networks
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.networks import Convention
from dmd3c_ros.datasets import Sample
from dmd3c_ros.datasets.miniature import write_miniature
from training.data.guard import collate
from training.data.samples import DataConfig, MixedSamples, Samples, tensors
from training.engine.run import train
from training.engine.settings import TrainConfig
from training.scenes.frames import frame_path, save_frame
from training.settings import from_dict

WINDOW = {'crop_height': 32, 'crop_width': 64}


@pytest.fixture(scope='module')
def sources(tmp_path_factory) -> list[dict]:
    """Labels with a teacher, generated samples, and a simulated frame."""
    folder = tmp_path_factory.mktemp('sources')
    write_miniature('kitti', folder / 'kitti', frames=2)
    for number in range(2):
        save_frame(frame_path(folder / 'scenes', number), made_frame(number))
    kitti = {'name': 'kitti-train', 'root': str(folder / 'kitti'), 'disparity': True}
    shards = {'root': str(make_shards(folder / 'shards', 6)), 'held_out': 2}
    sampling = {'height': 32, 'width': 64}
    return [
        {'dataset': {**kitti, 'augment': WINDOW}, 'share': 2},
        {'shards': {**shards, 'augment': WINDOW}},
        {'scenes': {'root': str(folder / 'scenes'), 'held_out': 1, 'sampling': sampling}},
    ]


class Counting(Samples):
    """Its samples are their numbers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, number: int) -> tuple[str, int]:
        return self.name, number

    @property
    def held_out(self) -> str:
        return self.name


@pytest.mark.parametrize('count', [900, 30])
def test_training_shows_a_network_what_the_completer_shows_it(count):
    rng, shown = np.random.default_rng(0), []
    network = networks.build('light').eval()
    network.register_forward_pre_hook(lambda _, inputs: shown.extend(inputs[:2]))
    rgb, sparse = rng.integers(0, 255, (96, 128, 3)).astype(np.uint8), np.zeros((96, 128), 'f4')
    # One in five as if seen from elsewhere.
    sparse.flat[rng.choice(sparse.size, count, False)] = rng.choice([5, 5, 5, 5, 50], count)
    K = np.array([[100, 0, 64], [0, 100, 48], [0, 0, 1]], np.float32)
    sample = tensors(Sample('x', K, rgb, sparse), network.convention)
    config = CompleterConfig(model='light', device='cpu', adapt_scale=False)
    DepthCompleter(config, network).complete(rgb, sparse, K)
    torch.testing.assert_close(shown[0][0], sample['image'], rtol=0, atol=0.03)
    assert torch.equal(shown[1][0], sample['sparse'])
    assert (np.count_nonzero(shown[1]) < count) == (count == 900)


def test_each_source_has_its_share_and_goes_through_its_own_numbers_once():
    mixed = MixedSamples([Counting('a'), Counting('b')], [3, 1], seed=4)
    drawn = [mixed[number] for number in range(2000)]
    assert Counter(name for name, _ in drawn) == {'a': 1500, 'b': 500}
    for name, count in (('a', 1500), ('b', 500)):
        assert sorted(number for n, number in drawn if n == name) == list(range(count))
    # In no fixed order, but the same one in every process and after a resume.
    runs = np.diff(np.flatnonzero([name == 'b' for name, _ in drawn]))
    assert runs.max() > 8 and runs.min() == 1
    again = pickle.loads(pickle.dumps(mixed))
    assert [again[number] for number in range(990, 1010)] == drawn[990:1010]
    other = MixedSamples([Counting('a'), Counting('b')], [3, 1], seed=5)
    assert [other[number] for number in range(50)] != drawn[:50]
    assert mixed.held_out == 'a'


def test_what_a_source_lacks_is_unknown(sources):
    mixed = from_dict(DataConfig, {'mixed': sources}).open(1, Convention())
    samples = [mixed[number] for number in range(24)]
    batch = collate(samples)
    assert batch['disparity'].shape == batch['sweep'].shape == (24, 1, 32, 64)
    taught = batch['disparity'].isfinite().flatten(1).any(1)
    assert 0 < taught.sum() < 24
    without = (batch['sweep'] == batch['sparse']).flatten(1).all(1)
    assert without[taught].all() and not without.all()
    # Everything that a run may read, for the dry run.
    assert len(mixed.stored) == 4 + 6 + 2


def test_a_mixture_trains_and_its_first_source_validates(sources, tmp_path):
    settings = {
        'out': str(tmp_path / 'run'),
        'network': 'light',
        'data': {'mixed': sources},
        'loss': {'recipe': 'ssi'},
        'iterations': 2,
        'batch': 6,
        **ON_CPU,
        'validate_every': 2,
        'workers': 1,
    }
    weights = train(from_dict(TrainConfig, settings))
    assert all(t.isfinite().all() for t in torch.load(weights, weights_only=True)['net'].values())
    assert Path(tmp_path / 'run/best.pth').is_file()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'share': 0}, 'share: expected above 0'),
        ({'share': 1e-5}, 'share of at least 1 in 1000'),
        ({'mixed': [], 'shards': None}, 'expected one of shards, scenes, dataset, mixed; got 0'),
        ({'shards': {'root': 'x'}}, 'windows of one size, got 0x0, 64x32'),
        ({'shards': None, 'mixed': [{'shards': {'root': 'x'}}]}, 'got a mixture among them'),
    ],
)
def test_mixtures_without_sense_are_named(change, message, sources):
    content = {'mixed': [sources[0], {**sources[1], **change}]}
    with pytest.raises(ValueError, match=message):
        from_dict(DataConfig, content).open(0, Convention())
