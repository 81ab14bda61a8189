"""The `dmd3c` command on small folders, with a classical model so that it needs no weights."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from synthetic_drive import HEIGHT, WIDTH, make_drive

from dmd3c_ros.io.clouds import read_cloud
from dmd3c_ros.io.depth_png import read_depth_png, write_depth_png
from dmd3c_ros.io.images import write_rgb

K = np.array([[30, 0, 20], [0, 30, 12], [0, 0, 1.0]])

pytestmark = pytest.mark.usefixtures('wide_terminal')


def make_frames(root: Path, names: tuple[str, ...] = ('a', 'b', 'c')) -> Path:
    """Folders image/ and sparse/ with a flat wall at 8 m, and K.txt."""
    for name in names:
        sparse = np.zeros((HEIGHT, WIDTH), np.float32)
        sparse[::4, ::5] = 8.0
        write_depth_png(root / 'sparse' / f'{name}.png', sparse)
        write_rgb(root / 'image' / f'{name}.png', np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    np.savetxt(root / 'K.txt', K)
    return root


def complete_frames(root: Path, *options: object, exit_code: int = 0) -> str:
    return invoke(
        'complete', 'frames', '--images', root / 'image', '--sparse', root / 'sparse',
        '--intrinsics', root / 'K.txt', '--out', root / 'out', '--model', 'nearest', *options,
        exit_code=exit_code,
    )  # fmt: skip


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_help_loads_nothing_heavy():
    code = (
        'import sys\nfrom dmd3c_ros.cli.app import app\n'
        'try:\n    app(["complete", "frames", "--help"])\n'
        'except SystemExit as end:\n    assert end.code == 0\n'
        'heavy = {"torch", "open3d", "cv2", "rclpy", "scipy"} & sys.modules.keys()\n'
        'assert not heavy, heavy\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '--intrinsics' in done.stdout


def test_every_shared_option_belongs_to_the_topics_or_to_one_dataclass_of_settings():
    from dataclasses import fields

    from dmd3c_ros.bags.frames import Rig
    from dmd3c_ros.cli.options import BAG, TOPICS
    from dmd3c_ros.core.config import CompleterConfig
    from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings

    homes = (Rig, NodeSettings, MotionSettings, CompleterConfig)
    names = [item.name for home in homes for item in fields(home)] + list(TOPICS)
    assert {name: names.count(name) for name in BAG} == dict.fromkeys(BAG, 1)


def test_version_is_that_of_the_package():
    from importlib.metadata import PackageNotFoundError, version

    try:
        expected = version('dmd3c_ros')
    except PackageNotFoundError:
        pytest.skip('the package is not installed')
    assert invoke('--version').strip() == f'dmd3c {expected}'


# --- complete frames -------------------------------------------------------------------------


def test_frames_keep_names_size_and_depth(tmp_path):
    root = make_frames(tmp_path)
    complete_frames(root)
    assert names_of(root / 'out') == ['a.png', 'b.png', 'c.png']
    np.testing.assert_array_equal(read_depth_png(root / 'out/a.png'), np.full((HEIGHT, WIDTH), 8))


def test_depth_scale_changes_the_unit_of_the_output(tmp_path):
    root = make_frames(tmp_path)
    complete_frames(root, '--depth-scale', 1000)
    assert (read_depth_png(root / 'out/a.png', scale=1000) == 8).all()


def test_bad_files_are_named_and_the_others_completed(tmp_path):
    root = make_frames(tmp_path, ('good', 'torn', 'lonely', 'small'))
    (root / 'image/torn.png').write_bytes(b'torn')
    (root / 'sparse/lonely.png').unlink()
    write_depth_png(root / 'sparse/small.png', np.ones((4, 4), np.float32))
    output = complete_frames(root, exit_code=1)
    assert names_of(root / 'out') == ['good.png']
    assert 'failed torn.png' in output
    assert 'failed lonely.png: no sparse depth with this name' in output
    assert 'failed small.png' in output
    assert f'expected {WIDTH}x{HEIGHT} as small.png, got 4x4' in output
    assert '3 frames failed' in output


def test_resume_leaves_existing_outputs_alone(tmp_path):
    root = make_frames(tmp_path)
    complete_frames(root)
    write_depth_png(root / 'out/a.png', np.ones((2, 2), np.float32))
    (root / 'out/b.png').unlink()
    output = complete_frames(root, '--resume')
    assert read_depth_png(root / 'out/a.png').shape == (2, 2)
    assert read_depth_png(root / 'out/b.png').shape == (HEIGHT, WIDTH)
    assert '1 frames' in output
    assert '2 skipped' in output


def test_layout_of_the_kitti_depth_selection(tmp_path):
    root = make_frames(tmp_path, ('x',))
    name = '2011_09_26_drive_0002_sync_{}_0000000005_image_02'
    (root / 'image/x.png').rename(root / 'image' / f'{name.format("image")}.png')
    (root / 'sparse/x.png').rename(root / 'sparse' / f'{name.format("velodyne_raw")}.png')
    (root / 'K').mkdir()
    np.savetxt(root / 'K' / f'{name.format("image")}.txt', K.reshape(1, 9))
    complete_frames(root, '--intrinsics', root / 'K')
    assert names_of(root / 'out') == [f'{name.format("image")}.png']


def test_frame_without_intrinsics_in_the_folder_is_named(tmp_path):
    root = make_frames(tmp_path, ('a', 'b'))
    (root / 'K').mkdir()
    shutil.copy(root / 'K.txt', root / 'K/a.txt')
    output = complete_frames(root, '--intrinsics', root / 'K', exit_code=1)
    assert 'failed b.png: no intrinsics with this name' in output
    assert names_of(root / 'out') == ['a.png']


@pytest.mark.parametrize('text', ['1 2 3', 'one two', '0 0 0 0 0 0 0 0 0'])
def test_bad_intrinsics_stop_before_anything_is_written(tmp_path, text):
    root = make_frames(tmp_path)
    (root / 'K.txt').write_text(text)
    assert 'K.txt' in complete_frames(root, exit_code=1)
    assert not (root / 'out').exists()


def test_unknown_model_and_missing_weights_are_named(tmp_path):
    root = make_frames(tmp_path)
    assert 'no_such_model' in complete_frames(root, '--model', 'no_such_model', exit_code=1)
    output = complete_frames(root, '--model', 'light', '--weights', 'gone.pth', exit_code=1)
    assert 'gone.pth' in output


def test_missing_folder_is_named(tmp_path):
    root = make_frames(tmp_path)
    output = complete_frames(root, '--images', root / 'nowhere', exit_code=1)
    assert 'nowhere: expected a folder' in output


# --- complete kitti --------------------------------------------------------------------------


def make_drive_before_wall(root: Path) -> Path:
    """A drive whose sweeps see a wall 10 m ahead, as wide as the image."""
    drive = make_drive(root)
    y, z = np.meshgrid(np.linspace(-5, 5, 40), np.linspace(-3, 3, 20))
    wall = np.stack([np.full(y.shape, 10.0), y, z, np.zeros(y.shape)], -1).reshape(-1, 4)
    for path in (drive / 'velodyne_points/data').iterdir():
        wall.astype(np.float32).tofile(path)
    return drive


def test_kitti_drive_is_completed_whole(tmp_path):
    drive = make_drive_before_wall(tmp_path)
    invoke('complete', 'kitti', drive, '--out', tmp_path / 'out', '--model', 'nearest')
    assert names_of(tmp_path / 'out') == [f'{index:010d}.png' for index in range(3)]
    depth = read_depth_png(tmp_path / 'out/0000000000.png')
    np.testing.assert_allclose(depth, np.full((HEIGHT, WIDTH), 10.303), atol=1 / 256)


def test_broken_kitti_sweep_is_named_and_the_rest_goes_on(tmp_path):
    drive = make_drive_before_wall(tmp_path)
    (drive / 'velodyne_points/data/0000000001.bin').write_bytes(b'123')
    output = invoke(
        'complete', 'kitti', drive, '--out', tmp_path / 'out', '--model', 'nearest', exit_code=1
    )
    assert '0000000001.bin: expected 4 float32 a point' in output
    assert names_of(tmp_path / 'out') == ['0000000000.png', '0000000002.png']


def test_folder_that_is_no_drive_is_named(tmp_path):
    output = invoke('complete', 'kitti', tmp_path, '--out', tmp_path / 'out', exit_code=1)
    assert 'image_02/data: expected the folder of a KITTI raw drive' in output


def test_real_drive_is_completed(kitti_drive, tmp_path):
    invoke('complete', 'kitti', kitti_drive, '--out', tmp_path / 'out', '--model', 'nearest')
    assert len(names_of(tmp_path / 'out')) == 24
    depth = read_depth_png(tmp_path / 'out/0000000000.png')
    assert depth.shape == (375, 1242)
    assert 5 < np.median(depth) < 40


# --- complete one ----------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path) -> Path:
    """An image, a wall 6 m ahead in the LiDAR's frame (x forward) and its calibration."""
    write_rgb(tmp_path / 'image.png', np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    y, z = np.meshgrid(np.linspace(-3, 3, 30), np.linspace(-2, 2, 20))
    np.save(tmp_path / 'cloud.npy', np.stack([np.full(y.shape, 6.0), y, z], -1).reshape(-1, 3))
    np.savetxt(tmp_path / 'K.txt', K)
    T = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0.5], [0, 0, 0, 1]])
    np.savetxt(tmp_path / 'T.txt', T)
    return tmp_path


def complete_one(root: Path, *options: object, exit_code: int = 0) -> str:
    return invoke(
        'complete', 'one', root / 'image.png', root / 'cloud.npy', '--intrinsics',
        root / 'K.txt', '--out', root / 'depth.png', '--model', 'nearest', *options,
        exit_code=exit_code,
    )  # fmt: skip


def test_single_image_with_extrinsics_as_text(scene):
    complete_one(scene, '--extrinsics', scene / 'T.txt', '--cloud', scene / 'dense.ply')
    assert (read_depth_png(scene / 'depth.png') == 6.5).all()
    points = read_cloud(scene / 'dense.ply')
    assert points.shape == (HEIGHT * WIDTH, 3)
    np.testing.assert_allclose(points[:, 2], 6.5)


def test_single_image_with_ros_calibration_and_pose_as_yaml(scene):
    P = [30.0, 0, 20, 0, 0, 30, 12, 0, 0, 0, 1, 0]
    (scene / 'camera.yaml').write_text(
        f'image_width: {WIDTH}\nimage_height: {HEIGHT}\ncamera_name: front\n'
        f'rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}\n'
        f'projection_matrix: {{rows: 3, cols: 4, data: {P}}}\n'
    )
    (scene / 'pose.yaml').write_text('translation: [0, 0, 0.5]\nrotation: [0.5, -0.5, 0.5, 0.5]\n')
    complete_one(scene, '--intrinsics', scene / 'camera.yaml', '--extrinsics', scene / 'pose.yaml')
    assert (read_depth_png(scene / 'depth.png') == 6.5).all()


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('T.yaml', 'translation: [0, 0, 0]\nrotaton: [0, 0, 0, 1]\n', "unknown entries 'rotaton'"),
        ('T.yaml', 'translation: [0, 0]\nrotation: [0, 0, 0, 1]\n', 'translation: expected 3'),
        ('T.yaml', 'rotation: [0, 0, 0, 2]\n', 'unit quaternion'),
        ('T.yaml', ': [', 'T.yaml'),
        ('T.txt', '1 2 3', 'expected 16 or 12'),
        ('T.txt', ' '.join(['1'] * 16), 'expected a rotation'),
    ],
)
def test_bad_extrinsics_are_named_with_the_reason(scene, name, text, expected):
    (scene / name).write_text(text)
    output = complete_one(scene, '--extrinsics', scene / name, exit_code=1)
    assert name in output
    assert expected in output
    assert not (scene / 'depth.png').exists()


def test_a_file_that_is_not_there_is_named_first(scene):
    output = complete_one(scene, '--extrinsics', scene / 'absent.txt', exit_code=1)
    assert f'error: {scene / "absent.txt"}: No such file or directory' in output


def test_points_outside_the_image_are_refused_with_a_hint(scene):
    # Without extrinsics, x counts as right and the wall lies beside the camera.
    assert 'check the intrinsics and --extrinsics' in complete_one(scene, exit_code=1)


def test_calibration_for_another_image_size_is_refused(scene):
    (scene / 'camera.yaml').write_text('image_width: 640\nimage_height: 480\n')
    output = complete_one(scene, '--intrinsics', scene / 'camera.yaml', exit_code=1)
    assert 'calibrated for 640x480' in output


def write_bin(path: Path, *columns: float) -> np.ndarray:
    """The wall in the LiDAR's frame with further columns, as a .bin file; its points (N, 3)."""
    y, z = np.meshgrid(np.linspace(-3, 3, 32), np.linspace(-2, 2, 20))
    points = np.stack([np.full(y.shape, 6.0), y, z], -1).reshape(-1, 3).astype(np.float32)
    more = np.tile(np.array(columns, np.float32), (len(points), 1))
    np.hstack([points, more]).tofile(path)
    return points


def complete_bin(root: Path, name: str, *options: object, exit_code: int = 0) -> str:
    return invoke(
        'complete', 'one', root / 'image.png', root / name, '--intrinsics', root / 'K.txt',
        '--extrinsics', root / 'T.txt', '--out', root / 'depth.png', '--model', 'nearest',
        *options, exit_code=exit_code,
    )  # fmt: skip


@pytest.mark.parametrize('name', ['sweep.pcd.bin', 'sweep.bin'])
def test_sweep_of_nuscenes_is_read_as_such(scene, name):
    # Of a size that KITTI's four numbers would fit too.
    write_bin(scene / name, 40, 3)
    complete_bin(scene, name)
    assert (read_depth_png(scene / 'depth.png') == 6.5).all()


def test_numbers_of_another_layout_are_refused_until_they_are_named(scene):
    write_bin(scene / 'sweep.bin', 40, 3, -1)
    output = complete_bin(scene, 'sweep.bin', exit_code=1)
    assert 'sweep.bin' in output and 'negative' in output
    assert not (scene / 'depth.png').exists()
    complete_bin(scene, 'sweep.bin', '--point-fields', 'x, y, z, intensity, ring, time')
    assert (read_depth_png(scene / 'depth.png') == 6.5).all()
    assert 'each once' in complete_bin(scene, 'sweep.bin', '--point-fields', 'x,y', exit_code=1)
    output = complete_bin(scene, 'cloud.npy', '--point-fields', 'x,y,z', exit_code=1)
    assert 'already names its fields' in output


def test_an_empty_sweep_is_called_empty(scene):
    (scene / 'cloud.bin').write_bytes(b'')
    output = invoke(
        'complete', 'one', scene / 'image.png', scene / 'cloud.bin', scene / 'depth.png',
        '--intrinsics', scene / 'K.txt', '--model', 'nearest', exit_code=1,
    )  # fmt: skip
    assert 'cloud.bin: expected points, got an empty cloud' in output


def test_random_bytes_and_millimetres_are_no_sweep(scene):
    rng = np.random.default_rng(0)
    (scene / 'noise.bin').write_bytes(rng.bytes(16 * 1000))
    assert 'noise.bin' in complete_bin(scene, 'noise.bin', exit_code=1)
    np.save(scene / 'mm.npy', 1000 * write_bin(scene / 'm.bin', 0))
    assert 'more than 1000 m' in complete_bin(scene, 'mm.npy', exit_code=1)
    np.save(scene / 'empty.npy', np.zeros((0, 3), np.float32))
    assert 'got an empty cloud' in complete_bin(scene, 'empty.npy', exit_code=1)


def test_a_frame_without_a_measurement_fails(tmp_path):
    root = make_frames(tmp_path, ('a', 'empty'))
    write_depth_png(root / 'sparse/empty.png', np.zeros((HEIGHT, WIDTH), np.float32))
    output = complete_frames(root, exit_code=1)
    assert 'failed empty.png: expected measured depth' in output
    assert names_of(root / 'out') == ['a.png']
    drive = make_drive(tmp_path)
    output = invoke('complete', 'kitti', drive, '--out', tmp_path / 'kitti', exit_code=1)
    assert '3 frames failed' in output and not names_of(tmp_path / 'kitti')


def test_weights_that_are_not_finite_are_refused(tmp_path):
    import torch
    from light_weights import save_light

    root = make_frames(tmp_path, ('a',))
    weights = save_light(tmp_path / 'light.pth', seed=0)
    state = torch.load(weights)['net']
    broken = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[broken].view(-1)[0] = float('nan')
    torch.save(state, weights)
    output = complete_frames(root, '--model', 'light', '--weights', weights, exit_code=1)
    assert f'1 tensors hold others: {broken}' in output
    assert not (root / 'out/a.png').exists()


def test_the_clouds_format_is_that_of_its_name(scene):
    for name in ('dense.pcd', 'dense.ply'):
        complete_one(scene, '--extrinsics', scene / 'T.txt', '--cloud', scene / name)
        assert (scene / name).read_bytes().startswith(b'VERSION' if 'pcd' in name else b'ply')
        np.testing.assert_allclose(read_cloud(scene / name)[:, 2], 6.5)
    (scene / 'depth.png').unlink()
    options = ('--extrinsics', scene / 'T.txt', '--cloud', scene / 'dense.xyz')
    assert 'dense.xyz: expected a cloud' in complete_one(scene, *options, exit_code=1)
    assert not (scene / 'depth.png').exists()


def test_a_full_disk_leaves_neither_depth_nor_cloud(scene):
    # The depth image fits, the cloud does not.
    code = (
        'import resource, sys\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n'
        'from dmd3c_ros.cli import main\nmain()\n'
    )
    arguments = [
        'complete', 'one', scene / 'image.png', scene / 'cloud.npy', '--intrinsics',
        scene / 'K.txt', '--extrinsics', scene / 'T.txt', '--out', scene / 'out/depth.png',
        '--cloud', scene / 'out/dense.ply', '--model', 'nearest',
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert 'dense.ply' in done.stderr and 'Traceback' not in done.stderr
    assert not list((scene / 'out').iterdir())


def test_output_that_cannot_be_written_is_found_out_first(scene):
    root = make_frames(scene, ('a',))
    (root / 'file').write_text('')
    # With weights that are missing, as proof that nothing was loaded yet.
    absent = ('--model', 'light', '--weights', 'absent.pth')
    for out in (root / 'file', root / 'file/below'):
        output = complete_frames(root, '--out', out, *absent, exit_code=1)
        assert 'file' in output and 'absent' not in output
        options = ('--extrinsics', scene / 'T.txt', '--out', out / 'depth.png', *absent)
        output = complete_one(scene, *options, exit_code=1)
        assert 'file' in output and 'absent' not in output


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('30 0 inf 0 30 12 0 0 1', 'expected finite numbers, got inf among them'),
        ('nan 0 20 0 30 12 0 0 1', 'expected finite numbers, got nan among them'),
        ('30 0 1e12 0 30 12 0 0 1', 'expected numbers of pixels in P, got cx=1e+12'),
        ('0 0 20 0 30 12 0 0 1', 'expected positive focal lengths'),
    ],
)
def test_what_is_wrong_with_intrinsics_is_named(scene, text, expected):
    (scene / 'K.txt').write_text(text)
    assert expected in complete_one(scene, '--extrinsics', scene / 'T.txt', exit_code=1)


def test_output_of_commands_that_take_long_is_checked_first(tmp_path):
    (tmp_path / 'file').touch()
    below = tmp_path / 'file' / 'below'
    for arguments in (
        ('bench', 'odometry', '--out', below, '--model', 'absent'),
        ('export', 'onnx', below / 'light.onnx', '--weights', 'absent.pth'),
    ):
        text = invoke(*arguments, exit_code=1)
        assert 'file' in text and 'absent' not in text


def test_help_keeps_what_stands_in_brackets():
    assert "'dmd3c_ros[view]'" in invoke('view', '--help')
    assert "'dmd3c_ros[simulation,slam]'" in invoke('bench', 'odometry', '--help')


def test_libraries_do_not_fill_the_screen():
    import logging

    for options, expected in (((), False), (('--verbose',), True)):
        invoke(*options, 'weights', 'list')
        assert logging.getLogger('onnxscript.optimizer').isEnabledFor(logging.INFO) is expected
        assert logging.getLogger('dmd3c_ros.core.completer').isEnabledFor(logging.INFO)
