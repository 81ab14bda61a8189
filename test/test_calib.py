"""Calibrations of other programs: KITTI's files, calib.json, the parameters of a node."""

import json

import numpy as np
import pytest
import yaml
from bag_data import CAMERA, T_CAMERA_LIDAR, decoded, write_bag
from commands import complete, invoke
from test_cli import complete_one
from test_cli import scene as scene

from dmd3c_ros.core.projection import project_points
from dmd3c_ros.core.transforms import quaternion_from_rotation, rotation_from_euler, transform
from dmd3c_ros.io.calibration import read_camera, read_distortion, read_extrinsics
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.io.images import write_rgb
from dmd3c_ros.io.kitti_calibration import read_rigid_transform, rectified_camera
from dmd3c_ros.messages.images import depth_from_image

pytestmark = pytest.mark.usefixtures('wide_terminal')

SIZE = (40, 24)
R_RECT = rotation_from_euler(0.02, -0.01, 0.015)
P2 = np.array([[30, 0, 20, 3.0], [0, 30, 12, 0.1], [0, 0, 1, 0.002]])
T_CAMERA0_LIDAR = T_CAMERA_LIDAR @ transform(rotation_from_euler(0.01, 0.02, 0.0), [0.1, 0.2, 0.3])
POINTS = np.random.default_rng(0).uniform((4, -2, -1), (9, 2, 1), (50, 3)).astype(np.float32)
LENS = {
    'camera_model': 'plumb_bob',
    'intrinsics': [30, 30, 20, 12],
    'distortion_coeffs': [0.0] * 5,
}


def row(values: np.ndarray) -> str:
    return ' '.join(f'{value:.12e}' for value in np.ravel(values))


def write_raw(folder) -> None:
    (folder / 'calib_cam_to_cam.txt').write_text(
        'calib_time: 09-Jan-2012 13:57:47\n'
        f'S_rect_02: {SIZE[0]:.6e} {SIZE[1]:.6e}\nR_rect_00: {row(R_RECT)}\nP_rect_02: {row(P2)}\n'
    )
    (folder / 'calib_velo_to_cam.txt').write_text(
        f'R: {row(T_CAMERA0_LIDAR[:3, :3])}\nT: {row(T_CAMERA0_LIDAR[:3, 3])}\n'
    )


def write_benchmark(path, *, rotation: str = 'R0_rect:', sweep: str = 'Tr_velo_to_cam:') -> None:
    T = T_CAMERA0_LIDAR
    if not rotation:
        T = transform(R_RECT, [0, 0, 0]) @ T
    lines = [f'P{number}: {row(P2)}' for number in range(4)]
    lines += [f'{rotation} {row(R_RECT)}'] if rotation else []
    path.write_text('\n'.join([*lines, f'{sweep} {row(T[:3])}', '']))


def write_vlcal(path, T_camera_lidar=T_CAMERA_LIDAR, lens=None, **results) -> None:
    T = np.linalg.inv(T_camera_lidar)
    pose = [*T[:3, 3], *quaternion_from_rotation(T[:3, :3])]
    content = {
        'camera': LENS if lens is None else lens,
        'meta': {'bag_names': ['drive_0'], 'image_topic': '/camera/image_raw'},
        'results': results or {'T_lidar_camera': pose, 'init_T_lidar_camera': [0.0] * 6 + [1.0]},
    }
    path.write_text(json.dumps(content))


def expected(folder) -> np.ndarray:
    """Where the files of a raw drive say that the points are seen."""
    camera = rectified_camera(folder / 'calib_cam_to_cam.txt', 'image_02')
    T = read_rigid_transform(folder / 'calib_velo_to_cam.txt')
    return project_points(POINTS, T, camera)


def seen(intrinsics, extrinsics) -> np.ndarray:
    camera, T = read_camera(intrinsics, *SIZE), read_extrinsics(extrinsics)
    return project_points(POINTS, T, camera)


def test_the_files_of_a_raw_drive_have_rectification_and_offset_in_them(tmp_path):
    write_raw(tmp_path)
    files = tmp_path / 'calib_cam_to_cam.txt', tmp_path / 'calib_velo_to_cam.txt'
    found, wanted = seen(*files), expected(tmp_path)
    assert (wanted > 0).sum() > 20
    np.testing.assert_array_equal(found > 0, wanted > 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # With K alone instead of the file, too: the extrinsics end in the camera's own frame.
    np.savetxt(tmp_path / 'K.txt', P2[:, :3])
    np.testing.assert_allclose(seen(tmp_path / 'K.txt', files[1]), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ('rotation', 'sweep'),
    [('R0_rect:', 'Tr_velo_to_cam:'), ('R_rect', 'Tr_velo_cam'), ('', 'Tr:')],
    ids=['object', 'tracking', 'odometry'],
)
def test_the_single_file_of_a_benchmark_says_the_same(tmp_path, rotation, sweep):
    write_raw(tmp_path)
    write_benchmark(tmp_path / 'calib.txt', rotation=rotation, sweep=sweep)
    found = seen(tmp_path / 'calib.txt', tmp_path / 'calib.txt')
    np.testing.assert_allclose(found, expected(tmp_path), rtol=1e-5)


def test_what_a_file_of_kitti_lacks_is_named(tmp_path):
    write_raw(tmp_path)
    cameras, sweeps = (tmp_path / f'calib_{n}_to_cam.txt' for n in ('cam', 'velo'))
    with pytest.raises(ValueError, match='expected 2 numbers for S_rect_03, got no such entry'):
        read_camera(cameras, *SIZE, 'image_03')
    with pytest.raises(ValueError, match='calibrated for 40x24, the image has 80x24'):
        read_camera(cameras, 80, 24)
    with pytest.raises(ValueError, match='has no camera'):
        read_camera(sweeps, *SIZE)
    with pytest.raises(ValueError, match='has no LiDAR extrinsics'):
        read_extrinsics(cameras)
    cameras.unlink()
    with pytest.raises(FileNotFoundError, match=r'calib_cam_to_cam.txt: expected next to'):
        read_extrinsics(sweeps)


def test_calib_json_is_the_inverse_transform_and_the_raw_lens(tmp_path):
    path = tmp_path / 'calib.json'
    write_vlcal(path, lens=LENS | {'distortion_coeffs': [0.1, -0.2, 0.001, 0.002]})
    np.testing.assert_allclose(read_extrinsics(path), T_CAMERA_LIDAR, atol=1e-12)
    assert read_distortion(path).D == (0.1, -0.2, 0.001, 0.002, 0.0)
    np.testing.assert_allclose(read_camera(path, *SIZE).K, CAMERA.K)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'init_T_lidar_camera': [0] * 7}, 'only has the initial guess init_T_lidar_camera'),
        ({'T_lidar_camera': [0] * 6}, 'expected 7 numbers, got 6'),
        ({'T_lidar_camera': [0] * 7}, 'quaternion'),
        ({'T_lidar_camera': [float('nan')] * 7}, 'finite'),
    ],
)
def test_calib_json_that_is_not_finished_is_refused(tmp_path, change, reason):
    write_vlcal(tmp_path / 'calib.json', **change)
    with pytest.raises(ValueError, match=reason):
        read_extrinsics(tmp_path / 'calib.json')


def test_a_camera_that_is_no_pinhole_is_refused(tmp_path):
    write_vlcal(tmp_path / 'calib.json', lens=LENS | {'camera_model': 'equirectangular'})
    with pytest.raises(ValueError, match=r"camera_model: expected one of .*got 'equirectangular'"):
        read_camera(tmp_path / 'calib.json', *SIZE)
    (tmp_path / 'other.json').write_text('{"a": 1}')
    with pytest.raises(ValueError, match="with 'camera' in it"):
        read_camera(tmp_path / 'other.json', *SIZE)


@pytest.mark.parametrize('kind', ['7 numbers', '16 numbers'])
def test_the_parameters_of_a_node_are_extrinsics(tmp_path, kind):
    T = T_CAMERA0_LIDAR
    pose = [*T[:3, 3].tolist(), *quaternion_from_rotation(T[:3, :3]).tolist()]
    numbers = pose if kind == '7 numbers' else T.ravel().tolist()
    content = {'/**/completion_node': {'ros__parameters': {'T_camera_lidar': numbers}}}
    (tmp_path / 'node.yaml').write_text(yaml.safe_dump(content))
    np.testing.assert_allclose(read_extrinsics(tmp_path / 'node.yaml'), T, atol=1e-9)
    content['/rear/completion_node'] = content['/**/completion_node']
    (tmp_path / 'node.yaml').write_text(yaml.safe_dump(content, default_flow_style=None))
    with pytest.raises(ValueError, match='of 2 nodes'):
        read_extrinsics(tmp_path / 'node.yaml')


def test_an_image_is_completed_with_calib_json(scene):
    T = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0.5], [0, 0, 0, 1.0]])
    write_vlcal(scene / 'calib.json', T)
    options = ('--intrinsics', scene / 'calib.json', '--extrinsics', scene / 'calib.json')
    assert 'add --rectify' not in complete_one(scene, *options)
    assert (read_depth_png(scene / 'depth.png') == 6.5).all()
    write_vlcal(scene / 'calib.json', T, lens=LENS | {'distortion_coeffs': [0.05, 0, 0, 0, 0]})
    assert 'if it is raw, add --rectify' in complete_one(scene, *options)
    assert 'add --rectify' not in complete_one(scene, *options, '--rectify')


def test_a_bag_is_completed_with_calib_json(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    write_vlcal(tmp_path / 'calib.json')
    file = tmp_path / 'calib.json'
    complete(bag, tmp_path / 'a')
    complete(bag, tmp_path / 'b', '--camera-info', file, '--extrinsics', file)
    depths = [
        depth_from_image(decoded(tmp_path / name, '/depth_registered/image_rect')[0])
        for name in 'ab'
    ]
    np.testing.assert_array_equal(*depths)
    assert depths[0].any()


# --- calib convert ---------------------------------------------------------------------------


def test_a_converted_drive_sees_the_same(tmp_path):
    write_raw(tmp_path)
    (tmp_path / 'drive_sync').mkdir()
    for number, source in enumerate((tmp_path, tmp_path / 'drive_sync')):
        out = tmp_path / f'out{number}'
        assert 'static_transform_publisher' in invoke('calib', 'convert', source, out)
        for extrinsics in ('extrinsics.yaml', 'node.yaml'):
            found = seen(out / 'camera.yaml', out / extrinsics)
            np.testing.assert_allclose(found, expected(tmp_path), rtol=1e-5)
    assert 'rectify' not in (out / 'node.yaml').read_text()


def test_a_converted_calib_json_rectifies_in_the_node(tmp_path):
    lens = LENS | {'distortion_coeffs': [0.1, -0.2, 0.001, 0.002, 0.0]}
    write_vlcal(tmp_path / 'calib.json', lens=lens)
    output = invoke('calib', 'convert', tmp_path / 'calib.json', tmp_path / 'out', exit_code=1)
    assert 'expected the image size, found none; give an image with --image FILE' in output
    # What the program itself leaves beside it.
    write_rgb(tmp_path / 'drive_0.png', np.zeros((*SIZE[::-1], 3), np.uint8))
    invoke('calib', 'convert', tmp_path, '--out', tmp_path / 'out')
    parameters = yaml.safe_load((tmp_path / 'out/node.yaml').read_text())
    values = parameters['/**/completion_node']['ros__parameters']
    assert values['rectify'] is True
    assert all(isinstance(value, float) for value in values['T_camera_lidar'])
    assert read_distortion(tmp_path / 'out/camera.yaml').D == (0.1, -0.2, 0.001, 0.002, 0.0)
    np.testing.assert_allclose(read_camera(tmp_path / 'out/camera.yaml', *SIZE).K, CAMERA.K)


def test_a_camera_alone_is_converted_and_the_missing_lidar_named(tmp_path):
    np.savetxt(tmp_path / 'K.txt', CAMERA.K)
    write_rgb(tmp_path / 'a.png', np.zeros((*SIZE[::-1], 3), np.uint8))
    output = invoke(
        'calib', 'convert', tmp_path / 'K.txt', tmp_path / 'out', '--image', tmp_path / 'a.png'
    )
    assert 'add them with --extrinsics FILE' in output
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['camera.yaml']
    output = invoke('calib', 'convert', tmp_path / 'out', tmp_path / 'x', exit_code=1)
    assert 'expected calib_cam_to_cam.txt or calib.json in it' in output
