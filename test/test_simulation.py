"""Scenes and their images: exact depth, repeatability, every kind of scene renders."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('open3d')

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.simulation import (
    KINDS,
    PATTERNS,
    LidarNoise,
    Rig,
    build,
    camera_mount,
    drive,
    indoor,
    lidar_mount,
    render,
    street,
)
from dmd3c_ros.simulation.builder import SceneBuilder
from dmd3c_ros.simulation.light import daylight
from dmd3c_ros.simulation.mesh import boxes, quads, relief, sheet, tubes
from dmd3c_ros.simulation.path import Path
from dmd3c_ros.simulation.street import STYLES

CAMERA = Camera.from_K(np.array([[90.0, 0, 79.3], [0, 92.0, 22.7], [0, 0, 1]]), 160, 48)
STRAIGHT = Path.integrate(np.zeros(200), np.zeros(200), -50.0, 1.0)


def plain_scene(*meshes, materials=1, **options):
    """A scene of the given meshes; every material is a matt grey one unless options say more."""
    builder = SceneBuilder(np.random.default_rng(0))
    for _ in range(materials):
        builder.material((0.4, 0.4, 0.4), **options)
    builder.add(*meshes)
    return builder.scene('test', 0, daylight(np.random.default_rng(0)), STRAIGHT)


def ground(half=80.0):
    return quads([[(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)]], 0)


def small(rig_pattern='vlp16', **options):
    return Rig(CAMERA, lidar_mount(), PATTERNS[rig_pattern], camera_mount(1.6), **options)


def test_depth_of_a_ground_plane_is_exact():
    pitch, height = 0.08, 1.7
    view = render(plain_scene(ground(1000.0)), camera_mount(height, pitch), CAMERA)
    v = np.arange(CAMERA.height)[:, None] + 0 * np.arange(CAMERA.width)
    # A ray through row v falls by sin + y cos for each metre of depth.
    fall = np.sin(pitch) + (v - CAMERA.cy) / CAMERA.fy * np.cos(pitch)
    expected = np.where(fall > 0, height / np.where(fall > 0, fall, 1), np.inf)
    near = expected < 200
    assert near.sum() > 3000
    np.testing.assert_allclose(view.depth[near], expected[near], rtol=2e-5)
    assert (view.depth[fall <= 0] == 0).all()


def test_depth_of_a_box_is_exact_and_ends_at_its_outline():
    scene = plain_scene(boxes((10.0, -2.0, 0.0), (12.0, 1.0, 3.0), 0))
    view = render(scene, camera_mount(1.5), CAMERA)
    v, u = np.nonzero(view.depth)
    np.testing.assert_allclose(view.depth[v, u], 10.0, rtol=1e-6)
    left, right = CAMERA.cx - 1.0 * CAMERA.fx / 10, CAMERA.cx + 2.0 * CAMERA.fx / 10
    assert (u.min(), u.max()) == (np.ceil(left), np.floor(right))
    assert v.max() == np.floor(CAMERA.cy + 1.5 * CAMERA.fy / 10)


def test_depth_follows_the_rectified_camera_of_a_stereo_pair():
    """Depth is P's third row, and pixels agree with Camera.project, for P with a fourth column."""
    angle = 0.01
    R = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    P = CAMERA.P.copy()
    P[:, 3] = [12.0, 0.2, 0.003]
    camera = Camera(P, CAMERA.width, CAMERA.height, R)
    scene = plain_scene(ground(), boxes((7.0, -1.5, 0.0), (9.0, 1.0, 2.0), 0))
    T_world_camera = camera_mount(1.6, 0.1)
    depth = render(scene, T_world_camera, camera).depth
    v, u = np.nonzero(depth)
    # Back through P by hand, then forward by the camera under test.
    rays = np.stack([u, v, np.ones_like(u)], 1) * depth[v, u, None]
    points = (rays - P[:, 3]) @ np.linalg.inv(P[:, :3]).T @ R
    uv, z = camera.project(points)
    np.testing.assert_allclose(uv, np.stack([u, v], 1), atol=1e-6)
    np.testing.assert_allclose(z, depth[v, u], rtol=1e-6)
    world = points @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
    on_ground = np.abs(world[:, 2]) < 2e-3
    inside = (world > np.array([6.99, -1.51, -0.01])) & (world < np.array([9.01, 1.01, 2.01]))
    assert (on_ground | inside.all(1)).all()
    assert min(on_ground.sum(), (~on_ground).sum()) > 100


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_same_seed_gives_identical_frames_and_another_seed_others(kind):
    first, again, other = (next(drive(seed, 1, small(), kind)) for seed in (5, 5, 6))
    for name in ('rgb', 'depth', 'points', 'ring', 'time', 'T_world_lidar'):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.rgb, other.rgb)
    assert not np.array_equal(first.depth, other.depth)


def test_scenes_do_not_touch_the_global_random_state():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    scene = indoor(1)
    render(scene, scene.ground_pose(0.0) @ camera_mount(1.4), CAMERA)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize('style', STYLES)
def test_streets_of_every_style_render(style):
    for seed in (101, 102):
        scene = street(seed, style)
        view = render(scene, scene.ground_pose(0.0) @ camera_mount(1.65), CAMERA)
        seen = view.depth[view.depth > 0]
        assert view.rgb.dtype == np.uint8 and view.rgb.std() > 8
        assert 0.4 < (view.depth > 0).mean() <= 1
        assert np.isfinite(seen).all() and seen.min() > 0.3
        # The road lies below, and something stands within 40 m above the horizon.
        assert np.median(view.depth[-1]) < 15
        assert scene.materials['pattern'].max() > 0 and len(scene.movers) > 0
        assert scene.mesh.material.max() < len(scene.materials['gloss'])
        assert np.isfinite(scene.mesh.corners).all() and np.isfinite(scene.mesh.normals).all()


def test_many_rooms_render():
    for seed in range(12):
        scene = indoor(seed)
        view = render(scene, scene.ground_pose(0.0) @ camera_mount(1.3), CAMERA)
        assert (view.depth > 0).all(), 'a room is closed'
        assert view.depth.max() < 60 and len(np.unique(view.rgb.reshape(-1, 3), axis=0)) > 200


def test_streets_differ_in_their_depths():
    """Median depths of five streets spread over more than a factor of 1.3."""
    medians = []
    for seed in range(200, 205):
        scene = street(seed)
        view = render(scene, scene.ground_pose(0.0) @ camera_mount(1.65), CAMERA)
        medians.append(np.median(view.depth[view.depth > 0]))
    assert max(medians) > 1.3 * min(medians)


def test_unknown_kinds_and_styles_are_refused_by_name():
    with pytest.raises(ValueError, match=r"expected one of .*street.*got 'forest'"):
        build('forest', 1)
    with pytest.raises(ValueError, match=r"style .*urban.*got 'arctic'"):
        street(1, 'arctic')


def test_shadow_darkens_the_ground_behind_a_wall():
    light = replace(
        daylight(np.random.default_rng(0)), sun_direction=(0.0, 0.6, 0.8), sun_color=(3.0,) * 3
    )
    light = replace(light, noise=0.0, vignette=0.0, haze_m=1e6)
    wall = boxes((4.0, 0.0, 0.0), (30.0, 0.2, 2.0), 0)
    lit = replace(plain_scene(ground(), wall, contrast=0.0), light=light)
    rgb = render(lit, camera_mount(3.0, 0.3), CAMERA).rgb.astype(float)
    # The sun stands to the left: 1.5 m of ground right of the wall lie in its shadow.
    row, depth = 40, 3.0 / (np.sin(0.3) + (40 - CAMERA.cy) / CAMERA.fy * np.cos(0.3))
    shadow, sun = (int(CAMERA.cx + y * CAMERA.fx / depth) for y in (0.8, 3.0))
    assert rgb[row, shadow].mean() < 0.75 * rgb[row, sun].mean()


def test_relief_leaves_openings_and_sets_cells_back():
    wall = relief(
        np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]),
        np.array([[0.0, -0.3, 0.0], [0.0, np.nan, 0.0]]), np.zeros((2, 3), int), 0,
    )  # fmt: skip
    scene = plain_scene(wall)
    spots = np.array([[0.5, 0.5], [1.5, 0.5], [1.5, 1.5]])
    rays = np.array([[x, -5.0, z, 0, 1, 0] for x, z in spots], np.float32)
    np.testing.assert_allclose(scene.cast(rays).distance, [5.0, 5.3, np.inf])


def test_primitives_have_outward_unit_normals():
    tube = tubes((0, 0, 0), (0, 0, 2), 0.5, 0, sides=12)
    outward = tube.corners[..., :2] / np.linalg.norm(tube.corners[..., :2], axis=-1, keepdims=True)
    np.testing.assert_allclose(tube.normals[..., :2], outward, atol=1e-5)
    x, y = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 5))
    flat = sheet(np.stack([x, y, 0 * x], -1), 0)
    np.testing.assert_allclose(flat.normals, np.broadcast_to([0, 0, 1.0], flat.normals.shape))
    cube = boxes((0, 0, 0), (1, 1, 1), 0)
    away = (cube.corners.mean(1) - 0.5) * cube.normals[:, 0]
    assert (away.sum(1) > 0.49).all()


def test_a_drive_slows_down_to_stay_inside_its_scene():
    rig = small(noise=LidarNoise(loss=0.0))
    frames = list(drive(3, 4, rig, 'indoor', rate_hz=0.05))
    assert [f.stamp_s for f in frames] == [0.0, 20.0, 40.0, 60.0]
    way = np.linalg.norm(frames[-1].T_world_lidar[:3, 3] - frames[0].T_world_lidar[:3, 3])
    assert 0.5 < way < indoor(3).reach + 0.2
    assert all((f.depth > 0).all() for f in frames)
