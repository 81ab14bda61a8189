"""RGB-D odometry with raw and completed depth, and its errors, on a wall with exact poses."""

import json

import cv2
import numpy as np
import pytest
from bag_data import wall
from synthetic_drive import make_drive
from typer.testing import CliRunner

from dmd3c_ros.benchmarks.odometry import RAW, compare
from dmd3c_ros.cli.app import app
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.transforms import rotation_from_euler, transform
from dmd3c_ros.datasets.drives import DriveFrame, SimulatedDrive
from dmd3c_ros.io.images import write_rgb
from dmd3c_ros.slam import trajectories
from dmd3c_ros.slam.odometry import OdometrySettings, RgbdOdometry
from dmd3c_ros.slam.reference import Reference

WIDTH, HEIGHT = 160, 120
CAMERA = Camera.from_K(np.array([[150, 0, 79.5], [0, 150, 59.5], [0, 0, 1.0]]), WIDTH, HEIGHT)
# The wall n . X = d, in the first camera's frame: 4 m ahead, aslant.
NORMAL, DISTANCE = np.array([0.25, -0.15, 1.0]) / np.linalg.norm([0.25, -0.15, 1.0]), 4.0
MOTION = transform(rotation_from_euler(0.002, -0.004, 0.003), [0.03, -0.01, 0.05])


def paint() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (60, 60, 3), np.uint8)
    return cv2.resize(coarse, (600, 600), interpolation=cv2.INTER_CUBIC)


def wall_frame(number: int, paint: np.ndarray) -> DriveFrame:
    """What a camera sees that has made MOTION `number` times; a point every third pixel."""
    pose = np.linalg.matrix_power(MOTION, number)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack(
        [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], -1
    )
    turned = rays @ pose[:3, :3].T
    depth = (DISTANCE - NORMAL @ pose[:3, 3]) / (turned @ NORMAL)
    points = turned * depth[..., None] + pose[:3, 3]
    xy = (points[..., :2] * 60 + 300).astype(np.float32)
    rgb = cv2.remap(paint, xy[..., 0], xy[..., 1], cv2.INTER_LINEAR)
    seen = (rays * depth[..., None])[1::3, 1::3].reshape(-1, 3).astype(np.float32)
    stamp_ns = number * 10**8
    return DriveFrame(stamp_ns, stamp_ns, rgb, seen, CAMERA, np.eye(4), T_world_camera=pose)


@pytest.fixture(scope='module')
def frames() -> list[DriveFrame]:
    colors = paint()
    return [wall_frame(number, colors) for number in range(4)]


@pytest.fixture(scope='module')
def comparison(frames):
    pytest.importorskip('evo')
    completers = {'interpolation': DepthCompleter(CompleterConfig(model='interpolation'))}
    return compare('a wall', frames, completers, OdometrySettings(method='hybrid'))


def test_a_frame_without_depth_is_counted_and_passed_by(frames):
    odometry = RgbdOdometry(CAMERA)
    odometry.motion = MOTION
    for frame in frames[:2]:
        odometry.add(frame.rgb, np.zeros((HEIGHT, WIDTH), np.float32))
    assert odometry.lost == 1
    np.testing.assert_allclose(odometry.poses[-1], MOTION)


def test_the_comparison_scores_each_depth_against_the_reference(comparison, frames):
    assert list(comparison.entries) == [RAW, 'interpolation']
    dense, raw = comparison.entries['interpolation'], comparison.entries[RAW]
    assert raw.known == pytest.approx(1 / 9, rel=0.1)
    assert dense.known == 1.0
    assert dense.lost == 0
    assert dense.error.ate_m < 0.02
    assert dense.error.rpe_m < 0.015
    assert dense.error.rpe_deg < 0.4
    found = dense.trajectory.poses_se3[-1]
    np.testing.assert_allclose(found, frames[-1].T_world_camera, atol=0.02)
    assert np.linalg.norm(found[:3, 3]) > 0.15
    assert comparison.reference_name == 'simulator'
    assert comparison.reference.path_length == pytest.approx(3 * np.linalg.norm(MOTION[:3, 3]))


def test_the_results_are_written_for_a_person_and_for_evo(comparison, tmp_path):
    from evo.tools.file_interface import read_tum_trajectory_file

    comparison.write(tmp_path)
    numbers = json.loads((tmp_path / 'odometry.json').read_text())
    assert numbers['frames'] == 4
    assert numbers['depth'][RAW]['lost'] == comparison.entries[RAW].lost
    written = read_tum_trajectory_file(tmp_path / 'interpolation.txt')
    estimate = comparison.entries['interpolation'].trajectory
    np.testing.assert_allclose(written.positions_xyz, estimate.positions_xyz, atol=1e-6)
    assert cv2.imread(str(tmp_path / 'trajectory.png')).shape[1] == 1100
    rows = comparison.table().splitlines()
    assert len(rows) == 4
    assert rows[3].startswith('| interpolation | 100.0% | 0.0')


def test_a_recorded_drive_is_compared_by_one_command(tmp_path):
    pytest.importorskip('evo')
    pytest.importorskip('kiss_icp')
    drive = make_drive(tmp_path, n_frames=3)
    rng = np.random.default_rng(2)
    for number in range(3):
        image = rng.integers(0, 255, (24, 40, 3), np.uint8)
        write_rgb(drive / f'image_02/data/{number:010d}.png', image)
        wall(6 - 0.1 * number).tofile(drive / f'velodyne_points/data/{number:010d}.bin')
    (drive.parent / 'calib_velo_to_cam.txt').write_text('R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n')
    options = ['--kitti', str(drive), '--model', 'nearest', '--out', str(tmp_path / 'out')]
    result = CliRunner().invoke(app, ['bench', 'odometry', *options])
    assert result.exit_code == 0, result.output
    assert '| nearest | 100.0% |' in result.output
    numbers = json.loads((tmp_path / 'out/odometry.json').read_text())
    assert numbers['reference'] == 'kiss-icp on the sweeps'
    assert list(numbers['depth']) == [RAW, 'nearest']
    assert (tmp_path / 'out/trajectory.png').is_file()


def test_errors_are_those_that_evo_defines():
    pytest.importorskip('evo')
    straight = [transform(np.eye(3), [0, 0, k]) for k in range(5)]
    drifting = [transform(np.eye(3), [0, 0, 1.1 * k]) for k in range(5)]
    stamps = [k * 10**8 for k in range(5)]
    error = trajectories.score(*(trajectories.trajectory(stamps, p) for p in (straight, drifting)))
    assert error.ate_m == pytest.approx(np.sqrt(np.mean([(0.1 * k) ** 2 for k in range(5)])))
    assert error.end_percent == pytest.approx(10)
    assert error.rpe_m == pytest.approx(0.1)
    assert error.rpe_deg == pytest.approx(0, abs=1e-6)


def test_a_drive_without_poses_is_tracked_by_its_sweeps():
    """A LiDAR in a room, 5 m above a corner; the camera sits beside it."""
    pytest.importorskip('kiss_icp')
    rng = np.random.default_rng(1)
    room = rng.uniform(-1, 1, (6000, 3)) * [20, 15, 4]
    side = rng.integers(0, 3, len(room))
    wall = np.sign(room[np.arange(len(room)), side]) * np.array([20, 15, 4])[side]
    room[np.arange(len(room)), side] = wall
    extrinsics = transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.1, -0.2, -0.3])
    reference, image = Reference(), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(4):
        T_world_lidar = transform(rotation_from_euler(0, 0, 0.01 * number), [0.5 * number, 0, 0])
        points = (room - T_world_lidar[:3, 3]) @ T_world_lidar[:3, :3]
        reference.add(DriveFrame(0, 0, image, points.astype(np.float32), CAMERA, extrinsics))
    expected = extrinsics @ T_world_lidar @ np.linalg.inv(extrinsics)
    np.testing.assert_allclose(reference.poses[-1], expected, atol=0.03)
    np.testing.assert_array_equal(reference.poses[0], np.eye(4))
    assert reference.name == 'kiss-icp on the sweeps'


def test_traffic_that_drives_along_does_not_pull_the_reference():
    pytest.importorskip('kiss_icp')
    rng = np.random.default_rng(2)
    walls = rng.uniform([-60, -12, 1], [90, 12, 8], (9000, 3))
    walls[:, 1] = np.where(walls[:, 1] > 0, 12, -12)
    gables = rng.uniform([-0.2, -12, 1], [0.2, 12, 8], (1500, 3)) + rng.integers(
        -6, 9, (1500, 1)
    ) * [10, 0, 0]
    gables = gables[np.abs(gables[:, 1]) > 9]
    cars = rng.uniform([-40, -8, -1.6], [40, 8, 0.2], (30000, 3))
    reference, image = Reference(), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(6):
        street = np.concatenate([walls, gables]) - [0.5 * number, 0, 0]
        points = np.concatenate([street, cars]).astype(np.float32)
        reference.add(DriveFrame(0, 0, image, points, CAMERA, np.eye(4)))
    np.testing.assert_allclose(reference.poses[-1][:3, 3], [2.5, 0, 0], atol=0.05)


def test_what_cannot_be_compared_is_refused(frames, tmp_path):
    with pytest.raises(ValueError, match='at least 3 frames, got 2'):
        compare('short', frames[:2], {})
    with pytest.raises(ValueError, match="hybrid, point_to_plane; got 'magic'"):
        OdometrySettings(method='magic')
    with pytest.raises(ValueError, match='max_depth'):
        OdometrySettings(max_depth=0)
    with pytest.raises(ValueError, match="got 'sonar'"):
        next(iter(SimulatedDrive(lidar='sonar')))
    result = CliRunner().invoke(app, ['bench', 'odometry', '--kitti', str(tmp_path / 'none')])
    assert result.exit_code == 1
    assert 'expected the folder of a KITTI raw drive' in ' '.join(result.output.split())
