"""Projection errors of a rig that moves: as large as theory says, and gone when corrected."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from dmd3c_ros.benchmarks.motion import CORRECTIONS, Motion, MovingRig, MovingSweeps
from dmd3c_ros.cli.app import app
from dmd3c_ros.simulation import PATTERNS, Arc, street
from dmd3c_ros.simulation.moving import SWAY_HZ

RIG = MovingRig(lidar='vlp16', width=608, height=176, focal_length=360.0, image_delay=0.03)
BY_NAME = {correction.name: correction for correction in CORRECTIONS}
MOTIONS = [Motion(0), Motion(5), Motion(15), Motion(5, 0.5), Motion(0, 1.0)]
STAMP_S = PATTERNS['vlp16'].period_s / 2


@pytest.fixture(scope='module')
def scene():
    return street(3)


@pytest.fixture(scope='module', params=MOTIONS, ids=str)
def drive(request, scene):
    return MovingSweeps(RIG, request.param, scene, 2)


def pixel_velocity(errors, motion: Motion) -> np.ndarray:
    """Optical flow (N, 2), pixels/s, of points that stand still: the image Jacobian times the
    camera's velocity (Chaumette and Hutchinson, "Visual servo control", 2006, eq. 11)."""
    x, y = ((errors.pixel - (RIG.camera.cx, RIG.camera.cy)) / RIG.focal_length).T
    # REP 103: forward is z; to the left is the negative y axis of the optical frame.
    turning = -motion.turn_rate
    u = x * motion.speed / errors.depth - (1 + x * x) * turning
    v = y * motion.speed / errors.depth - x * y * turning
    return RIG.focal_length * np.stack([u, v], 1)


def expect_shift(errors, motion: Motion, late_s) -> None:
    """The points fell where they were, or will be, late_s from the image."""
    expected = pixel_velocity(errors, motion) * np.reshape(late_s, (-1, 1))
    far = errors.depth > 8
    assert far.sum() > 200
    size = np.linalg.norm(expected[far], axis=1)
    difference = np.linalg.norm(errors.shift[far] - expected[far], axis=1)
    # The flow changes on the way, by the share of the depth or the angle that is passed.
    assert (difference <= 0.12 * size + 0.1).all()
    assert np.median(size) > 0.5 or not (motion.speed or motion.turn_rate)


def test_without_a_correction_points_fall_where_they_were_when_measured(drive):
    errors = drive.errors(BY_NAME['none'])
    expect_shift(errors, drive.motion, errors.time)


def test_a_fixed_frame_leaves_the_time_between_point_and_stamp(drive):
    errors = drive.errors(BY_NAME['fixed_frame'])
    late_s = (errors.time + RIG.image_delay) % PATTERNS['vlp16'].period_s
    late_s = np.where(late_s > STAMP_S, late_s - 2 * STAMP_S, late_s)
    expected = pixel_velocity(errors, drive.motion) * late_s[:, None]
    far = errors.depth > 8
    assert np.linalg.norm(errors.shift - expected, axis=1)[far].max() < 0.5
    before = drive.errors(BY_NAME['none']).distance
    assert np.median(errors.distance) <= 0.4 * np.median(before) + 1e-3


def test_deskewing_leaves_the_steps_of_time_alone(drive):
    errors = drive.errors(BY_NAME['fixed_frame, deskew'])
    # Half a step of 0.1 ms; odometry as exact as the simulation's numbers.
    limit = np.linalg.norm(pixel_velocity(errors, drive.motion), axis=1) * 0.6e-4
    assert (errors.distance <= limit + 2e-3).all()


def test_a_clock_that_is_off_moves_points_by_as_much_until_it_is_corrected(drive):
    wrong = drive.errors(BY_NAME['both, clock 20 ms off'])
    expect_shift(wrong, drive.motion, -0.02)
    right = drive.errors(BY_NAME['both, clock 20 ms off, lidar_clock_offset'])
    assert right.distance.max() < 0.1


def test_accumulated_sweeps_fall_where_the_present_one_does(scene):
    motion = Motion(15, 0.3)
    drive = MovingSweeps(RIG, motion, scene, 5)
    alone = drive.errors(BY_NAME['fixed_frame, deskew'])
    errors = drive.errors(BY_NAME['last 5 sweeps, deskew'])
    assert len(errors.distance) > 2.5 * len(alone.distance) / 5
    assert errors.distance.max() < 0.1
    skewed = drive.errors(BY_NAME['last 5 sweeps, no deskew'])
    assert np.percentile(skewed.distance, 95) > 20 * np.percentile(errors.distance, 95)


@pytest.mark.parametrize('odometry_rate', [50.0, 10.0])
def test_between_the_poses_of_odometry_a_swaying_rig_errs_as_their_distance_says(
    scene, odometry_rate
):
    motion = Motion(15, 0.3, 0.02)
    drive = MovingSweeps(replace(RIG, odometry_rate=odometry_rate), motion, scene, 1)
    errors = drive.errors(BY_NAME['fixed_frame, deskew'])
    # A chord leaves an arc by an eighth of its acceleration times the time squared, at both ends:
    # the point's time and the image's. Pitch is the larger swing.
    angle = 0.02 * (2 * np.pi * SWAY_HZ / odometry_rate) ** 2 / 8
    slant = 1 + ((errors.pixel[:, 1] - RIG.camera.cy) / RIG.focal_length).max() ** 2
    assert errors.distance.max() < 2 * 1.2 * angle * RIG.focal_length * slant + 0.1
    if odometry_rate == 10.0:
        assert errors.distance.max() > 0.3 * angle * RIG.focal_length


def test_an_arc_is_a_circle_at_its_speed_with_the_nose_ahead():
    arc = Arc(np.eye(4), 15.0, 0.5)
    T = arc.at(np.array([-1e-4, 0.0, 1e-4, 0.7]))
    np.testing.assert_allclose((T[2, :3, 3] - T[0, :3, 3]) / 2e-4, [15, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(T[3, :3, 3] - [0, 30, 0]), 30.0)
    np.testing.assert_allclose(T[3, :2, 0], [np.cos(0.35), np.sin(0.35)])
    swaying = Arc(np.eye(4), 15.0, 0.5, 0.1).at(np.linspace(0, 1, 61))
    R = swaying[:, :3, :3]
    np.testing.assert_allclose(
        R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (61, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.arcsin(-R[:, 2, 0]).max(), 0.1, rtol=1e-3)
    straight = Arc(np.eye(4), 15.0, 0.0).at(np.array([2.0]))
    np.testing.assert_allclose(straight[0, :3, 3], [30, 0, 0])


def test_the_command_writes_its_table(tmp_path, monkeypatch):
    from dmd3c_ros.benchmarks import motion

    def one_motion(rig, sweeps, run=motion.run):
        return run(rig, [Motion(15)], CORRECTIONS[:2], sweeps)

    monkeypatch.setattr(motion, 'run', one_motion)
    options = ('--lidar', 'vlp16', '--sweeps', '1', '--json', str(tmp_path / 'errors.json'))
    result = CliRunner().invoke(app, ['bench', 'motion', *options])
    assert result.exit_code == 0, result.output
    assert 'fixed_frame' in result.output
    numbers = json.loads((tmp_path / 'errors.json').read_text())
    assert numbers['whole_ms'] > 0 and numbers['deskewed_ms'] > 0
    numbers = numbers['errors']
    assert numbers['none']['15 m/s']['median_px'] > numbers['fixed_frame']['15 m/s']['median_px']
    result = CliRunner().invoke(app, ['bench', 'motion', '--lidar', 'sonar'])
    assert result.exit_code == 1
    assert 'expected one of hdl64e' in result.output
