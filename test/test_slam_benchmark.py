"""ORB-SLAM3 as a measuring tool: vocabulary, worker, environment, scores, and what is resumed."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dmd3c_ros.benchmarks import slam
from dmd3c_ros.cli.app import app
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.transforms import rotation_from_euler, transform
from dmd3c_ros.datasets.drives import DriveFrame
from dmd3c_ros.io.tum import TumWriter
from dmd3c_ros.slam import orbslam3, orbslam3_worker, vocabulary
from dmd3c_ros.slam.orbslam3 import OrbSlam3, OrbSlam3Error, Track, read_track

CAMERA = Camera.from_K(np.array([[60, 0, 19.5], [0, 60, 14.5], [0, 0, 1.0]]), 40, 30)


def frames(count=4):
    rng = np.random.default_rng(0)
    for number in range(count):
        pose = transform(
            rotation_from_euler(0, 0.02 * number, 0),
            [0.1 * number**2, 0.02 * number**3, 0.5 * number],
        )
        depth = np.full((30, 40), 6.0, np.float32)
        v, u = np.mgrid[2:28:3, 2:38:3]
        points = np.stack([(u - 19.5) / 10, (v - 14.5) / 10, np.full(u.shape, 6.0)], -1)
        rgb = rng.integers(0, 255, (30, 40, 3), np.uint8)
        stamp = number * 10**8
        points = points.reshape(-1, 3).astype(np.float32)
        yield DriveFrame(stamp, stamp, rgb, points, CAMERA, np.eye(4), depth, pose)


@pytest.fixture(scope='module')
def images():
    """Descriptors of eight images, each like one of six."""
    rng = np.random.default_rng(1)
    themes = rng.integers(0, 256, (6, 32), np.uint8)
    noise = (rng.random((8, 60, 256)) < 0.03).astype(np.uint8)
    picked = rng.integers(0, 6, (8, 60))
    return [
        themes[chosen] ^ np.packbits(flips, axis=1)
        for chosen, flips in zip(picked, noise, strict=True)
    ]


class TestVocabulary:
    @pytest.mark.parametrize(
        'content', [b'', b'10 6 0 0\n', b'10 6 0\n0 1 2\n', b'\x1f\x8b' * 400]
    )
    def test_a_file_that_would_end_orb_slam3_is_refused(self, content, tmp_path):
        (tmp_path / 'ORBvoc.tar.gz').write_bytes(content)
        result = CliRunner().invoke(
            app,
            [
                'bench',
                'slam',
                str(tmp_path / 'out'),
                '--vocabulary',
                str(tmp_path / 'ORBvoc.tar.gz'),
            ],
        )
        assert result.exit_code == 1
        assert 'expected a DBoW2 vocabulary as text, a line of 4 numbers' in result.output

    def test_the_text_is_a_tree_in_dbow2s_form(self, images, tmp_path):
        settings = vocabulary.VocabularySettings(branching=4, levels=3)
        vocabulary.write(tmp_path / 'voc.txt', vocabulary.train(images, settings), settings)
        text = (tmp_path / 'voc.txt').read_text()
        # Another line, though empty, would be read as another node.
        assert not text.endswith('\n')
        heading, *lines = text.split('\n')
        assert heading == '4 3 0 0'
        vocabulary.check(tmp_path / 'voc.txt')
        nodes = [line.split() for line in lines]
        assert all(len(node) == 35 for node in nodes)
        parents = [int(node[0]) for node in nodes]
        words = [node[1] == '1' for node in nodes]
        assert all(parent <= number for number, parent in enumerate(parents))
        with_children = set(parents)
        assert with_children - {0} == {n + 1 for n, word in enumerate(words) if not word}
        assert max(parents.count(parent) for parent in with_children) <= 4
        assert all(0 <= int(byte) <= 255 for node in nodes for byte in node[2:34])

    def test_descriptors_of_one_kind_share_a_word(self, images):
        nodes = vocabulary.train(images, vocabulary.VocabularySettings(branching=6, levels=1))
        centres = np.unpackbits(np.stack([node.descriptor for node in nodes]), axis=1)
        bits = np.unpackbits(np.concatenate(images), axis=1)
        distance = (bits[:, None] != centres).sum(-1).min(axis=1)
        assert len(nodes) == 6
        # Two of random descriptors differ in 128 bits, those of one kind in 16 at most.
        assert np.median(distance) < 30

    def test_a_word_that_every_image_has_weighs_nothing(self):
        same, rare = np.zeros((5, 32), np.uint8), np.full((3, 32), 255, np.uint8)
        nodes = vocabulary.train(
            [same, same, np.concatenate([same, rare])],
            vocabulary.VocabularySettings(branching=2, levels=1),
        )
        weights = {int(node.descriptor[0]): node.weight for node in nodes}
        assert weights[0] == 0
        assert weights[255] == pytest.approx(np.log(3))

    def test_what_cannot_be_clustered_is_refused(self):
        with pytest.raises(ValueError, match=r'expected \(N, 32\) uint8, got \(4, 16\)'):
            vocabulary.train([np.zeros((4, 16), np.uint8)])
        with pytest.raises(ValueError, match='expected 10 or more to branch, got 3'):
            vocabulary.train([np.zeros((3, 32), np.uint8)])


class FakeSystem:
    """Loses the second frame."""

    def __init__(self):
        self.seen = []

    def process_image_rgbd(self, image, depth, stamp):
        self.seen.append((image, depth, stamp))

    def process_image_mono(self, image, stamp):
        self.seen.append((image, None, stamp))

    def get_tracking_state(self):
        return SimpleNamespace(name='LOST' if len(self.seen) == 2 else 'OK')

    def get_pose(self):
        return transform(np.eye(3), [0, 0, -1.0 * len(self.seen)])


def test_the_worker_reads_what_tum_writer_wrote_and_its_lines_make_a_track(tmp_path):
    with TumWriter(tmp_path / 'seq', 500) as writer:
        for frame in frames(3):
            writer.add(frame.stamp_ns, frame.rgb, frame.depth, CAMERA)
    files, system = orbslam3_worker.associations(tmp_path / 'seq'), FakeSystem()
    read = lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # noqa: E731
    lines = [json.dumps(line) for line in orbslam3_worker.track(system, files, 'RGBD', 0, read)]
    assert [stamp for _, _, stamp in system.seen] == pytest.approx([0, 0.1, 0.2])
    assert system.seen[0][1].dtype == np.uint16
    assert (system.seen[0][1] == 3000).all()
    track = read_track(io.StringIO('\n'.join(lines)))
    assert track.frames == (0, 2)
    # The camera stands where its inverse transform says.
    np.testing.assert_allclose([pose[2, 3] for pose in track.poses], [1, 3])
    assert track.maps == (0, 0)
    alone = FakeSystem()
    list(orbslam3_worker.track(alone, files, 'MONOCULAR', 0, read))
    assert [depth for _, depth, _ in alone.seen] == [None, None, None]


def test_a_map_begins_at_the_origin_or_after_frames_without_one():
    at = lambda z: transform(np.eye(3), [0, 0, z]).ravel().tolist()  # noqa: E731
    states = [
        ('OK', at(0)),
        ('OK', at(1)),
        ('RECENTLY_LOST', None),
        ('OK', at(2)),
        ('OK', at(0)),
        ('OK', at(1)),
        ('NOT_INITIALIZED', None),
        ('OK', at(3)),
    ]
    lines = [
        json.dumps({'frame': number, 'state': state, 'pose': pose})
        for number, (state, pose) in enumerate(states)
    ]
    track = read_track([*lines, '{"end": true}'])
    assert track.frames == (0, 1, 3, 4, 5, 7)
    assert track.maps == (0, 0, 0, 1, 1, 2)


def test_a_worker_that_dies_is_no_track():
    with pytest.raises(OrbSlam3Error, match='exited before the end of the sequence'):
        read_track(['{"frame": 0, "state": "OK", "pose": null}'])
    with pytest.raises(OrbSlam3Error, match='expected JSON'):
        read_track(['Segmentation fault'])


def test_settings_carry_numbers_that_orbslam3_takes_for_real(tmp_path):
    camera = Camera.from_K(np.array([[60, 0, 20], [0, 60, 15], [0, 0, 1.0]]), 40, 30)
    with TumWriter(tmp_path / 'seq', 500) as writer:
        writer.add(0, np.zeros((30, 40, 3), np.uint8), np.ones((30, 40), np.float32), camera)
    text = (tmp_path / 'seq/orbslam3.yaml').read_text()
    settings = dict(line.split(': ') for line in text.splitlines()[1:])
    for name in ('Camera1.fx', 'Camera1.cx', 'Stereo.b', 'RGBD.DepthMapFactor'):
        assert '.' in settings[name], name
    # A point is close up to 40 m, and at 10 m one pixel (f = 720) is 0.7 % of its depth.
    baseline = float(settings['Stereo.b'])
    assert baseline * float(settings['Stereo.ThDepth']) == 40
    assert 10 / (720 * baseline) == pytest.approx(0.007, rel=0.01)


def test_an_environment_without_orbslam3_is_named(tmp_path):
    with pytest.raises(OrbSlam3Error, match='expected an environment with pywrapped_orbslam3'):
        OrbSlam3(tmp_path, make=False)


def test_memory_of_either_kind_is_freed_by_the_other(tmp_path):
    import shutil

    if shutil.which('cc') is None:
        pytest.skip('no C compiler')
    program = r"""
#include <stdint.h>
#include <stdlib.h>
int main(void) {
    for (int n = 1; n < 5000; n++) {
        char *whole = malloc(n + 32);
        if ((uintptr_t)whole % 32) return 1;
        char *inner = (char *)(((uintptr_t)whole & ~(uintptr_t)31) + 32);
        ((void **)inner)[-1] = whole;
        free(inner);                    /* taken with AVX, freed without */
        char *plain = malloc(n);
        free(((void **)plain)[-1]);     /* the other way round */
        char *moved = malloc(n);
        moved[n - 1] = 7;
        moved = realloc(moved, 2 * n);
        if (moved[n - 1] != 7) return 2;
        free(moved);
    }
    return 0;
}
"""
    (tmp_path / 'mixed.c').write_text(program)
    shim = Path(orbslam3.__file__).with_name('aligned_malloc.c')
    build = ['cc', '-fno-builtin', '-O1', '-w', '-o', str(tmp_path / 'mixed')]
    subprocess.run([*build, str(tmp_path / 'mixed.c'), str(shim)], check=True)
    assert subprocess.run([tmp_path / 'mixed'], check=False).returncode == 0
    # And a program that knows nothing of it runs on as before.
    library = tmp_path / 'shim.so'
    subprocess.run(
        ['cc', '-shared', '-fPIC', '-fno-builtin', '-o', str(library), str(shim)], check=True
    )
    done = subprocess.run(
        [sys.executable, '-c', 'import numpy; print(numpy.ones(10**6).sum())'],
        env={'LD_PRELOAD': str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == '1000000.0'


@pytest.mark.parametrize(
    ('options', 'lidar'),
    [
        ([], None),
        (['--scene', 'indoor'], 'vlp16'),
        (['--scene', 'indoor', '--lidar', 'hdl64e'], 'hdl64e'),
    ],
)
def test_a_robot_indoors_has_16_lines(options, lidar, tmp_path, monkeypatch):
    opened = {}

    def open_drive(kitti, frames, **simulated):
        opened.update(simulated)
        raise ValueError('enough')

    monkeypatch.setattr('dmd3c_ros.cli.slam.open_drive', open_drive)
    words = ['bench', 'slam', str(tmp_path / 'out'), *options]
    assert 'enough' in CliRunner().invoke(app, words).output
    assert opened['lidar'] == lidar


def test_a_kind_of_depth_is_read_as_it_is_named():
    for text in ('raw', 'light,slam', 'light,confidence=0.3,no-edges,range=40'):
        assert slam.DepthKind.parse(text).name == text
    with pytest.raises(ValueError, match=r"expected MODEL\[,slam\].*got 'light,sure'"):
        slam.DepthKind.parse('light,sure')


def test_what_is_unsure_hangs_or_is_far_is_left_out():
    depth = np.full((20, 60), 5.0, np.float32)
    depth[:, 20:40], depth[:, 40:] = 20.0, 60.0
    # Three columns of a smeared edge.
    depth[:, 18:21] = [7.0, 10.0, 14.0]
    confidence = np.ones_like(depth)
    confidence[:5] = 0.2
    completion = Completion(depth, confidence)
    kind = slam.DepthKind.parse('light,confidence=0.5,no-edges,range=40')
    kept = kind.select(completion)
    assert not kept[:5].any()
    assert not kept[:, 40:].any()
    assert not kept[10, 19]
    assert (kept[10, :12] == 5).all()
    assert (slam.DepthKind('light').select(completion) == depth).all()


def moved(poses, shift, scale=1.0):
    """A track that has the poses, but begins elsewhere and measures in a unit of its own."""
    poses = np.array(poses)
    poses[:, :3, 3] *= scale
    return Track(tuple(range(len(poses))), tuple(shift @ poses), (0,) * len(poses))


@pytest.mark.parametrize('bend', [0, 0.1])
def test_without_depth_the_scale_is_the_references(bend):
    pytest.importorskip('evo')
    poses = [transform(np.eye(3), [bend * n * n, bend * n**3, n]) for n in range(5)]
    drive = {'stamps_ns': [n * 10**8 for n in range(5)], 'poses': poses}
    track = moved(poses, transform(rotation_from_euler(0.1, 0, 0), [1, 2, 3]), 0.3)
    assert slam.score(drive, track, 'MONOCULAR')[0].ate_m == pytest.approx(0, abs=1e-6)
    assert slam.score(drive, track)[0].ate_m > 0.5


def test_a_straight_way_is_aligned_by_its_first_pose():
    pytest.importorskip('evo')
    poses = [transform(np.eye(3), [0, 0, number]) for number in range(4)]
    drive = {'stamps_ns': [n * 10**8 for n in range(4)], 'poses': poses}
    shift = transform(rotation_from_euler(0.1, 0, 0), [1, 2, 3])
    error, _ = slam.score(drive, moved(poses, shift))
    assert error.ate_m == pytest.approx(0, abs=1e-6)


def test_only_the_map_that_held_longest_counts():
    pytest.importorskip('evo')
    poses = [transform(np.eye(3), [0.1 * n * n, 0.02 * n**3, n]) for n in range(6)]
    drive = {'stamps_ns': [n * 10**8 for n in range(6)], 'poses': poses}
    first = np.linalg.inv(poses[2])
    found = (np.eye(4), poses[1], *(first @ pose for pose in poses[2:5]), first @ poses[5])
    error, estimate = slam.score(drive, Track(tuple(range(6)), found, (0, 0, 1, 1, 1, 1)))
    assert (error.tracked, error.maps) == (4, 2)
    assert error.ate_m == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(estimate.timestamps, [0.2, 0.3, 0.4, 0.5])


class Drive(list):
    """Frames of a drive that need no rendering."""


def test_runs_are_scored_kept_and_gone_on_with(tmp_path):
    pytest.importorskip('evo')
    drive, calls = Drive(frames()), []
    turned = transform(rotation_from_euler(0.1, 0.2, 0.3), [5, 6, 7])

    def track(sequence, sensor):
        calls.append(sequence.name)
        assert sensor == ('MONOCULAR' if sequence.name == 'monocular' else 'RGBD')
        if sequence.name == 'raw':
            return Track((0, 1), (np.eye(4), np.eye(4)), (0, 1))
        # Another start of the world does not count; a frame that is 10 cm aside does.
        poses = [turned @ frame.T_world_camera for frame in drive]
        poses[2] = poses[2] @ transform(np.eye(3), [0.1, 0, 0])
        return Track((0, 1, 2, 3), tuple(poses), (0,) * 4)

    kinds = [slam.DepthKind(model) for model in ('raw', 'nearest', 'monocular')]
    make = lambda model: DepthCompleter(CompleterConfig(model=model))  # noqa: E731
    results = slam.run(tmp_path, drive, kinds, make, track, 2)
    assert calls == 2 * ['raw', 'nearest', 'monocular']
    assert results['raw'][0] == slam.RunError(1, 2)
    error = results['nearest'][0]
    assert error.tracked == 4
    assert 0.02 < error.ate_m < 0.06
    assert 0.06 < error.rpe_m < 0.12
    rows = (tmp_path / 'slam.md').read_text().splitlines()
    assert rows[2].startswith('| raw |')
    assert 'lost' in rows[2]
    assert '| 4 of 4 |' in rows[3]
    assert rows[4].startswith('| monocular | 0.0% |  | 4 of 4 |')
    numbers = json.loads((tmp_path / 'slam.json').read_text())
    assert numbers['mae_m']['nearest'] == pytest.approx(0, abs=1e-3)
    assert cv2.imread(str(tmp_path / 'trajectory.png')) is not None
    assert slam.run(tmp_path, drive, kinds, make, track, 3).keys() == results.keys()
    assert calls[6:] == ['raw', 'nearest', 'monocular']


def test_exact_depth_is_the_simulators_and_no_recorded_drives(tmp_path):
    kinds = [slam.DepthKind.parse('exact')]
    slam.write_sequences(tmp_path, frames(), kinds, {})
    drive = json.loads((tmp_path / 'drive.json').read_text())
    assert drive['known'] == {'exact': 1.0} and drive['mae_m'] == {'exact': 0.0}
    with pytest.raises(ValueError, match='a recorded drive has no exact depth'):
        recorded = [frame._replace(depth=None) for frame in frames()]
        slam.write_sequences(tmp_path, recorded, kinds, {})


@pytest.mark.parametrize(('times', 'close', 'scale'), [(1, 13.107, 5000), (3, 40, 500)])
def test_rooms_are_written_in_finer_steps_than_streets(tmp_path, times, close, scale):
    sized = [
        frame._replace(points=times * frame.points, depth=times * frame.depth)
        for frame in frames()
    ]
    slam.write_sequences(tmp_path, sized, [slam.DepthKind('raw')], {})
    settings = (tmp_path / 'raw/orbslam3.yaml').read_text().splitlines()
    values = {key: float(value) for key, value in (line.split(': ') for line in settings[4:20])}
    assert values['RGBD.DepthMapFactor'] == scale
    assert values['Stereo.b'] * values['Stereo.ThDepth'] == pytest.approx(close)
    assert json.loads((tmp_path / 'drive.json').read_text())['mae_m']['raw'] < 1e-3
