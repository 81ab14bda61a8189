"""Monocular depth beside the training images: written once, scaled as documented, read back."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')
pytest.importorskip('transformers', reason='the teacher needs transformers')

from training_data import save_teacher

from dmd3c_ros.datasets import open_dataset
from dmd3c_ros.datasets.miniature import write_miniature
from dmd3c_ros.io.images import read_rgb
from training.disparity import DisparityConfig, disparity, main, write_disparities
from training.generation.sources import Prediction, SourceImage
from training.generation.teacher import HubTeacher, TeacherConfig


@pytest.fixture(scope='module')
def teacher(tmp_path_factory) -> dict:
    return {'model': str(save_teacher(tmp_path_factory.mktemp('teacher'))), 'size': 56}


@pytest.fixture
def kitti(tmp_path) -> Path:
    write_miniature('kitti', tmp_path / 'kitti', frames=3)
    for file in tmp_path.rglob('disp/*.png'):
        file.unlink()
    return tmp_path / 'kitti'


def test_codes_run_from_the_farthest_to_the_nearest_pixel():
    inverse = Prediction(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32), False)
    np.testing.assert_array_equal(disparity(inverse, 2, 2), [[0, 16384], [32768, 65535]])
    # Of a metric teacher 2 m is nearest and no depth as far as can be.
    metric = Prediction(np.array([[2.0, 4.0], [8.0, 0.0]], np.float32), True)
    np.testing.assert_array_equal(disparity(metric, 2, 2), [[65535, 32768], [16384, 0]])
    assert not disparity(Prediction(np.full((2, 2), 7.0, np.float32), False), 4, 3).any()
    unknown = Prediction(np.array([[np.nan, 1.0, 2.0]], np.float32), False)
    np.testing.assert_array_equal(disparity(unknown, 3, 1), [[0, 0, 65535]])


def test_every_training_image_gets_what_the_teacher_says(kitti, teacher, tmp_path):
    config = DisparityConfig(str(kitti), teacher=TeacherConfig(**teacher), batch=2)
    assert write_disparities(config) == 3
    dataset = open_dataset('kitti-train', kitti, disparity=True)
    told = HubTeacher(TeacherConfig(**teacher))
    for sample in dataset:
        [prediction] = told.predict([SourceImage(sample.name, sample.rgb)])
        rows, columns = sample.size
        expected = disparity(prediction, columns, rows) / 65535
        np.testing.assert_allclose(sample.disparity, expected, atol=1e-3)
        assert sample.disparity.min() == 0 and sample.disparity.max() == 1


def test_what_is_there_is_kept_and_machines_share_the_rest(kitti, teacher):
    dataset = open_dataset('kitti-train', kitti)
    first, second = (dataset.disparity_file(index) for index in (0, 1))
    changes = {'teacher': TeacherConfig(**teacher), 'parts': 2}
    assert write_disparities(DisparityConfig(str(kitti), part=1, **changes)) == 1
    assert second.exists() and not first.exists()
    stamp = second.stat().st_mtime_ns
    assert write_disparities(DisparityConfig(str(kitti), teacher=TeacherConfig(**teacher))) == 2
    assert second.stat().st_mtime_ns == stamp


def test_an_image_that_does_not_read_is_named_after_the_others_are_done(kitti, teacher):
    dataset = open_dataset('kitti-train', kitti)
    bad = dataset.disparity_file(1).parents[1] / 'data/0000000001.png'
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    with pytest.raises(
        ValueError, match=r'1 images could not be read, 2 were written.*0000000001'
    ):
        write_disparities(DisparityConfig(str(kitti), teacher=TeacherConfig(**teacher)))
    bad.write_bytes(whole)
    assert read_rgb(bad).ndim == 3
    assert write_disparities(DisparityConfig(str(kitti), teacher=TeacherConfig(**teacher))) == 1


def test_nyu_gets_disparity_too_and_reads_it_in_both_sizes(tmp_path, teacher):
    pytest.importorskip('h5py')
    write_miniature('nyu', tmp_path / 'nyu', frames=1)
    config = tmp_path / 'nyu.yaml'
    config.write_text(f'dataset: nyu-train\nroot: {tmp_path / "nyu"}\nteacher: {teacher}\n')
    main(['--config', str(config)])
    cropped = open_dataset('nyu-train', tmp_path / 'nyu', disparity=True)[0]
    whole = open_dataset('nyu-train-whole', tmp_path / 'nyu', disparity=True)[0]
    assert cropped.size == (228, 304) and whole.size == (480, 640)
    assert cropped.disparity.shape == (228, 304)
    # Pixel (v, u) of the evaluated window is (2 v + 12.5, 2 u + 16.5) of the whole image.
    middle = whole.disparity[12:-12:2, 16:-16:2]
    assert np.corrcoef(middle.ravel(), cropped.disparity.ravel())[0, 1] > 0.99


def test_a_data_set_without_monocular_depth_is_named(tmp_path, teacher):
    write_miniature('kitti', tmp_path, frames=1)
    with pytest.raises(ValueError, match='kitti-selection: expected a data set that holds'):
        write_disparities(DisparityConfig(str(tmp_path), 'kitti-selection'))
    with pytest.raises(ValueError, match='part from 0 to parts - 1'):
        DisparityConfig('x', parts=2, part=2)
