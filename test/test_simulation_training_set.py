"""Training sets of simulated frames: stored exactly, repeatable, resumable."""

import numpy as np
import pytest

pytest.importorskip('open3d')

from training.scenes.frames import (
    DEPTH_SCALE,
    FRAMES_PER_SCENE,
    SensorShare,
    frame_path,
    load_frame,
    make_scene_frames,
    make_training_set,
    random_rig,
    save_frame,
)
from training.scenes.sampling import SamplingConfig, draw_sample

INDOOR = SensorShare(kitti=0.0, indoor=1.0, other=0.0)


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
    make_training_set(tmp_path, 2, seed=1, workers=1)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ['000000.npz', '000001.npz']
    first, second = (load_frame(tmp_path / name) for name in names)
    (tmp_path / names[1]).unlink()
    make_training_set(tmp_path, 2, seed=1, workers=1)
    np.testing.assert_array_equal(load_frame(tmp_path / names[1]).rgb, second.rgb)
    np.testing.assert_array_equal(load_frame(tmp_path / names[0]).rgb, first.rgb)
    stamp = (tmp_path / names[0]).stat().st_mtime_ns
    make_training_set(tmp_path, 2, seed=1, workers=1)
    assert (tmp_path / names[0]).stat().st_mtime_ns == stamp


def test_rigs_are_mostly_those_of_kitti_and_cover_every_pattern():
    drawn = [random_rig(np.random.default_rng(seed), SensorShare()) for seed in range(300)]
    sizes = [(rig.camera.width, rig.camera.height) for _, rig in drawn]
    assert 0.65 < np.mean([size == (1216, 352) for size in sizes]) < 0.9
    assert {rig.pattern.name for _, rig in drawn} == {
        'hdl64e', 'vlp16', 'os1_128', 'solid_state', 'line_scan',
    }  # fmt: skip
    focal = [rig.camera.fx for _, rig in drawn]
    assert min(focal) < 500 and max(focal) > 900
    assert {kind for kind, _ in drawn} == {'street', 'indoor'}
