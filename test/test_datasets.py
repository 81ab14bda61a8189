"""Data sets: every layout read from a miniature copy, and its faults by name."""

import json
import shutil
from dataclasses import fields
from itertools import pairwise

import h5py
import numpy as np
import pytest

from dmd3c_ros.core.projection import project_points
from dmd3c_ros.datasets import (
    DATASETS,
    DriveRings,
    KittiDrives,
    KittiSelection,
    Nyu,
    Sample,
    keep_lines,
    line_labels,
    miniature,
    open_dataset,
)
from dmd3c_ros.datasets.miniature import DATE, DRIVE
from dmd3c_ros.io.depth_png import quantized, read_depth_png, write_depth_png
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices


@pytest.fixture(scope='module')
def street():
    return miniature.simulate('street', (416, 128), 2, seed=3)


@pytest.fixture(scope='module')
def room():
    return miniature.simulate('indoor', (160, 120), 2, seed=3)


@pytest.fixture(scope='module')
def kitti(street, tmp_path_factory):
    root = tmp_path_factory.mktemp('kitti')
    miniature.write_kitti(root, street)
    return root


@pytest.fixture
def kitti_copy(kitti, tmp_path):
    return shutil.copytree(kitti, tmp_path / 'kitti')


def check_against(sample, frame, *, step=1 / 256):
    """The sample shows the frame: its image, its intrinsics and, where labelled, its depth."""
    np.testing.assert_allclose(sample.K, frame.camera.K)
    assert sample.rgb.shape == frame.rgb.shape
    for depth in (sample.truth, sample.sparse):
        known = depth > 0
        assert known.sum() > 100
    known = sample.truth > 0
    np.testing.assert_allclose(sample.truth[known], frame.depth[known], atol=0.51 * step)


# KITTI


@pytest.mark.parametrize('split', ['train', 'val'])
def test_kitti_drives_give_full_frames(kitti, street, split):
    dataset = KittiDrives(kitti, split)
    assert len(dataset) == 2
    for sample, frame in zip(dataset, street, strict=True):
        check_against(sample, frame)
        np.testing.assert_array_equal(sample.rgb, frame.rgb)
        expected = project_points(frame.points, frame.T_camera_lidar, frame.camera)
        np.testing.assert_array_equal(sample.sparse, quantized(expected))
        assert sample.disparity is None
    assert dataset[1].name == f'{DRIVE}_image_02_0000000001'


def test_monocular_depth_is_read_when_asked_for(kitti, street):
    disparity = KittiDrives(kitti, disparity=True)[0].disparity
    depth = street[0].depth
    nearest = depth[depth > 0].min()
    known = depth > 0
    np.testing.assert_allclose(disparity[known], nearest / depth[known], atol=0.51 / 255)
    assert not disparity[~known].any()


def test_selection_and_anonymous_test(kitti, street):
    selection, test = KittiSelection(kitti), KittiSelection(kitti, 'test')
    check_against(selection[1], street[1])
    assert selection.names[1] == f'{DRIVE}_image_0000000001_image_02'
    assert test.names == ['0000000000', '0000000001']
    assert test[1].truth is None
    np.testing.assert_array_equal(test[1].sparse, selection[1].sparse)
    np.testing.assert_allclose(test[1].K, street[1].camera.K)


def test_selection_in_the_root_itself_is_found(kitti_copy):
    (kitti_copy / 'depth_selection' / 'val_selection_cropped').rename(
        kitti_copy / 'val_selection_cropped'
    )
    assert len(KittiSelection(kitti_copy)) == 2


def test_frames_without_a_sweep_are_counted_and_named(kitti_copy):
    name = f'{DRIVE}/proj_depth/velodyne_raw/image_02/0000000001.png'
    (kitti_copy / 'data_depth_velodyne' / 'train' / name).unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of 2 frames have no file.*0000000001'):
        KittiDrives(kitti_copy)
    assert len(KittiDrives(kitti_copy, 'val')) == 2


@pytest.mark.parametrize('kind', ['velodyne_raw', 'groundtruth_depth', 'intrinsics'])
def test_selection_frames_without_a_file_are_named(kitti_copy, kind):
    folder = kitti_copy / 'depth_selection' / 'val_selection_cropped' / kind
    sorted(folder.iterdir())[0].unlink()
    with pytest.raises(FileNotFoundError, match=f'1 of 2 frames have no file.*{kind}'):
        KittiSelection(kitti_copy)


def test_missing_folders_name_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'KITTI train.*raw, kitti_raw, rawdata'):
        KittiDrives(tmp_path)
    with pytest.raises(FileNotFoundError, match='depth_selection/val_selection_cropped'):
        KittiSelection(tmp_path)
    (tmp_path / 'raw').mkdir()
    with pytest.raises(FileNotFoundError, match='data_depth_annotated'):
        KittiDrives(tmp_path)


def test_missing_calibration_image_and_monocular_depth_are_named(kitti_copy):
    drive = kitti_copy / 'raw' / DATE / DRIVE / 'image_02'
    (drive / 'disp' / '0000000001.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'disp/0000000001\.png'):
        KittiDrives(kitti_copy, disparity=True)[1]
    (drive / 'data' / '0000000000.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'data/0000000000\.png'):
        KittiDrives(kitti_copy)[0]
    (kitti_copy / 'raw' / DATE / 'calib_cam_to_cam.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'calib_cam_to_cam\.txt'):
        KittiDrives(kitti_copy)[1]


def test_corrupt_depth_is_named_and_the_next_frame_still_reads(kitti_copy):
    path = kitti_copy / 'data_depth_annotated/train' / DRIVE / 'proj_depth/groundtruth/image_02'
    (path / '0000000000.png').write_bytes(b'no image')
    dataset = KittiDrives(kitti_copy)
    with pytest.raises(ValueError, match=r'groundtruth/image_02/0000000000\.png'):
        dataset[0]
    assert dataset[1].truth.any()


# NYU


@pytest.fixture(scope='module')
def nyu(tmp_path_factory):
    root = tmp_path_factory.mktemp('nyu')
    miniature.write_miniature('nyu', root, frames=2)
    return root


def test_nyu_is_halved_cropped_and_calibrated(nyu):
    sample = Nyu(nyu)[0]
    assert sample.size == (228, 304)
    with h5py.File(nyu / 'val/official/00001.h5') as file:
        depth, rgb = file['depth'][:], file['rgb'][:]
    # Pixel (row, column) of the result has its centre at (2 row + 12.5, 2 column + 16.5).
    row, column = 100, 57
    window = np.s_[2 * row + 11 : 2 * row + 15, 2 * column + 15 : 2 * column + 19]
    weights = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    assert sample.truth[row, column] == pytest.approx((weights * depth[window]).sum(), rel=1e-5)
    expected = (weights * rgb[(slice(None), *window)]).sum((1, 2))
    np.testing.assert_allclose(sample.rgb[row, column], expected, atol=0.51)
    # The ray of that pixel is that of its centre in the full image.
    u = (column - sample.K[0, 2]) / sample.K[0, 0]
    v = (row - sample.K[1, 2]) / sample.K[1, 1]
    assert u == pytest.approx((2 * column + 16.5 - 325.5824) / 518.8579)
    assert v == pytest.approx((2 * row + 12.5 - 253.7362) / 519.4696)


def test_nyu_points_are_the_published_draw_for_val_and_fresh_for_train(nyu):
    first, second = Nyu(nyu)
    np.testing.assert_array_equal(first.sparse > 0, second.sparse > 0)
    chosen = np.random.RandomState(0).choice(228 * 304, 500, replace=False)
    np.testing.assert_array_equal(np.flatnonzero(first.sparse), np.sort(chosen))
    np.testing.assert_array_equal(first.sparse.flat[chosen], first.truth.flat[chosen])
    train = Nyu(nyu, 'train', points=40)
    assert [int((s.sparse > 0).sum()) for s in train] == [40, 40]
    assert ((train[0].sparse > 0) != (train[1].sparse > 0)).any()
    np.testing.assert_array_equal(train[0].sparse, train[0].sparse)


def test_corrupt_h5_is_named(nyu, tmp_path):
    root = shutil.copytree(nyu, tmp_path / 'nyu')
    (root / 'val/official/00001.h5').write_bytes(b'no hdf5')
    with h5py.File(root / 'val/official/00002.h5', 'w') as file:
        file['rgb'] = np.zeros((3, 480, 640), np.uint8)
    for index in range(2):
        with pytest.raises(ValueError, match=rf'0000{index + 1}\.h5.*expected HDF5'):
            Nyu(root)[index]


# Zero-shot sets


@pytest.mark.parametrize(
    ('name', 'options', 'step'),
    [
        ('void', {'points': 1500}, 1 / 256),
        ('scannet', {'points': 500}, 1 / 1000),
        ('dcverse', {'allow_pickle': True}, 1e-9),
    ],
)
def test_indoor_sets_show_their_frames(name, options, step, room, tmp_path):
    miniature.LAYOUTS[name][2](tmp_path, room)
    dataset = open_dataset(name, tmp_path, **options)
    assert len(dataset) == 2
    for sample, frame in zip(dataset, room, strict=True):
        check_against(sample, frame, step=step)
        assert (sample.sparse > 0).sum() == options.get('points', 500)
        known = sample.sparse > 0
        np.testing.assert_array_equal(sample.sparse[known], sample.truth[known])


def test_ddad_splits_each_sweep_into_input_and_ground_truth(street, tmp_path):
    miniature.write_ddad(tmp_path, street)
    sample = open_dataset('ddad', tmp_path)[1]
    full = project_points(street[1].points, street[1].T_camera_lidar, street[1].camera)
    given, hidden = sample.sparse > 0, sample.truth > 0
    assert not (given & hidden).any()
    assert 0.1 < given.sum() / (full > 0).sum() < 0.3
    # Near in the image a point nearer than the one of the whole sweep cannot appear.
    np.testing.assert_allclose(sample.truth[hidden], full[hidden], rtol=1e-4)
    error = np.abs(sample.truth[hidden] - street[1].depth[hidden])
    assert np.median(error) < 0.1


def test_ddad_uses_the_poses_of_image_and_sweep(street, tmp_path):
    miniature.write_ddad(tmp_path, street)
    path = next(tmp_path.glob('*/scene_*.json'))
    scene = json.loads(path.read_text())
    forward = street[0].T_world_lidar[:3, 0]
    pose = scene['data'][0]['datum']['image']['pose']['translation']
    for axis, shift in zip('xyz', 2 * forward, strict=True):
        pose[axis] += shift
    path.write_text(json.dumps(scene))
    sample = open_dataset('ddad', tmp_path)[0]
    # A camera two metres further on sees every point two metres nearer.
    T = street[0].T_camera_lidar.copy()
    T[2, 3] -= 2.0
    expected = project_points(street[0].points, T, street[0].camera)
    shown = sample.truth > 0
    assert shown.sum() > 500
    assert np.mean(np.abs(sample.truth - expected)[shown] < 1e-3) > 0.99


@pytest.mark.parametrize(
    ('layout', 'dataset', 'broken', 'message'),
    [
        ('void', 'void', 'void_1500/test_image.txt', 'expected the list'),
        ('scannet', 'scannet', 'scene0000_00/color/1.jpg', '1 of 2 frames'),
        ('ddad', 'ddad', 'ddad.json', r'expected .*ddad\.json'),
        ('ddad', 'ddad', '000000/scene_0123456789abcdef.json', 'expected .*scene_'),
    ],
)
def test_missing_files_are_named_before_the_first_frame(
    layout, dataset, broken, message, street, tmp_path
):
    miniature.LAYOUTS[layout][2](tmp_path, street)
    (tmp_path / broken).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        open_dataset(dataset, tmp_path)


def test_void_lists_of_different_lengths_are_an_error(street, tmp_path):
    miniature.write_void(tmp_path, street)
    path = tmp_path / 'void_1500' / 'test_sparse_depth.txt'
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"one length.*'sparse_depth': 1"):
        open_dataset('void', tmp_path)


def test_broken_ddad_files_are_named(street, tmp_path):
    miniature.write_ddad(tmp_path, street)
    cloud = next(tmp_path.glob('*/point_cloud/LIDAR/*.npz'))
    cloud.write_bytes(b'no archive')
    with pytest.raises(ValueError, match=cloud.name):
        open_dataset('ddad', tmp_path)[0]
    for name, entry in (('rig', 'fx'), ('scene_0123456789abcdef', 'qw')):
        path = next(tmp_path.rglob(f'{name}.json'))
        path.write_text(path.read_text().replace(f'"{entry}"', '"other"'))
        with pytest.raises(ValueError, match=rf'{name}\.json: expected an entry .*{entry}'):
            open_dataset('ddad', tmp_path)[0]
    (tmp_path / 'ddad.json').write_text('{}')
    with pytest.raises(ValueError, match=r'ddad\.json: expected an entry scene_splits > 1'):
        open_dataset('ddad', tmp_path)


def test_bundles_are_pickles_and_open_only_when_allowed(room, tmp_path):
    miniature.write_bundles(tmp_path, room)
    with pytest.raises(ValueError, match='run code'):
        open_dataset('dcverse', tmp_path)


def test_bundles_in_the_other_spelling_and_broken_ones(tmp_path):
    bundle = {
        'rgb': np.zeros((4, 6, 3), np.uint8),
        'lidar': np.full((4, 6, 1), 2.0),
        'depth': np.where(np.eye(4, 6) > 0, np.nan, 3.0),
        'K': np.array([5.0, 6.0, 2.5, 1.5]),
    }
    np.save(tmp_path / 'a.npy', bundle, allow_pickle=True)
    np.save(tmp_path / 'b.npy', {'rgb': bundle['rgb'], 'K': bundle['K']}, allow_pickle=True)
    (tmp_path / 'c.npy').write_bytes(b'no array')
    np.save(tmp_path / 'd.npy', np.zeros(3))
    garbled = (tmp_path / 'a.npy').read_bytes().replace(b'_reconstruct', b'_reXonstruct')
    (tmp_path / 'e.npy').write_bytes(garbled)
    (tmp_path / 'f.npy').write_bytes(garbled.replace(b"'descr'", b"('descr"))
    dataset = open_dataset('dcverse', tmp_path, allow_pickle=True)
    sample = dataset[0]
    np.testing.assert_array_equal(sample.K, [[5, 0, 2.5], [0, 6, 1.5], [0, 0, 1]])
    assert (sample.truth == 0).sum() == 4
    assert sample.sparse.shape == (4, 6)
    for index, message in (
        (1, 'dep or lidar, got rgb, K'),
        (2, r'c\.npy: .*pickled'),
        (3, r'd\.npy: .*pickled'),
        (4, r'e\.npy: .*pickled'),
        (5, r'f\.npy: .*pickled'),
    ):
        with pytest.raises(ValueError, match=message):
            dataset[index]


# Rings


@pytest.fixture(scope='module')
def raw_drive(kitti):
    return kitti / 'raw' / DATE / DRIVE


def test_every_second_ring_is_hidden_and_scored(raw_drive):
    dataset = DriveRings(raw_drive)
    drive = KittiDrive(raw_drive)
    sample, points = dataset[0], drive[0].points
    ring = ring_indices(points)
    assert ring.max() == 63

    def shot(chosen):
        return quantized(project_points(points[chosen], drive.T_camera_lidar, drive.camera))

    np.testing.assert_array_equal(sample.sparse, shot(ring % 2 == 0))
    hidden, scored = shot(ring % 2 == 1), sample.truth > 0
    np.testing.assert_array_equal(sample.truth[scored], hidden[scored])
    assert not (scored & (sample.sparse > 0)).any()
    assert 0.3 < scored.sum() / (hidden > 0).sum() < 1.0


def test_hidden_points_behind_a_nearer_surface_are_not_scored(raw_drive):
    drive = KittiDrive(raw_drive)
    sample = DriveRings(raw_drive)[0]
    full = project_points(drive[0].points, drive.T_camera_lidar, drive.camera)
    for v, u in np.argwhere(sample.truth > 0)[::7]:
        window = full[max(v - 7, 0) : v + 8, max(u - 5, 0) : u + 6]
        nearest = window[window > 0].min()
        depth = sample.truth[v, u]
        assert nearest >= 0.9 * depth - 1e-2 or nearest >= depth - 0.5 - 1e-2


def test_a_random_share_can_be_hidden_and_repeats(raw_drive):
    dataset = DriveRings(raw_drive, hide=0.3, seed=5)
    all_points = DriveRings(raw_drive, hide=1e-9)[0].sparse > 0
    shown = dataset[0].sparse > 0
    assert 0.6 < shown.sum() / all_points.sum() < 0.85
    np.testing.assert_array_equal(dataset[0].sparse, dataset[0].sparse)
    assert (DriveRings(raw_drive, hide=0.3, seed=6)[0].sparse != dataset[0].sparse).any()


@pytest.mark.parametrize('hide', [None, 0.4])
def test_rings_of_a_plain_folder(hide, street, tmp_path):
    miniature.write_folder(tmp_path, street)
    sample = open_dataset('rings', tmp_path, hide=hide)[1]
    full = read_depth_png(tmp_path / 'sparse' / '000001.png')
    given, scored = sample.sparse > 0, sample.truth > 0
    assert not (given & scored).any()
    assert 0.2 < given.sum() / (full > 0).sum() < 0.8
    np.testing.assert_array_equal(sample.sparse[given], full[given])
    np.testing.assert_array_equal(sample.truth[scored], full[scored])


def test_folder_without_intrinsics_is_named(street, tmp_path):
    miniature.write_folder(tmp_path, street)
    (tmp_path / 'K.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'K\.txt'):
        open_dataset('rings', tmp_path)
    with pytest.raises(ValueError, match='hide: expected a fraction'):
        open_dataset('rings', tmp_path, hide=1.5)


def test_rings_of_the_real_drive_score_seven_thousand_points_a_frame(kitti_drive):
    dataset = DriveRings(kitti_drive)
    sample = dataset[0]
    assert sample.size == (375, 1242)
    assert 8000 < (sample.sparse > 0).sum() < 12000
    assert 6000 < (sample.truth > 0).sum() < 9000


# Lines


def sensor_image(rows, K):
    """Sparse depth of a sensor with one line at each of these rows."""
    sparse = np.zeros((64, 96), np.float32)
    sparse[rows, :] = 10.0
    return sparse


def test_lines_are_told_apart_by_elevation():
    K = np.array([[80.0, 0, 47.5], [0, 80.0, 10.0], [0, 0, 1]])
    angles = np.linspace(0.05, 0.5, 5)
    sparse = np.zeros((64, 3), np.float32)
    narrow = np.array([[1e4, 0, 1], [0, 80.0, 10.0], [0, 0, 1]])
    rows = np.round(10 + 80 * np.tan(angles)).astype(int)
    sparse[rows] = 7.0
    labels = line_labels(sparse, narrow, 4)
    np.testing.assert_array_equal(labels[rows], np.repeat(np.arange(5)[:, None], 3, 1))
    assert (labels[sparse == 0] == -1).all()
    halved = keep_lines(sparse, narrow, 2, 4)
    np.testing.assert_array_equal(np.flatnonzero(halved[:, 0]), rows[::2])
    assert keep_lines(np.zeros_like(sparse), K, 2, 4).sum() == 0


def test_fewer_lines_leave_about_their_share_of_the_points(kitti):
    sample = KittiSelection(kitti)[0]
    counts = [int((keep_lines(sample.sparse, sample.K, n) > 0).sum()) for n in (64, 32, 16, 8)]
    assert counts[0] == (sample.sparse > 0).sum()
    for more, fewer in pairwise(counts):
        assert 0.3 < fewer / more < 0.7
    with pytest.raises(ValueError, match='divisor of 64, got 48'):
        keep_lines(sample.sparse, sample.K, 48)


# Samples


def any_sample():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (6, 8)).astype(np.float32)
    return Sample(
        name='a',
        K=np.array([[5.0, 0, 3.5], [0, 5.0, 2.5], [0, 0, 1]]),
        rgb=rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        sparse=depth,
        truth=depth + 1,
        disparity=1 / depth,
    )


def test_a_flip_mirrors_every_image_and_the_principal_point():
    sample = any_sample()
    flipped = sample.flipped()
    assert set(sample.images()) == {f.name for f in fields(Sample)} - {'name', 'K'}
    for name, image in sample.images().items():
        np.testing.assert_array_equal(getattr(flipped, name), image[:, ::-1])
    # The ray of a pixel keeps its slope, mirrored.
    assert (6 - sample.K[0, 2]) / 5 == -((7 - 6) - flipped.K[0, 2]) / 5
    np.testing.assert_array_equal(flipped.flipped().K, sample.K)
    assert sample.K[0, 2] == 3.5


def test_a_crop_moves_every_image_and_the_principal_point():
    sample = any_sample()
    crop = sample.cropped(2, 1, 5, 4)
    for name, image in sample.images().items():
        np.testing.assert_array_equal(getattr(crop, name), image[1:5, 2:7])
    assert (crop.K[0, 2], crop.K[1, 2]) == (1.5, 1.5)
    with pytest.raises(ValueError, match='window inside 8x6'):
        sample.cropped(4, 0, 5, 4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rgb': np.zeros((6, 8), np.uint8)}, 'rgb: expected'),
        ({'truth': np.zeros((6, 9), np.float32)}, r'truth: expected \(6, 8\)'),
        ({'K': np.zeros((3, 4))}, 'K: expected'),
    ],
)
def test_samples_refuse_parts_that_do_not_fit(change, message):
    parts = {f.name: getattr(any_sample(), f.name) for f in fields(Sample)}
    with pytest.raises(ValueError, match=message):
        Sample(**(parts | change))


# Opening by name


def test_unknown_names_and_options_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"kitti-selection.*got 'kiti'"):
        open_dataset('kiti', tmp_path)
    with pytest.raises(ValueError, match='void: expected options among points, split; got seed'):
        open_dataset('void', tmp_path, seed=1)
    with pytest.raises(ValueError, match='expected options among none; got split'):
        open_dataset('kitti-test', tmp_path, split='train')


@pytest.mark.parametrize('name', DATASETS)
def test_a_folder_that_is_not_there_is_named(name, tmp_path):
    options = {'allow_pickle': True} if name == 'dcverse' else {}
    with pytest.raises(FileNotFoundError, match='nowhere'):
        open_dataset(name, tmp_path / 'nowhere', **options)


def test_miniatures_refuse_unknown_layouts(tmp_path):
    with pytest.raises(ValueError, match='layout: expected one of kitti'):
        miniature.write_miniature('nuscenes', tmp_path)
    with pytest.raises(ValueError, match='frames: expected at least 1'):
        miniature.write_miniature('kitti', tmp_path, frames=0)


def test_a_16_bit_selection_depth_of_the_wrong_size_is_refused(kitti_copy):
    folder = kitti_copy / 'depth_selection' / 'val_selection_cropped' / 'velodyne_raw'
    write_depth_png(sorted(folder.iterdir())[0], np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match=r'sparse: expected \(128, 416\)'):
        KittiSelection(kitti_copy)[0]
