"""Training sets of simulated frames: stored exactly, repeatable, resumable."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip('open3d')

from dmd3c_ros.core.networks import Convention
from dmd3c_ros.core.resizing import suitable_scale
from dmd3c_ros.simulation import KINDS, PATTERNS
from training.scenes import sampling
from training.scenes.frames import (
    DEPTH_SCALE,
    FRAMES_PER_SCENE,
    SceneShares,
    frame_path,
    load_frame,
    make_scene_frames,
    make_training_set,
    random_rig,
    save_frame,
)
from training.scenes.sampling import SamplingConfig, draw_sample

INDOOR = SceneShares(kitti=0.0, street=0.0, indoor=1.0, clutter=0.0)
SEED = 4  # of a scene that is no street: it takes half as long


@pytest.fixture(scope='module')
def frames():
    return make_scene_frames(3, 0, INDOOR)


def test_frames_of_a_scene_are_repeatable(frames):
    again = make_scene_frames(3, 0, INDOOR)
    assert len(frames) == FRAMES_PER_SCENE
    for one, other in zip(frames, again, strict=True):
        for name, value in one._asdict().items():
            np.testing.assert_array_equal(value, getattr(other, name))
    assert not np.array_equal(frames[0].rgb, frames[1].rgb)


def test_a_stored_frame_comes_back(tmp_path, frames):
    path = frame_path(tmp_path, 7)
    save_frame(path, frames[0])
    loaded = load_frame(path)
    assert [p.name for p in tmp_path.iterdir()] == ['000007.npz']
    np.testing.assert_array_equal(loaded.rgb, frames[0].rgb)
    np.testing.assert_array_equal(loaded.points, frames[0].points)
    np.testing.assert_allclose(loaded.depth, frames[0].depth, atol=0.51 / DEPTH_SCALE)
    assert loaded.pattern == frames[0].pattern
    sparse = loaded.sparse()
    hit = (sparse > 0) & (loaded.depth > 0)
    assert hit.sum() > 50
    assert np.median(np.abs(sparse - loaded.depth)[hit]) < 0.1


def test_a_frame_that_does_not_read_is_named(tmp_path, frames):
    path = frame_path(tmp_path, 3)
    save_frame(path, frames[0])
    whole = path.read_bytes()
    for damaged in (b'', b'no frame', whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r'000003\.npz: expected a frame'):
            draw_sample(path, np.random.default_rng(0), SamplingConfig())
    np.savez(path, rgb=frames[0].rgb)
    with pytest.raises(ValueError, match=r'000003\.npz: expected a frame .*depth is not'):
        load_frame(path)


def test_depth_beyond_the_stored_range_counts_as_sky(tmp_path, frames):
    far = frames[0]._replace(depth=np.array([[1.0, 255.0, 256.5, 900.0]], np.float32))
    save_frame(tmp_path / 'x.npz', far)
    np.testing.assert_allclose(load_frame(tmp_path / 'x.npz').depth, [[1, 255, 0, 0]])


def test_a_stopped_run_goes_on_and_leaves_what_is_there(tmp_path):
    make_training_set(tmp_path, 2, seed=SEED, workers=1)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ['000000.npz', '000001.npz']
    first, second = (load_frame(tmp_path / name) for name in names)
    (tmp_path / names[1]).unlink()
    make_training_set(tmp_path, 2, seed=SEED, workers=1)
    np.testing.assert_array_equal(load_frame(tmp_path / names[1]).rgb, second.rgb)
    np.testing.assert_array_equal(load_frame(tmp_path / names[0]).rgb, first.rgb)
    stamp = (tmp_path / names[0]).stat().st_mtime_ns
    make_training_set(tmp_path, 2, seed=SEED, workers=1)
    assert (tmp_path / names[0]).stat().st_mtime_ns == stamp


def test_rigs_cover_every_pattern_scene_and_view():
    drawn = [random_rig(np.random.default_rng(seed), SceneShares()) for seed in range(400)]
    cameras = [rig.camera for _, rig in drawn]
    kitti = np.mean([(c.width, c.height) == (1216, 352) for c in cameras])
    assert abs(kitti - SceneShares().kitti) < 0.08
    assert {rig.pattern.name for _, rig in drawn} == set(PATTERNS)
    assert {kind for kind, _ in drawn} == set(KINDS)
    fields_of_view = [np.degrees(2 * np.arctan(c.width / 2 / c.fx)) for c in cameras]
    assert min(fields_of_view) < 40 and max(fields_of_view) > 100
    assert any(c.height > c.width for c in cameras)


def test_a_view_is_not_a_bare_wall():
    frames = [f for i in range(3) for f in make_scene_frames(9, i, INDOOR)]
    spreads = [np.log(f.depth[f.depth > 0]).std() for f in frames]
    assert np.median(spreads) > 0.2


SIZE = {'height': 64, 'width': 96}


@pytest.mark.parametrize('pattern', sampling.PATTERNS)
def test_every_kind_of_input_is_sparse_and_agrees_with_the_depth(tmp_path, frames, pattern):
    save_frame(tmp_path / 'x.npz', frames[0])
    config = SamplingConfig(**SIZE, patterns={pattern: 1.0}, holes=0.0, outliers=0.0)
    counts = []
    for seed in range(6):
        sample = draw_sample(tmp_path / 'x.npz', np.random.default_rng(seed), config)
        assert sample['sparse'].shape == sample['depth'].shape == (1, 64, 96)
        known = (sample['sparse'] > 0) & (sample['depth'] > 0)
        counts.append(int(known.sum()))
        relative = (sample['sparse'] / sample['depth'].clamp(min=0.01) - 1)[known].abs()
        assert relative.median() < 0.05
    assert min(counts) >= 5 and len(set(counts)) > 1


def test_holes_and_wrong_points_are_drawn(tmp_path, frames):
    save_frame(tmp_path / 'x.npz', frames[0])
    whole = SamplingConfig(**SIZE, patterns={'dense': 1.0}, holes=0.0, outliers=0.0)
    broken = replace(whole, holes=1.0, outliers=0.2)
    pairs = [
        [draw_sample(tmp_path / 'x.npz', np.random.default_rng(i), c) for c in (whole, broken)]
        for i in range(6)
    ]
    lost = [1 - (b['sparse'] > 0).sum() / (a['sparse'] > 0).sum() for a, b in pairs]
    assert max(lost) > 0.1
    wrong = []
    for a, b in pairs:
        both = (a['sparse'] > 0) & (b['sparse'] > 0)
        wrong.append((a['sparse'] != b['sparse'])[both].float().mean())
    assert max(wrong) > 0.01


def test_sweeps_are_reduced_as_the_completer_reduces_images(tmp_path, frames):
    save_frame(tmp_path / 'x.npz', frames[0])
    common = {'patterns': {'sweep': 1.0}, 'scaled_fraction': 0.0, 'spread': 0.0}
    sparse_rings = SamplingConfig(**SIZE, **common, ring_steps=(8,), matched=1.0)
    focal = []
    for distance in (None, 100.0, 2.0):
        rng, convention = np.random.default_rng(0), Convention(point_distance=distance)
        sample = draw_sample(tmp_path / 'x.npz', rng, sparse_rings, convention)
        focal.append(float(sample['K'][0, 0]))
    assert focal[0] == focal[1] > 1.5 * focal[2]


def test_single_points_by_number_reduce_a_frame_as_the_completer_does(tmp_path, frames):
    save_frame(tmp_path / 'x.npz', frames[0])
    shape = frames[0].depth.shape
    # No reach of the sensor, no lost parts: all that was drawn is there.
    config = SamplingConfig(
        height=64, width=96, patterns={'pixels': 1.0}, matched=1.0, spread=0.0, holes=0.0
    )
    convention = Convention(point_distance=12.0)
    for count in (150, 1500):
        scale = suitable_scale(shape, 0.5 * (shape[0] * shape[1] / count) ** 0.5, 12.0)
        per_sample = count * 64 * 96 / (shape[0] * shape[1] * scale**2)
        by_number = replace(config, points=(count, count))
        samples = [
            draw_sample(tmp_path / 'x.npz', np.random.default_rng(seed), by_number, convention)
            for seed in range(8)
        ]
        for sample in samples:
            assert float(sample['K'][0, 0]) == pytest.approx(scale * frames[0].K[0, 0], rel=0.02)
        most = max(np.count_nonzero(sample['sparse']) for sample in samples)
        assert most == pytest.approx(per_sample, rel=0.1, abs=1)


def test_an_unknown_kind_of_input_is_refused():
    with pytest.raises(ValueError, match=r"patterns: expected some of .*'sonar'"):
        SamplingConfig(patterns={'sonar': 1.0})


def test_textures_and_displacement_change_the_image_and_nothing_else(tmp_path, frames):
    save_frame(tmp_path / 'x.npz', frames[0])
    plain = SamplingConfig(**SIZE, colour=0.0, texture=0.0, displaced=0.0)
    for changed in (replace(plain, texture=1.0), replace(plain, displaced=2.0)):
        differences = []
        for seed in range(8):
            one, other = (
                draw_sample(tmp_path / 'x.npz', np.random.default_rng(seed), config)
                for config in (plain, changed)
            )
            # The mirror is drawn after the image: compare values, wherever they are.
            for name in ('depth', 'sparse', 'sweep'):
                assert torch.equal(one[name].flatten().sort()[0], other[name].flatten().sort()[0])
            differences.append((one['image'] - other['image']).abs().mean().item())
        assert np.median(differences) > 0.01
