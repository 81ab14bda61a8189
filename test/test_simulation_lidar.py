"""LiDAR sweeps: scan patterns, losses, noise, parallax, and agreement with poses."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('open3d')

from test_simulation import CAMERA, ground, plain_scene, small

from dmd3c_ros.core.projection import project_points
from dmd3c_ros.simulation import (
    PATTERNS,
    LidarNoise,
    Rig,
    camera_mount,
    capture,
    drive,
    indoor,
    lidar_mount,
    scan,
    street,
)
from dmd3c_ros.simulation.mesh import boxes, quads
from dmd3c_ros.simulation.textures import MaterialTable

EXACT = LidarNoise(range_sigma_m=0.0, random_loss=0.0, loss=0.0, mixed_pixels=0.0)
LINES = {'hdl64e': 64, 'vlp16': 16, 'os1_128': 128, 'line_scan': 1}


def rng(seed=0):
    return np.random.default_rng(seed)


def lidar_pose(height=1.73):
    T = np.eye(4)
    T[2, 3] = height
    return T


def shell(radius=20.0):
    """A closed box around the origin, so that every pulse meets something."""
    return boxes((-radius,) * 3, (radius,) * 3, 0)


@pytest.mark.parametrize('name', sorted(PATTERNS))
def test_directions_are_unit_rays_with_ring_and_time(name):
    pattern = PATTERNS[name]
    rays = pattern.directions(rng(), 0)
    count = len(rays.directions)
    assert rays.directions.dtype == np.float32 and rays.directions.shape == (count, 3)
    assert rays.ring.shape == rays.time.shape == (count,)
    assert rays.origins.shape == (count, 3) and np.abs(rays.origins).max() < 0.3
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=1), 1, atol=1e-5)
    assert rays.time.min() >= 0 and rays.time.max() < pattern.period_s
    assert rays.directions[:, 0].max() > 0.99, 'x points forward'


@pytest.mark.parametrize('name', sorted(LINES))
def test_lines_lie_at_their_elevations_from_top_to_bottom(name):
    pattern = PATTERNS[name]
    rays = pattern.directions(rng(), 0)
    elevation = np.degrees(np.arcsin(rays.directions[:, 2]))
    lines = [np.median(elevation[rays.ring == ring]) for ring in range(LINES[name])]
    assert len(np.unique(rays.ring)) == LINES[name]
    np.testing.assert_allclose(lines, pattern.elevations_deg, atol=0.02)


def test_hdl64e_has_two_blocks_of_lines_and_about_133000_pulses():
    elevations = np.array(PATTERNS['hdl64e'].elevations_deg)
    assert elevations[0] == pytest.approx(2.0, abs=0.2)
    assert elevations[-1] == pytest.approx(-24.8, abs=0.2)
    assert -np.diff(elevations[:32]).mean() == pytest.approx(1 / 3, abs=0.02)
    assert -np.diff(elevations[32:]).mean() == pytest.approx(0.51, abs=0.03)
    assert len(PATTERNS['hdl64e'].directions(rng(), 0).directions) == 64 * 2083


def test_lasers_of_the_hdl64e_sit_above_the_origin_of_its_frame():
    """Height against distance, line by line, leads back to where the laser is."""
    scene = plain_scene(
        boxes((5, -60, -60), (6, 60, 60), 0), boxes((-25, -60, -60), (-24, 60, 60), 0)
    )
    sweep = scan(scene, np.eye(4), PATTERNS['hdl64e'], rng(), EXACT)
    flat = np.hypot(sweep.points[:, 0], sweep.points[:, 1])
    for ring, height in ((0, 0.209), (31, 0.198), (32, 0.126), (63, 0.116)):
        line = sweep.ring == ring
        slope, start = np.polyfit(flat[line], sweep.points[line, 2], 1)
        assert start == pytest.approx(height, abs=5e-3)
        assert np.degrees(np.arctan(slope)) == pytest.approx(
            PATTERNS['hdl64e'].elevations_deg[ring], abs=0.02
        )


def test_line_scan_stays_in_its_sector():
    directions = PATTERNS['line_scan'].directions(rng(), 0).directions
    azimuth = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    assert -136 < azimuth.min() < -134 and 134 < azimuth.max() < 136


def test_a_spinning_pattern_turns_clockwise_once():
    rays = PATTERNS['vlp16'].directions(rng(), 0)
    line = rays.ring == 7
    azimuth = np.unwrap(np.arctan2(rays.directions[line, 1], rays.directions[line, 0]))
    assert np.degrees(azimuth[-1] - azimuth[0]) == pytest.approx(-360, abs=1)
    assert (np.diff(rays.time[line]) > 0).all()


def test_solid_state_covers_more_with_every_frame():
    """The rosette does not repeat: cells of 1 degree seen by 1 and by 5 frames."""
    pattern, cells, shares = PATTERNS['solid_state'], set(), []
    for index in range(5):
        d = pattern.directions(rng(), index).directions
        angles = np.degrees(np.arctan2(d[:, 1:], d[:, :1]))
        cells |= {tuple(c) for c in np.round(angles).astype(int)}
        shares.append(len(cells))
        off_axis = np.degrees(np.arccos(np.clip(d[:, 0], -1, 1)))
        assert off_axis.max() < pattern.half_angle_deg + 0.1
    assert shares[4] > 1.2 * shares[0]
    np.testing.assert_array_less(shares[:-1], shares[1:])


def test_exact_sweep_lies_on_the_surfaces():
    scene = plain_scene(ground(), boxes((6.0, -2.0, 0.0), (8.0, 2.0, 3.0), 0))
    sweep = scan(scene, lidar_pose(), PATTERNS['hdl64e'], rng(), EXACT)
    world = sweep.points + np.array([0, 0, 1.73])
    on_ground = np.abs(world[:, 2]) < 1e-3
    on_front = np.abs(world[:, 0] - 6.0) < 1e-3
    assert (on_ground | on_front).all()
    assert on_front.sum() > 1000 and on_ground.sum() > 20000
    ranges = np.linalg.norm(sweep.points, axis=1)
    assert ranges.max() < PATTERNS['hdl64e'].max_range_m


def test_nothing_comes_back_from_the_sky_or_beyond_the_range():
    empty = plain_scene(boxes((200.0, -1.0, 0.0), (201.0, 1.0, 2.0), 0))
    sweep = scan(empty, lidar_pose(), PATTERNS['vlp16'], rng(), EXACT)
    assert sweep.points.shape == (0, 3) and sweep.ring.shape == (0,)


def test_range_noise_and_random_loss_have_the_asked_size():
    noise = replace(EXACT, range_sigma_m=0.03, random_loss=0.2)
    scene = plain_scene(shell(20.0))
    exact = scan(scene, lidar_pose(0.0), PATTERNS['os1_128'], rng(1), EXACT)
    noisy = scan(scene, lidar_pose(0.0), PATTERNS['os1_128'], rng(1), noise)
    assert len(noisy.points) / len(exact.points) == pytest.approx(0.8, abs=0.01)
    off = np.abs(noisy.points).max(1) - 20.0
    ranges = np.linalg.norm(noisy.points, axis=1)
    along = off * ranges / np.abs(noisy.points).max(1)
    assert along.std() == pytest.approx(0.03, rel=0.05)
    assert along.mean() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ('better', 'worse'),
    [
        ({'reflectance': 0.6}, {'reflectance': 0.03}),
        ({'gloss': 0.0}, {'gloss': 0.9}),
    ],
)
def test_dark_and_mirroring_surfaces_return_less(better, worse):
    counts = []
    for options in (better, worse):
        scene = plain_scene(ground(), boxes((30, -20, 0), (31, 20, 9), 0), **options)
        sweep = scan(scene, lidar_pose(), PATTERNS['hdl64e'], rng(), replace(EXACT, loss=1.0))
        counts.append(len(sweep.points))
    assert counts[1] < 0.8 * counts[0]


def test_far_and_glancing_ground_returns_less_than_near_ground():
    sweep = scan(
        plain_scene(ground()), lidar_pose(), PATTERNS['hdl64e'], rng(), replace(EXACT, loss=1.0)
    )
    exact = scan(plain_scene(ground()), lidar_pose(), PATTERNS['hdl64e'], rng(), EXACT)
    kept, fired = (np.bincount(s.ring, minlength=64) for s in (sweep, exact))
    share = kept / np.maximum(fired, 1)
    assert share[60] > 0.95
    assert share[10:14].mean() < 0.7


def test_glass_swallows_most_pulses_and_lets_some_through():
    scene = plain_scene(quads([[(5, -9, -9), (5, 9, -9), (5, 9, 9), (5, -9, 9)]], 0))
    behind = quads([[(9, -19, -19), (9, 19, -19), (9, 19, 19), (9, -19, 19)]], 1)
    scene = plain_scene(scene.fixed.mesh, behind, materials=2, reflectance=0.9)
    glass = scene.materials['glass'].copy()
    glass[0] = True
    table = MaterialTable({**scene.materials.columns, 'glass': glass})
    noise = LidarNoise(range_sigma_m=0, mixed_pixels=0, glass_return=0.2, glass_pass=0.3)
    sweep = scan(replace(scene, materials=table), np.eye(4), PATTERNS['vlp16'], rng(), noise)
    fired = PATTERNS['vlp16'].directions(rng(), 0).directions
    at_pane = (np.abs(fired[:, 1:]) < 1.7 * fired[:, :1]).all(1).sum()
    on_pane = (np.abs(sweep.points[:, 0] - 5) < 0.01).sum()
    beyond = np.abs(sweep.points[:, 0] - 9) < 0.05
    beyond &= np.abs(sweep.points[:, 1]) < 1.7 * sweep.points[:, 0]
    assert 0.15 < on_pane / at_pane < 0.22
    assert 0.1 < beyond.sum() / at_pane < 0.3


def test_mixed_pixels_lie_between_two_surfaces():
    scene = plain_scene(
        boxes((9.0, -40, -40), (10.0, 40, 40), 0), boxes((8.0, -0.5, -9), (8.1, 0.5, 9), 0)
    )

    def between(noise):
        points = scan(scene, np.eye(4), PATTERNS['os1_128'], rng(), noise).points
        ahead = points[(points[:, 0] > 0) & (np.abs(points[:, 1]) < 1.5)]
        return ((ahead[:, 0] > 8.15) & (ahead[:, 0] < 8.95)).sum()

    assert between(EXACT) == 0
    assert between(replace(EXACT, mixed_pixels=0.2, beam_rad=0.01)) > 3


def test_parallax_lets_the_lidar_see_what_the_camera_does_not():
    """A LiDAR above and beside the camera sees past a near post's edge: see-through points."""
    scene = plain_scene(
        ground(), boxes((4, -0.4, 0), (4.3, 0.4, 1.9), 0), boxes((15, -15, 0), (16, 15, 6), 0)
    )
    camera = CAMERA.scaled(960, 288)
    rig = replace(small('hdl64e', noise=EXACT), camera=camera)
    rig = replace(rig, T_camera_lidar=lidar_mount(-0.3, 0.4, 0.2))
    frame = capture(scene, rig, 0.0)
    sparse = project_points(frame.points, rig.T_camera_lidar, camera)
    hit = (sparse > 0) & (frame.depth > 0)
    through = hit & (sparse > 1.2 * frame.depth)
    assert through.sum() > 100
    assert through.sum() < 0.2 * hit.sum()
    aligned = replace(rig, T_camera_lidar=lidar_mount(0.0, 0.0, 0.0))
    frame = capture(scene, aligned, 0.0)
    sparse = project_points(frame.points, aligned.T_camera_lidar, camera)
    hit = (sparse > 0) & (frame.depth > 0)
    # Without an offset only rounding to pixels is left, at outlines.
    inner = np.abs(sparse - frame.depth)[hit]
    assert np.median(inner) < 0.02


def test_a_street_sweep_agrees_with_the_image_where_both_see_the_same():
    scene = street(11)
    rig = Rig(CAMERA, lidar_mount(), PATTERNS['hdl64e'], camera_mount(1.65))
    frame = capture(scene, rig, 0.5)
    sparse = project_points(frame.points, rig.T_camera_lidar, CAMERA)
    hit = (sparse > 0) & (frame.depth > 0)
    relative = np.abs(sparse[hit] / frame.depth[hit] - 1)
    assert hit.sum() > 1000
    assert np.median(relative) < 0.03
    assert 70_000 < len(frame.points) < 64 * 2083


def test_clouds_of_a_drive_lie_on_the_same_surfaces_in_the_world():
    """Points of a later frame, mapped by its pose, are met again by rays from the first one."""
    rig = small('vlp16', noise=EXACT)
    first, later = list(drive(4, 2, rig, 'indoor', rate_hz=1.0))
    assert np.linalg.norm(later.T_world_lidar[:3, 3] - first.T_world_lidar[:3, 3]) > 0.2
    scene = indoor(4)
    for frame in (first, later):
        T = frame.T_world_lidar
        world = (frame.points @ T[:3, :3].T + T[:3, 3]).astype(np.float32)
        origin = np.broadcast_to(T[:3, 3].astype(np.float32), world.shape)
        hits = scene.cast(np.concatenate([origin, world - origin], 1))
        np.testing.assert_allclose(hits.distance, 1.0, atol=2e-3)


def test_moving_vehicles_move_and_the_rest_stays():
    scene = street(8)
    pace = next(m for m in scene.movers if abs(m.speed) > 0.2)
    before, after = pace.at(scene.path, 0.0), pace.at(scene.path, 1.0)
    moved = np.linalg.norm(after.corners.mean((0, 1)) - before.corners.mean((0, 1)))
    assert moved == pytest.approx(abs(pace.speed), rel=0.1)
    assert scene.at(1.0).fixed is scene.fixed
