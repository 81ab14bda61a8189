"""Files that `complete` writes beside the depth: confidence, preview, a clean cloud."""

import cv2
import numpy as np
import pytest
from commands import invoke
from synthetic_drive import HEIGHT, WIDTH
from test_cli import complete_frames, complete_one, make_drive_before_wall, make_frames, names_of
from test_cli import scene as scene

from dmd3c_ros.cli.frame_files import CloudCount, FrameCompleter, Paths
from dmd3c_ros.core.completer import Completion
from dmd3c_ros.io.clouds import read_cloud
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.pipeline.arrays import CompletionInputs

pytestmark = pytest.mark.usefixtures('wide_terminal')

K = np.array([[60, 0, 40], [0, 60, 24], [0, 0, 1.0]])


def dense() -> tuple[CompletionInputs, Completion]:
    """Two walls with a column of pixels between them, of which a quarter is unsure."""
    depth = np.full((48, 80), 20.0, np.float32)
    depth[:, 40:], depth[:, 40] = 5.0, 9.0
    confidence = np.full(depth.shape, 0.9, np.float32)
    confidence[:12] = 0.2
    rgb = np.full((48, 80, 3), 90, np.uint8)
    return CompletionInputs(rgb, np.where(depth == 5, depth, 0), K), Completion(depth, confidence)


def cloud_of(tmp_path, *, all_points: bool = False, **options) -> tuple[np.ndarray, CloudCount]:
    completer = FrameCompleter({'model': 'nearest', **options}, None, all_points=all_points)
    paths = Paths(tmp_path / 'd.png', cloud=tmp_path / 'c.ply')
    files, count = completer.files(paths, *dense())
    (tmp_path / 'c.ply').write_bytes(files[tmp_path / 'c.ply'])
    return read_cloud(tmp_path / 'c.ply'), count


def test_a_cloud_holds_neither_what_is_unsure_nor_what_hangs_on_an_edge(tmp_path):
    points, count = cloud_of(tmp_path, min_confidence=0.3)
    assert len(points) == 36 * 79
    assert set(np.unique(points[:, 2])) == {5.0, 20.0}
    assert (count.known, count.unsure, count.at_edges) == (48 * 80, 12 * 80, 36)
    assert '26% of the depth removed: 25% uncertain, 1% at edges' in str(count)


def test_all_points_keeps_everything(tmp_path):
    points, count = cloud_of(tmp_path, min_confidence=0.3, all_points=True)
    assert len(points) == 48 * 80
    assert str(count) == '3,840 points'


def test_a_network_is_held_to_a_confidence_that_a_classical_method_does_not_have(tmp_path):
    points, _ = cloud_of(tmp_path)
    assert len(points) == 48 * 79
    completer = FrameCompleter({'model': 'light', 'device': 'cpu'}, None, all_points=False)
    paths = Paths(tmp_path / 'd.png', cloud=tmp_path / 'c.ply')
    count = completer.files(paths, *dense())[1]
    assert count.unsure == 12 * 80


def test_a_cloud_that_would_be_empty_is_an_error_that_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match='--all-points'):
        cloud_of(tmp_path, min_confidence=0.95)


def test_one_image_gives_confidence_preview_and_cloud(scene):
    output = complete_one(
        scene, '--extrinsics', scene / 'T.txt', '--confidence', scene / 'c.png',
        '--preview', scene / 'p.png', '--cloud', scene / 'd.pcd',
    )  # fmt: skip
    assert f'{WIDTH * HEIGHT:,} points' in output
    confidence = cv2.imread(str(scene / 'c.png'), cv2.IMREAD_UNCHANGED)
    assert confidence.shape == (HEIGHT, WIDTH)
    assert confidence.dtype == np.uint8
    assert set(np.unique(confidence)) == {0, 255}
    assert cv2.imread(str(scene / 'p.png')).shape[1] > 1900
    assert len(read_cloud(scene / 'd.pcd')) == WIDTH * HEIGHT


def test_min_confidence_writes_what_is_less_sure_as_unknown(tmp_path):
    complete_frames(make_frames(tmp_path), '--min-confidence', '0.5')
    depth, sparse = (read_depth_png(tmp_path / f / 'a.png') for f in ('out', 'sparse'))
    np.testing.assert_array_equal(depth, sparse)


def test_files_of_one_name_are_refused(scene):
    output = complete_one(
        scene, '--extrinsics', scene / 'T.txt', '--preview', scene / 'depth.png', exit_code=1
    )
    assert 'different file names' in output
    assert not (scene / 'depth.png').exists()


def test_frames_and_drives_give_them_in_folders(tmp_path):
    complete_frames(make_frames(tmp_path), '--confidence', '--preview', '--cloud', 'ply')
    for folder, suffix in (('confidence', 'png'), ('preview', 'png'), ('cloud', 'ply')):
        assert names_of(tmp_path / 'out' / folder) == [f'{name}.{suffix}' for name in 'abc']
    drive = make_drive_before_wall(tmp_path)
    out = tmp_path / 'of_drive'
    output = invoke('complete', 'kitti', drive, out, '--model', 'nearest', '--cloud', 'pcd')
    assert f'clouds: {3 * WIDTH * HEIGHT:,} points' in output
    assert names_of(out / 'cloud') == [f'{index:010d}.pcd' for index in range(3)]


def test_resume_completes_frames_that_lack_one_of_the_files(tmp_path):
    complete_frames(make_frames(tmp_path))
    output = complete_frames(tmp_path, '--preview', '--resume')
    assert '3 frames' in output
    assert '3 skipped' in complete_frames(tmp_path, '--preview', '--resume')


def test_a_format_of_clouds_that_nobody_writes_is_named_before_anything_is(tmp_path):
    output = complete_frames(make_frames(tmp_path), '--cloud', 'las', exit_code=1)
    assert "--cloud: expected ply or pcd, got 'las'" in output
    assert not (tmp_path / 'out').exists()
