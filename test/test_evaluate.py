"""Evaluation: the run over a data set, what it leaves behind, and the command."""

import csv
import json
import re
import shutil
from typing import ClassVar

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dmd3c_ros.cli.app import app
from dmd3c_ros.core.baselines import BASELINES
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.projection import remove_hidden_points
from dmd3c_ros.datasets import (
    DATASETS,
    DepthDataset,
    KittiSelection,
    Sample,
    keep_lines,
    miniature,
    open_dataset,
)
from dmd3c_ros.evaluation.protocols import (
    PROTOCOLS,
    CompleterPredictor,
    FolderPredictor,
    Scoring,
    evaluate,
    score,
    write_submission,
)
from dmd3c_ros.evaluation.report import Gallery, write_results
from dmd3c_ros.io.depth_png import read_depth_png, write_depth_png
from dmd3c_ros.io.images import read_rgb, write_rgb

K = np.array([[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]])


class Frames(DepthDataset):
    """Frames of flat depth; those whose true depth is 0 cannot be read."""

    def __init__(self, *depths):
        self.depths = depths

    def __len__(self):
        return len(self.depths)

    def __getitem__(self, index):
        if self.depths[index] == 0:
            raise ValueError(f'frame{index}.png: broken')
        truth = np.full((24, 32), self.depths[index], np.float32)
        sparse = np.where(np.arange(32) % 4 == 0, truth, 0).astype(np.float32)
        return Sample(f'frame{index}', K, np.zeros((24, 32, 3), np.uint8), sparse, truth)


class Off:
    """A model that is wrong by a constant."""

    name = 'off'
    details: ClassVar = {}

    def __init__(self, error=0.5):
        self.error = error

    def __call__(self, sample):
        return sample.truth + np.float32(self.error)


# The run


def test_every_protocol_has_its_data_set():
    trained_or_monocular = {
        'kitti-train',
        'kitti-test',
        'nyu-train',
        'nyu-train-whole',
        'kitti-eigen',
    }
    assert set(PROTOCOLS) == set(DATASETS) - trained_or_monocular


def test_errors_are_averaged_over_frames_and_bands():
    result = evaluate(Off(), Frames(5.0, 15.0, 15.0), 'kitti-val')
    assert result.mean.rmse_mm == pytest.approx(500.0)
    assert result.mean.rel == pytest.approx((0.1 + 0.5 / 15 * 2) / 3)
    assert [frame.name for frame in result.frames] == ['frame0', 'frame1', 'frame2']
    bands = result.bands
    assert bands['0-10 m'].rel == pytest.approx(0.1)
    assert bands['10-20 m'].rel == pytest.approx(0.5 / 15)
    assert bands['20-40 m'] is None
    assert result.median_ms >= 0


def test_a_frame_that_cannot_be_read_is_recorded_and_the_run_goes_on():
    seen = []
    result = evaluate(Off(), Frames(5.0, 0.0, 6.0), 'nyu', on_progress=lambda: seen.append(None))
    assert [frame.name for frame in result.frames] == ['frame0', 'frame2']
    assert result.failures == {'frame 1': 'frame1.png: broken'}
    assert len(seen) == 3


def test_only_the_asked_frames_are_scored():
    result = evaluate(Off(), Frames(5.0, 0.0, 6.0), 'nyu', indices=[2])
    assert [frame.name for frame in result.frames] == ['frame2']
    assert not result.failures


def test_a_benchmark_scores_what_its_images_can_hold():
    sample = Frames(5.0)[0]
    off = sample.truth + np.float32(0.7 / 256)
    rounded = score(off, sample, PROTOCOLS['kitti-selection']).metrics
    exact = score(off, sample, PROTOCOLS['nyu']).metrics
    assert rounded.mae_mm == pytest.approx(1000 / 256)
    assert exact.mae_mm == pytest.approx(700 / 256, rel=1e-3)


def test_only_truth_in_range_and_the_bottom_rows_count():
    scoring = Scoring(min_depth=5.5, max_depth=8.0)
    result = evaluate(Off(), Frames(5.0, 7.0, 9.0), 'nyu', scoring)
    assert [frame.metrics is None for frame in result.frames] == [True, False, True]
    sizes = []

    class Rows(Off):
        def __call__(self, sample):
            sizes.append((sample.size, sample.K[1, 2]))
            return sample.truth

    result = evaluate(Rows(), Frames(5.0), 'nyu', Scoring(bottom_rows=10))
    assert sizes == [((10, 32), 11.5 - 14)]
    assert result.frames[0].metrics.pixels == 320


def test_fewer_lines_reach_the_model_and_the_truth_stays():
    seen = []

    class Lines(Off):
        def __call__(self, sample):
            seen.append(sample)
            return sample.truth

    dataset = Frames(5.0)
    result = evaluate(Lines(), dataset, 'nyu', Scoring(lines=16))
    expected = keep_lines(dataset[0].sparse, K, 16)
    assert 0 < (expected > 0).sum() < (dataset[0].sparse > 0).sum()
    np.testing.assert_array_equal(seen[0].sparse, expected)
    assert result.frames[0].metrics.pixels == 24 * 32
    assert result.label == 'off, 16 lines'


def test_holes_cost_most_in_ones_own_recording():
    sample = Frames(5.0)[0]
    depth = np.where(np.arange(32) == 7, 0, sample.truth)
    assert score(depth, sample, PROTOCOLS['kitti-selection']).metrics.mae_mm == 0.0
    rings = score(depth, sample, PROTOCOLS['rings']).metrics
    assert rings.mae_mm == pytest.approx(4500 / 32)
    assert rings.missing == pytest.approx(1 / 32)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: evaluate(Off(), Frames(5.0), 'kitti-test'), 'got .kitti-test'),
        (lambda: Scoring(lines=48), 'divisor of 64'),
        (lambda: Scoring(min_depth=5.0, max_depth=5.0), 'min_depth < max_depth'),
        (lambda: Scoring(missing='zero'), 'missing'),
        (lambda: Scoring(bottom_rows=-1), 'at least 0'),
        (lambda: score(np.ones((2, 2)), Frames(5.0)[0], Scoring()), r'prediction \(24, 32\)'),
    ],
)
def test_wrong_settings_name_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize('model', BASELINES)
def test_classical_completions_of_flat_depth_are_exact(model):
    predictor = CompleterPredictor(DepthCompleter(CompleterConfig(model=model)))
    mean = evaluate(predictor, Frames(5.0, 40.0), 'nyu').mean
    assert mean.rmse_mm < 0.1
    assert mean.missing == 0.0


# What it leaves behind


def test_csv_and_json_agree(tmp_path):
    result = evaluate(Off(), Frames(5.0, 0.0, 15.0), 'kitti-val')
    write_results(tmp_path, result)
    rows = list(csv.DictReader((tmp_path / 'frames.csv').open()))
    content = json.loads((tmp_path / 'mean.json').read_text())
    assert [row['frame'] for row in rows] == ['frame0', 'frame2']
    for key in ('rmse_mm', 'irmse_per_km', 'delta_1_05'):
        assert content['mean'][key] == pytest.approx(np.mean([float(r[key]) for r in rows]))
    assert rows[0]['rmse_mm 0-10 m'] == rows[0]['rmse_mm']
    assert rows[0]['rmse_mm 10-20 m'] == ''
    assert content['failures'] == {'frame 1': 'frame1.png: broken'}
    assert (content['model'], content['dataset'], content['frames']) == ('off', 'kitti-val', 2)
    assert content['scoring']['as_png'] is True
    assert content['scoring']['max_depth'] is None


def test_nothing_scored_is_written_as_nothing(tmp_path):
    write_results(tmp_path, evaluate(Off(), Frames(0.0), 'nyu'))
    content = json.loads((tmp_path / 'mean.json').read_text())
    assert (content['mean'], content['median_ms'], content['frames']) == (None, None, 0)


def test_the_gallery_keeps_the_worst_and_draws_every_error(tmp_path):
    gallery = Gallery(2, tmp_path / 'errors', unit=1.0)
    dataset = Frames(5.0, 6.0, 7.0, 8.0)
    for sample, error in zip(dataset, (0.1, 0.9, 0.0, 0.4), strict=True):
        depth = sample.truth + np.float32(error)
        gallery(sample, depth, score(depth, sample, Scoring()))
    assert sorted(entry[2].name for entry in gallery._kept) == ['frame1', 'frame3']
    gallery.write(tmp_path / 'worst.png')
    sheet = read_rgb(tmp_path / 'worst.png')
    maps = {path.stem: read_rgb(path) for path in (tmp_path / 'errors').iterdir()}
    assert sorted(maps) == ['frame0', 'frame1', 'frame2', 'frame3']
    assert maps['frame0'].shape == (24, 32, 3)
    # The warmer the colour, the larger the error; the worst frame comes first on the sheet.
    brightness = [maps[f'frame{i}'].mean() for i in (2, 0, 3, 1)]
    assert brightness == sorted(brightness)
    errors = sheet[:, -sheet.shape[1] // 4 :]
    half = len(errors) // 2
    assert errors[half // 2].mean() > errors[half + half // 2].mean()


def test_an_empty_gallery_writes_nothing(tmp_path):
    Gallery(3).write(tmp_path / 'worst.png')
    assert not list(tmp_path.iterdir())


def test_a_submission_holds_every_frame_as_the_server_wants_it(tmp_path):
    dataset = Frames(5.0, 300.0)
    assert write_submission(Off(0.001), dataset, tmp_path) == {}
    values = cv2.imread(str(tmp_path / 'frame0.png'), cv2.IMREAD_UNCHANGED)
    assert (values.dtype, values.shape) == (np.uint16, (24, 32))
    assert (values == 5 * 256).all()
    # What is too far for the format keeps its largest value: 0 would be a hole.
    far = cv2.imread(str(tmp_path / 'frame1.png'), cv2.IMREAD_UNCHANGED)
    assert (far == 65535).all()


def test_predictions_from_files_score_like_the_model_itself(tmp_path):
    model = CompleterPredictor(DepthCompleter(CompleterConfig(model='nearest')))
    dataset = Frames(5.0, 7.0)
    for sample in dataset:
        write_depth_png(tmp_path / 'mine' / f'{sample.name}.png', model(sample))
    files = FolderPredictor(tmp_path / 'mine')
    assert files.name == 'mine'
    ours, theirs = (evaluate(p, dataset, 'rings') for p in (model, files))
    assert ours.mean == theirs.mean
    assert ours.details['network'] == 'nearest'
    (tmp_path / 'mine' / 'frame1.png').unlink()
    assert 'frame1.png' in evaluate(files, dataset, 'rings').failures['frame 1']
    with pytest.raises(FileNotFoundError, match='nowhere'):
        FolderPredictor(tmp_path / 'nowhere')


# The command


@pytest.fixture(scope='module')
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp('kitti')
    miniature.write_kitti(root, miniature.simulate('street', (208, 64), 2))
    return root


def run(*arguments):
    result = CliRunner().invoke(app, ['evaluate', *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    # A message may be wrapped or coloured.
    result.text = re.sub(r'\s+', ' ', re.sub(r'\x1b\[[0-9;]*m', '', result.output))
    return result


def test_models_and_line_counts_are_compared_in_one_table(kitti, tmp_path):
    result = run(
        '--dataset', 'kitti-selection', '--root', kitti, '--out', tmp_path,
        '--model', 'nearest', '--compare', 'interpolation', '--lines', '64,16',
    )  # fmt: skip
    assert result.exit_code == 0, result.text
    summary = json.loads((tmp_path / 'summary.json').read_text())
    runs = {(r['model'], r['lines']): r['mean']['rmse_mm'] for r in summary}
    assert list(runs) == [
        (model, lines) for model in ('nearest', 'interpolation') for lines in (64, 16)
    ]
    # The depths are random, and hidden points are dropped: no number of lines is the better one.
    assert len(set(runs.values())) == 4
    assert f'{runs["nearest", 16]:.1f}' in result.text
    assert 'interpolation, 16 lines' in result.text
    for folder in ('nearest_64_lines', 'interpolation_16_lines'):
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert names == ['frames.csv', 'mean.json', 'worst.png']


def test_what_is_compared_stands_beside_the_model(kitti, tmp_path):
    options = ('--root', kitti, '--limit', 1, '--worst', 0, '--compare', 'nearest')
    result = run('--dataset', 'kitti-selection', '--out', tmp_path / 'both', *options)
    assert result.exit_code == 0, result.text
    summary = json.loads((tmp_path / 'both' / 'summary.json').read_text())
    assert [r['model'] for r in summary] == ['light', 'nearest']


def test_the_command_scores_as_by_hand(kitti, tmp_path):
    result = run(
        '--dataset', 'kitti-selection', '--root', kitti, '--out', tmp_path,
        '--model', 'nearest', '--worst', 0, '--error-maps',
    )  # fmt: skip
    assert result.exit_code == 0, result.text
    squares, folder = [], kitti / 'depth_selection' / 'val_selection_cropped'
    for truth_file in sorted((folder / 'groundtruth_depth').iterdir()):
        name = truth_file.name.replace('groundtruth_depth', 'velodyne_raw')
        sparse = remove_hidden_points(read_depth_png(folder / 'velodyne_raw' / name))
        truth = read_depth_png(truth_file)
        rows, columns = np.nonzero(sparse)
        errors = []
        for v, u in np.argwhere(truth > 0):
            distances = (rows - v) ** 2 + (columns - u) ** 2
            ties = sparse[rows, columns][distances == distances.min()]
            errors.append(np.min(np.abs(ties - truth[v, u])))
        squares.append(np.sqrt(np.mean(np.square(errors))) * 1000)
    summary = json.loads((tmp_path / 'summary.json').read_text())
    # Several nearest points may be equally near; by hand the best of them counts.
    assert summary[0]['mean']['rmse_mm'] == pytest.approx(np.mean(squares), rel=0.15)
    assert summary[0]['mean']['rmse_mm'] >= np.mean(squares)
    assert len(list((tmp_path / 'nearest' / 'errors').iterdir())) == 2


def test_a_corrupt_frame_is_named_the_others_are_scored_and_the_exit_tells(kitti, tmp_path):
    root = shutil.copytree(kitti, tmp_path / 'kitti')
    depth = root / 'depth_selection' / 'val_selection_cropped' / 'groundtruth_depth'
    broken = sorted(depth.iterdir())[0]
    broken.write_bytes(b'no image')
    result = run(
        '--dataset', 'kitti-selection', '--root', root, '--out', tmp_path / 'out',
        '--model', 'nearest',
    )  # fmt: skip
    assert result.exit_code == 1
    assert broken.name in result.text
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary[0]['frames'] == 1


def test_the_anonymous_test_set_becomes_a_submission(kitti, tmp_path):
    result = run(
        '--dataset', 'kitti-test', '--root', kitti, '--model', 'nearest',
        '--submission', tmp_path / 'out',
    )  # fmt: skip
    assert result.exit_code == 0, result.text
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['0000000000.png', '0000000001.png']
    sample = KittiSelection(kitti, 'test')[1]
    # The classical methods do without points that the camera cannot see.
    sparse = remove_hidden_points(sample.sparse)
    known = sparse > 0
    written = read_depth_png(tmp_path / 'out' / names[1])
    np.testing.assert_array_equal(written[known], sparse[known])
    assert (written > 0).all()


def test_ones_own_drive_is_scored_without_ground_truth(kitti, tmp_path):
    drive = next((kitti / 'raw').glob('*/*_sync'))
    scores = {}
    for model in ('nearest', 'interpolation'):
        result = run(
            '--dataset', 'rings', '--root', drive, '--out', tmp_path, '--model', model,
            '--limit', 1,
        )  # fmt: skip
        assert result.exit_code == 0, result.text
        scores[model] = json.loads((tmp_path / 'summary.json').read_text())[0]
    assert scores['nearest']['frames'] == 1
    assert 0 < scores['interpolation']['mean']['mae_mm'] < scores['nearest']['mean']['mae_mm']


@pytest.mark.parametrize(
    ('layout', 'options'),
    [
        ('void', ['--points', '1500']),
        ('dcverse', ['--allow-pickle']),
        ('scannet', ['--points', '200', '--seed', '3']),
    ],
)
def test_indoor_protocols_run_on_miniatures_from_the_command_line(layout, options, tmp_path):
    made = CliRunner().invoke(
        app, ['export', 'miniature', layout, str(tmp_path / layout), '--frames', '1']
    )
    assert made.exit_code == 0, made.output
    result = run(
        '--dataset', layout, '--root', tmp_path / layout, '--out', tmp_path / 'out',
        '--model', 'nearest', *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.text
    mean = json.loads((tmp_path / 'out' / 'summary.json').read_text())[0]['mean']
    assert mean['delta_1_25'] > 0.9


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--dataset', 'kitti'], "got 'kitti'"),
        (['--dataset', 'nyu'], 'NYU val: expected the folder'),
        (['--dataset', 'dcverse'], '--allow-pickle'),
        (['--dataset', 'kitti-selection', '--hide', '0.5'], 'kitti-selection: expected options'),
        (['--dataset', 'nyu', '--submission', 'out'], 'expected --dataset kitti-test, got nyu'),
        (['--dataset', 'kitti-selection', '--lines', 'many'], 'expected numbers such as'),
        (['--dataset', 'kitti-selection', '--lines', '48'], 'divisor of 64'),
        (['--dataset', 'kitti-selection', '--model', 'bigger'], "got 'bigger'"),
        (['--dataset', 'kitti-selection', '--predictions', 'nowhere'], 'nowhere'),
        (
            ['--dataset', 'kitti-selection', '--compare', 'nearest', '--compare', 'nearest'],
            'different names',
        ),
        (
            ['--dataset', 'kitti-selection', '--model', 'nearest', '--max-depth', '0.01'],
            'no frame has ground truth',
        ),
    ],
)
def test_mistakes_end_with_a_reason(arguments, message, kitti, tmp_path):
    result = run(*arguments, '--root', kitti, '--out', tmp_path / 'out')
    assert result.exit_code == 1
    assert message in result.text


def test_a_summary_that_cannot_be_written_costs_no_table(kitti, tmp_path):
    (tmp_path / 'summary.json').mkdir()
    result = run(
        '--dataset', 'kitti-selection', '--root', kitti, '--out', tmp_path, '--model', 'nearest'
    )  # fmt: skip
    assert result.exit_code == 1
    assert 'kitti-selection, 2 frames' in result.text
    assert 'error:' in result.text and 'summary.json' in result.text


def test_an_output_that_cannot_be_written_is_found_before_the_run(kitti, tmp_path):
    (tmp_path / 'out').write_text('a file')
    result = run(
        '--dataset', 'kitti-selection', '--root', kitti, '--out', tmp_path / 'out',
        '--model', 'nearest',
    )  # fmt: skip
    assert result.exit_code == 1
    assert 'out' in result.text and 'nearest ' not in result.text


def make_sets(root):
    """Two sets of a wall with a box before it; the second one's input has its truth everywhere."""
    for name, step in (('far', 8), ('near', 1)):
        truth = np.full((48, 64), 20 if name == 'far' else 4, np.float32)
        truth[10:30, 20:40] /= 2
        sparse = np.zeros_like(truth)
        sparse[::step, ::step] = truth[::step, ::step]
        rgb = np.full((48, 64, 3), 60, np.uint8)
        rgb[10:30, 20:40] = 200
        write_rgb(root / name / 'image/0.png', rgb)
        write_depth_png(root / name / 'sparse/0.png', sparse)
        write_depth_png(root / name / 'truth/0.png', truth)
        (root / name / 'K').mkdir()
        np.savetxt(root / name / 'K/0.txt', np.array([[60, 0, 32], [0, 60, 24], [0, 0, 1.0]]))
    return root


def test_sets_are_scored_beside_grey_image_and_classical_methods(tmp_path):
    root = make_sets(tmp_path / 'sets')
    result = run('--dataset', 'folder', '--root', root, '--out', tmp_path / 'out', '--worst', 0)
    assert result.exit_code == 0, result.text
    found = json.loads((tmp_path / 'out/sets.json').read_text())
    classical = ('nearest', 'interpolation', 'ip_basic')
    assert list(found) == ['light', 'light, grey image', *classical]
    errors = {
        model: np.array([result['sets'][name]['mae_mm'] for name in ('far', 'near')])
        for model, result in found.items()
    }
    best = np.min([errors[model] for model in classical], axis=0)
    for model, values in found.items():
        ratios = errors[model] / best
        np.testing.assert_allclose(list(values['ratios']['mae_mm'].values()), ratios)
        assert values['geometric_mean']['mae_mm'] == pytest.approx(np.sqrt(ratios.prod()))
    light, grey = found['light'], found['light, grey image']
    assert light['sets']['far']['mae_mm'] != grey['sets']['far']['mae_mm']
    for values in light['confidence'].values():
        assert 0 <= values['calibration_error'] <= 1 and 0 <= values['sure'] <= 1
    assert found['nearest']['confidence'] is None
    assert 'geometric mean, MAE' in result.text


def test_classical_methods_get_no_hidden_points_as_in_complete(tmp_path):
    root = make_sets(tmp_path)
    # A far point among near ones of the wall, as a LiDAR beside the camera sees past its edge.
    sparse = read_depth_png(root / 'near/sparse/0.png')
    sparse[40, 30] = 60
    write_depth_png(root / 'near/sparse/0.png', sparse)
    sample = next(s for s in open_dataset('folder', root) if s.name == 'near/0')
    completer = DepthCompleter(CompleterConfig(model='nearest'))
    assert completer.complete(sample.rgb, sample.sparse, sample.K).depth[40, 30] == 60
    assert CompleterPredictor(completer)(sample)[40, 30] == 4


def test_a_set_that_lacks_a_file_is_named(tmp_path):
    root = make_sets(tmp_path)
    (root / 'far/K/0.txt').rename(root / 'far/K/1.txt')
    with pytest.raises(FileNotFoundError, match=r'1 of 1 frames have no file in .*far/K: 0'):
        open_dataset('folder', root)
    with pytest.raises(FileNotFoundError, match='SET/truth'):
        open_dataset('folder', root / 'near/image')
