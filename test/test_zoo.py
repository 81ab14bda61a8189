"""Simulated sets: every sensor and kind of scene, the same for the same seed."""

import numpy as np
import pytest

pytest.importorskip('open3d')

from dmd3c_ros.datasets import open_dataset, zoo
from dmd3c_ros.simulation import KINDS, PATTERNS


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('zoo')
    zoo.write_zoo(root, frames=1, seed=3)
    return root


def test_every_sensor_stands_in_every_kind_of_scene(root):
    frames = list(open_dataset('folder', root))
    names = {frame.name.partition('/')[0] for frame in frames}
    points = {f'{kind}_p{count}' for kind in KINDS for count in zoo.POINTS}
    assert points < names <= points | {f'{kind}_{name}' for kind in KINDS for name in PATTERNS}
    assert len(names) > 0.9 * len(KINDS) * (len(PATTERNS) + len(zoo.POINTS))
    for frame in frames:
        both = (frame.sparse > 0) & (frame.truth > 0)
        assert np.median(np.abs(frame.sparse / np.maximum(frame.truth, 1e-3) - 1)[both]) < 0.03
        assert frame.truth.max() <= 80 and (frame.truth > 0).mean() > 0.3


def test_a_seed_gives_the_same_sets(root, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'PATTERNS', {'vlp16': PATTERNS['vlp16']})
    rng = np.random.default_rng([3, list(KINDS).index('indoor'), 0])
    zoo._write_frame(tmp_path, 'indoor', KINDS['indoor'](int(rng.integers(2**31))), 0, rng)
    for part in ('image', 'sparse', 'truth', 'K'):
        (file,) = (tmp_path / 'indoor_p100' / part).iterdir()
        assert file.read_bytes() == (root / 'indoor_p100' / part / file.name).read_bytes()
