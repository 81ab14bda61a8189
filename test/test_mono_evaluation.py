"""Zero-shot evaluation of monocular networks: data sets, alignment, command."""

import json

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dmd3c_ros.cli.app import app
from dmd3c_ros.core.networks import mono
from dmd3c_ros.core.relative import RelativeDepth
from dmd3c_ros.datasets import Sample, miniature, open_dataset
from dmd3c_ros.evaluation.relative import evaluate_relative, score

HEIGHT, WIDTH = 48, 64


def make_image(seed=0, height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng(seed)
    rgb = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height))
    depth = cv2.resize(rng.uniform(1, 20, (6, 8)).astype(np.float32), (width, height))
    return rgb, depth


@pytest.fixture
def diode(tmp_path):
    """Two rooms and a street; a corner of each is invalid."""
    for seed, kind in enumerate(('indoors', 'indoors', 'outdoor')):
        folder = tmp_path / 'val' / kind / 'scene_1' / f'scan_{seed}'
        folder.mkdir(parents=True)
        rgb, depth = make_image(seed)
        mask = np.ones((HEIGHT, WIDTH))
        mask[:8, :8] = 0
        cv2.imwrite(str(folder / 'a.png'), rgb[..., ::-1])
        np.save(folder / 'a_depth.npy', depth[..., None])
        np.save(folder / 'a_depth_mask.npy', mask)
    return tmp_path


def test_diode_shows_images_and_valid_depth(diode):
    frames = open_dataset('diode', diode, points=50)
    assert len(frames) == 3 and len(open_dataset('diode', diode, kind='indoors')) == 2
    for index in range(3):
        rgb, depth = make_image(index)
        sample = frames[index]
        np.testing.assert_array_equal(sample.rgb, rgb)
        np.testing.assert_array_equal(sample.truth[8:], depth[8:])
        assert not sample.truth[:8, :8].any() and (sample.sparse > 0).sum() == 50
        assert sample.K[0, 0] == 886.81
    assert len({frames[i].name for i in range(3)}) == 3


def test_broken_diode_files_are_named(diode):
    folder = diode / 'val/indoors/scene_1/scan_0'
    np.save(folder / 'a_depth.npy', np.ones((3, 4)))
    with pytest.raises(ValueError, match=r'a_depth.npy: expected \(48, 64\)'):
        open_dataset('diode', diode)[0]
    (folder / 'a_depth.npy').write_bytes(b'no array')
    with pytest.raises(ValueError, match=r'a_depth.npy: expected an array'):
        open_dataset('diode', diode)[0]
    (folder / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 3 frames have no file'):
        open_dataset('diode', diode)


@pytest.fixture
def eth3d(tmp_path):
    scene = tmp_path / 'court'
    images, depths = scene / 'images/dslr_images', scene / 'ground_truth_depth/dslr_images'
    for folder in (images, depths, scene / 'dslr_calibration_jpg'):
        folder.mkdir(parents=True)
    rgb, depth = make_image(1, 96, 128)
    cv2.imwrite(str(images / 'DSC_1.JPG'), rgb[..., ::-1])
    depth[:10] = np.inf
    depth.astype('<f4').tofile(depths / 'DSC_1.JPG')
    (scene / 'dslr_calibration_jpg/cameras.txt').write_text(
        '# cameras\n0 THIN_PRISM_FISHEYE 128 96 100 102 64.5 48.5 0 0 0 0 0 0 0 0\n'
    )
    return tmp_path


def test_eth3d_is_reduced_with_its_camera_and_depth_is_not_averaged(eth3d):
    whole = open_dataset('eth3d', eth3d, width=0)[0]
    small = open_dataset('eth3d', eth3d, width=64, points=20)[0]
    assert whole.size == (96, 128) and small.size == (48, 64)
    assert not whole.truth[:10].any() and whole.truth[10:].all()
    np.testing.assert_allclose(whole.K[:2, 2], (64, 48))
    np.testing.assert_allclose(small.K[0, 0], 50)
    assert np.isin(small.truth, whole.truth).all() and (small.sparse > 0).sum() == 20


def test_eth3d_names_depth_of_another_size_and_a_camera_that_is_missing(eth3d):
    depth = eth3d / 'court/ground_truth_depth/dslr_images/DSC_1.JPG'
    content = depth.read_bytes()
    depth.write_bytes(content[:400])
    with pytest.raises(ValueError, match=r'DSC_1.JPG: expected 12288 numbers .* got 100'):
        open_dataset('eth3d', eth3d)[0]
    depth.write_bytes(content)
    (eth3d / 'court/dslr_calibration_jpg/cameras.txt').write_text('# none\n')
    with pytest.raises(ValueError, match='expected a camera of 128x96'):
        open_dataset('eth3d', eth3d)[0]


def test_kittis_eigen_split_takes_frames_with_ground_truth_and_its_crop(tmp_path):
    miniature.write_miniature('kitti', tmp_path, frames=2)
    drive = next((tmp_path / 'data_depth_annotated').glob('*/*'))
    truth = sorted(drive.glob('proj_depth/groundtruth/image_02/*.png'))
    names = [f'{drive.name[:10]}/{drive.name}/image_02/data/{path.name}' for path in truth]
    lines = [f'{name} None 721.5' for name in (*names, names[0].replace('_sync', '_other'))]
    (tmp_path / 'eigen_test_files_with_gt.txt').write_text('\n'.join(lines) + '\n')
    frames = open_dataset('kitti-eigen', tmp_path)
    assert len(frames) == len(truth)
    sample, whole = frames[0], open_dataset('kitti-eigen', tmp_path, crop='none')[0]
    rows = np.flatnonzero(sample.truth.any(1)) / sample.size[0]
    assert rows.min() >= 0.4 and rows.max() <= 0.992
    inside = sample.truth > 0
    np.testing.assert_array_equal(sample.truth[inside], whole.truth[inside])
    assert (whole.truth > 0).sum() > inside.sum() > 0 and not sample.sparse.any()


def test_kittis_eigen_split_says_what_is_missing(tmp_path):
    (tmp_path / 'raw').mkdir()
    with pytest.raises(FileNotFoundError, match='the list of files'):
        open_dataset('kitti-eigen', tmp_path)
    (tmp_path / 'eigen_test_files_with_gt.txt').write_text('a.png 3\n')
    with pytest.raises(ValueError, match=r'expected DATE/DRIVE/image_02/data/N.png'):
        open_dataset('kitti-eigen', tmp_path)


# Scores


@pytest.mark.parametrize('way', ['disparity', 'points'])
def test_a_prediction_that_is_inverse_depth_scores_as_perfect(way):
    rgb, depth = make_image(3)
    sparse = np.where(np.random.default_rng(0).random(depth.shape) < 0.05, depth, 0)
    sample = Sample('made', np.eye(3), rgb, sparse.astype(np.float32), depth)
    metrics = score(7 / depth - 2, sample, way, (0.001, 80.0))
    assert metrics.rel < 0.01 and metrics.delta_1_25 == pytest.approx(1, abs=0.01)
    assert score(depth, sample, way, (0.001, 80.0)).rel > 0.1


def test_only_true_depths_within_the_limits_count():
    rgb, depth = make_image(3)
    sample = Sample('made', np.eye(3), rgb, np.zeros_like(depth), depth)
    metrics = score(1 / depth, sample, 'disparity', (5.0, 10.0))
    assert metrics.pixels == ((depth >= 5) & (depth <= 10)).sum()
    assert score(1 / depth, sample, 'disparity', (100.0, 200.0)) is None


def test_frames_that_do_not_read_are_recorded(diode):
    (diode / 'val/indoors/scene_1/scan_1/a_depth.npy').write_bytes(b'no array')
    result = evaluate_relative(lambda rgb: rgb[..., 0] / 255.0, open_dataset('diode', diode))
    assert len(result.metrics) == 2 and list(result.failures) == ['frame 1']
    with pytest.raises(ValueError, match='alignment: expected one of'):
        evaluate_relative(lambda rgb: rgb, open_dataset('diode', diode), 'best')


@pytest.fixture
def student(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'student.pth'
    torch.save({'net': mono.build('topformer_tiny').state_dict()}, path)
    return path


def test_relative_depth_of_arrays_has_the_images_size_whatever_the_networks(student):
    network = RelativeDepth(student, size=64, device='cpu')
    rgb, _ = make_image(0, 50, 70)
    assert network.predict(rgb).shape == (50, 70)
    with pytest.raises(ValueError, match=r'rgb: expected \(H, W, 3\) uint8'):
        network.predict(rgb[..., 0])


def test_the_command_prints_a_row_and_writes_it(diode, student, tmp_path):
    out = tmp_path / 'row.json'
    arguments = ['--dataset', 'diode', '--root', str(diode), '--json', str(out)]
    result = CliRunner().invoke(app, ['evaluate-mono', str(student), *arguments])
    assert result.exit_code == 0, result.output
    assert 'AbsRel' in result.output
    row = json.loads(out.read_text())
    assert row['frames'] == 3 and 0 < row['mean']['rel'] < 2
    wrong = CliRunner().invoke(app, ['evaluate-mono', str(student), *arguments, '--align', 'x'])
    assert wrong.exit_code == 1
