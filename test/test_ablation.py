"""The ablation on simulated data: its labels have KITTI's holes, its scores see blurred edges."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

from training_data import made_frame

from dmd3c_ros.datasets import open_dataset
from training.ablation import compare as ablation
from training.ablation.data import (
    LABELLED,
    SHARDS,
    AblationDataConfig,
    halved,
    near_edges,
    read_test_frames,
    scanned,
    semi_dense,
    teach,
    write_data,
)
from training.ablation.scores import boundary_f1, dense_scores
from training.generation.shards import ShardReader
from training.scenes.frames import frame_path, save_frame
from training.settings import load

# On a busy machine it starves.
pytestmark = pytest.mark.timeout(900)

CONFIG = Path(__file__).resolve().parents[1] / 'training/config/ablation.yaml'
DATA = AblationDataConfig(labelled=1, test=1)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    for number in range(15):
        save_frame(frame_path(folder, number), made_frame(number))
    return folder


@pytest.fixture(scope='module')
def data(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ablation')
    write_data(scenes, folder, DATA)
    return folder


def test_half_images_lie_on_the_pixels_of_whole_ones():
    whole = made_frame(3)
    half = halved(whole)
    assert half.rgb.shape == (176, 608, 3)
    np.testing.assert_array_equal(half.depth, whole.depth[::2, ::2])
    v, u = 100, 77
    ray, expected = (
        np.linalg.inv(K) @ (x, y, 1) for K, x, y in ((half.K, u, v), (whole.K, 2 * u, 2 * v))
    )
    np.testing.assert_allclose(ray, expected)
    rows = np.flatnonzero((half.sparse > 0).any(1))
    assert 0 < len(rows) <= 32
    assert 0.01 < (half.sparse > 0).mean() < 0.06


def test_labels_have_the_holes_of_accumulated_sweeps():
    frame = halved(made_frame(1))
    labels = semi_dense(frame, DATA, np.random.default_rng(0))
    known = labels > 0
    np.testing.assert_array_equal(labels[known], frame.depth[known])
    assert not (known & ~scanned(frame)).any()
    assert not (known & near_edges(frame.depth, DATA.label_gap)).any()
    assert labels.max() < 80
    whole = scanned(frame) & (frame.depth > 0) & (frame.depth < 80)
    assert 0.2 < known.sum() / whole.sum() < 0.31


def test_edges_are_jumps_and_not_slopes():
    depth = np.tile(np.geomspace(60, 3, 80, dtype=np.float32)[:, None], (1, 60))
    assert not near_edges(depth[::2], 0)[1:-1].any()
    depth[20:60, 25:40] = 2.5
    depth[:5] = 0
    edges = near_edges(depth, 0)
    assert edges[30, 24:26].all() and edges[30, 39:41].all() and edges[4:6, 3].any()
    assert not edges[30, 28:37].any()
    assert near_edges(depth, 3)[30, 21]


def test_the_teacher_knows_order_but_neither_scale_nor_all_details():
    frame = halved(made_frame(2))
    told = teach(frame.depth, DATA, np.random.default_rng(0))
    assert told.max() == 1 and told.min() == 0 and not told[:20, 300:].any()
    known = (frame.depth > 0) & ~near_edges(frame.depth, 4)
    product = told[known] * frame.depth[known]
    assert 0.02 < product.std() / product.mean() < 0.4


def test_boundary_f1_by_hand():
    truth = np.full((4, 6), 10.0)
    truth[:, 3:] = 20.0
    assert boundary_f1(truth, truth) == 1
    assert boundary_f1(2 * truth, truth) == 1
    assert boundary_f1(np.full((4, 6), 15.0), truth) == 0
    # Nearer where it should be farther.
    assert boundary_f1(30 - truth, truth) == 0
    # A step spread over two pairs: each row finds two contours where there is one.
    halfway = truth.copy()
    halfway[:, 3] = np.sqrt(200)
    assert boundary_f1(halfway, truth) == pytest.approx(2 / 3)
    assert np.isnan(boundary_f1(truth, np.full((4, 6), 5.0)))


def test_blur_costs_sharpness_and_error_at_edges():
    frame = halved(made_frame(4))
    filled = np.where(frame.depth > 0, frame.depth, 90)
    exact = dense_scores(filled, frame)
    assert exact['rmse'] == exact['edge_mae'] == 0 and exact['boundary_f1'] == 1
    blurred = dense_scores(cv2.GaussianBlur(filled, (0, 0), 2), frame)
    assert blurred['edge_mae'] > 3 * blurred['mae'] > 0
    assert blurred['boundary_f1'] < 0.8


def test_every_part_has_scenes_of_its_own(scenes, data, tmp_path):
    labelled = open_dataset('kitti-train', data / LABELLED, disparity=True)
    test = list(read_test_frames(data))
    shards = ShardReader(data / SHARDS)
    assert (len(labelled), len(test), len(shards)) == (3, 3, 9)
    for number in range(3):
        np.testing.assert_allclose(
            test[number][1].depth, halved(made_frame(number)).depth, atol=2e-3
        )
        expected = halved(made_frame(3 + number))
        np.testing.assert_array_equal(labelled[number].rgb, expected.rgb)
        np.testing.assert_allclose(labelled[number].K, expected.K)
        assert 0 <= labelled[number].disparity.min() < labelled[number].disparity.max() <= 1
    assert shards[0].rgb.shape == (176, 608, 3)
    with pytest.raises(ValueError, match='expected more than 30 scenes'):
        write_data(scenes, tmp_path / 'more', AblationDataConfig(labelled=20, test=10))
    with pytest.raises(FileNotFoundError, match=r'python -m training\.scenes'):
        write_data(tmp_path / 'none', tmp_path / 'more', DATA)


def test_the_command_trains_and_scores_every_arm(scenes, data, capsys):
    arms = {
        'l1': {'loss': {'recipe': 'l1'}},
        'pretrained_l1_ssi': {'pretrained': True, 'loss': {'recipe': 'ssi'}},
    }
    settings = [
        *(f'scenes={scenes}', f'out={data}', 'seeds=[1]', f'arms={arms}', 'workers=0'),
        *('iterations=1', 'pretraining_iterations=1', 'batch=1', 'held_out=1'),
        *('crop_height=32', 'crop_width=64', 'data.labelled=1', 'data.test=1'),
    ]
    ablation.main(['--config', str(CONFIG), '--set', *settings])
    results = json.loads((data / 'results.json').read_text())['results']
    table = capsys.readouterr().out
    assert results.keys() == arms.keys()
    for arm, scores in results.items():
        assert arm in table
        assert all(len(scores[name]) == 1 for name in ablation.COLUMNS)
        assert scores['rmse'][0] > scores['mae'][0] > 0
    # Each arm trained: what differs is what it trained with.
    assert results['l1']['mae'] != results['pretrained_l1_ssi']['mae']
    # Neither scores nor data of other settings pass for those that were asked for.
    longer = [*settings, 'pretraining_iterations=2']
    with pytest.raises(
        SystemExit, match=r'stage1_1 holds a run with other settings of iterations'
    ):
        ablation.main(['--config', str(CONFIG), '--set', *longer])
    with pytest.raises(SystemExit, match=r'expected data of the settings .*"label_gap": 4'):
        ablation.main(['--config', str(CONFIG), '--set', *settings, 'data.label_gap=4'])


def test_the_shipped_configuration_compares_what_table_3_compares():
    arms = load(ablation.AblationConfig, CONFIG).arms
    assert {arms[name].pretrained for name in ('l1', 'l1_ssi')} == {False}
    assert arms['pretrained_l1_ssi'].pretrained
    assert arms['l1'].loss.recipe == 'l1' and arms['l1_ssi'].loss.recipe == 'ssi'
