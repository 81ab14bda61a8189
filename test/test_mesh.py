"""Surfaces of depth images, and rays against them."""

import numpy as np
import pytest

from dmd3c_ros.core.camera import Camera
from training.generation.casting import HeightField, mesh_caster
from training.generation.mesh import CutConfig, GridSurface, PoissonConfig, behind, poisson_mesh


def camera_of(width: int = 96, height: int = 64, focal: float = 70.0) -> Camera:
    K = np.array([[focal, 0, width / 2 - 3.2], [0, focal * 1.1, height / 2 + 1.7], [0, 0, 1]])
    return Camera.from_K(K, width, height)


def plane_depth(camera: Camera, normal: tuple[float, float, float], offset: float) -> np.ndarray:
    """Depth of the plane normal . X = offset; 0 where it lies behind the camera."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)])
    facing = np.tensordot(normal, rays, 1)
    with np.errstate(divide='ignore'):
        depth = offset / facing
    return np.where((depth > 0) & (depth < 200), depth, 0).astype(np.float32)


def rough_depth(camera: Camera, seed: int) -> np.ndarray:
    """Ground, boxes in front of it, noise on it and holes in it."""
    rng = np.random.default_rng(seed)
    depth = plane_depth(camera, (0.05, 1, 0.1), 1.6)
    for _ in range(12):
        top, left = rng.integers(0, camera.height - 9), rng.integers(0, camera.width - 9)
        size = rng.integers(3, 25, 2)
        box = rng.uniform(1.5, 20) + rng.normal(0, 0.02) * np.arange(size[1])
        patch = depth[top : top + size[0], left : left + size[1]]
        patch[:] = box[: patch.shape[1]]
    depth *= rng.uniform(0.99, 1.01, depth.shape)
    depth[rng.random(depth.shape) < 0.01] = 0
    return depth.astype(np.float32)


def fan(rng: np.random.Generator, count: int = 4000) -> np.ndarray:
    """Unit directions, most of them forward."""
    directions = rng.normal((0, 0, 1), (0.7, 0.4, 0.3), (count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_the_surface_of_a_plane_has_every_triangle_and_its_vertices_lie_on_it():
    camera = camera_of()
    surface = GridSurface.of(plane_depth(camera, (0.2, 0.1, 1), 5), camera)
    assert surface.upper.all() and surface.lower.all()
    assert len(surface.triangles()) == 2 * 95 * 63
    np.testing.assert_allclose(surface.vertices() @ (0.2, 0.1, 1), 5, rtol=1e-5)


def test_triangles_face_the_camera():
    camera = camera_of()
    surface = GridSurface.of(plane_depth(camera, (0, 0.3, 1), 5), camera)
    a, b, c = surface.vertices()[surface.triangles()].transpose(1, 0, 2)
    assert (np.einsum('ij,ij->i', np.cross(b - a, c - a), a) < 0).all()


def test_a_depth_step_is_cut_and_only_there():
    camera = camera_of()
    depth = np.full((64, 96), 10, np.float32)
    depth[:, 40:] = 4
    surface = GridSurface.of(depth, camera)
    assert not surface.upper[:, 39].any() and not surface.lower[:, 39].any()
    assert surface.upper.sum() == 63 * 94 and surface.lower.sum() == 63 * 94


def test_an_edge_blurred_over_some_pixels_is_cut_too():
    camera = camera_of()
    depth = np.full((64, 96), 20, np.float32)
    depth[:, 40:] = 4
    depth[:, 39:41] = 1 / (np.array([1 / 3, 2 / 3]) * (1 / 4 - 1 / 20) + 1 / 20)
    surface = GridSurface.of(depth, camera)
    assert not surface.upper[:, 38:41].any()
    assert surface.upper[:, :38].all() and surface.upper[:, 41:].all()


def test_the_ground_towards_the_horizon_is_no_discontinuity():
    camera = camera_of()
    depth = plane_depth(camera, (0, 1, 0), 1.5)
    steep = np.diff(depth, axis=0) < -0.1 * depth[:-1]
    assert (steep & (depth[1:] > 0)).any()
    surface = GridSurface.of(depth, camera)
    ground = (depth[:-1, :-1] > 0) & (depth[1:, 1:] > 0)
    assert surface.upper[ground].all() and surface.lower[ground].all()


@pytest.mark.parametrize('hole', [0.0, np.nan, np.inf, -1.0])
def test_unknown_depth_leaves_a_hole(hole):
    camera = camera_of()
    depth = np.full((64, 96), 5, np.float32)
    depth[20, 30] = hole
    surface = GridSurface.of(depth, camera)
    assert 2 * 63 * 95 - len(surface.triangles()) == 6
    assert not (surface.triangles() == 20 * 96 + 30).any()


def test_a_depth_image_of_another_size_and_a_displaced_camera_are_refused():
    camera = camera_of()
    with pytest.raises(ValueError, match=r'expected \(64, 96\) as the camera, got \(5, 5\)'):
        GridSurface.of(np.ones((5, 5), np.float32), camera)
    P = camera.P.copy()
    P[0, 3] = 10
    with pytest.raises(ValueError, match='at the origin'):
        GridSurface.of(np.ones((64, 96), np.float32), Camera(P, 96, 64))


@pytest.mark.parametrize('settings', [{'jump': 0}, {'jump': 1.5}, {'span': 0}])
def test_settings_of_the_cut_without_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CutConfig(**settings)


def test_rays_meet_a_plane_where_geometry_says():
    camera = camera_of()
    field = HeightField(GridSurface.of(plane_depth(camera, (0.2, -0.1, 1), 5), camera))
    origin = np.array([0.4, -0.3, -0.2])
    directions = fan(np.random.default_rng(0))
    distance = field.cast(origin, directions)
    exact = (5 - origin @ (0.2, -0.1, 1)) / (directions @ (0.2, -0.1, 1))
    uv, z = camera.project(origin + exact[:, None] * directions)
    inside = (z > 0) & (uv > 0.01).all(1) & (uv < (94.99, 62.99)).all(1) & (exact > 0)
    outside = (exact <= 0) | (z <= 0) | (uv < -0.01).any(1) | (uv > (95.01, 63.01)).any(1)
    assert inside.sum() > 500 and outside.sum() > 500
    np.testing.assert_allclose(distance[inside], exact[inside], rtol=1e-5)
    assert np.isinf(distance[outside]).all()


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize(
    'origin', [(0, 0, 0), (0.3, -0.2, -0.27), (-1.5, 0.4, 0.5), (0, 0, 3), (6, 0, 4)]
)
def test_casting_on_the_image_gives_what_ray_casting_against_the_triangles_gives(seed, origin):
    pytest.importorskip('open3d')
    camera = camera_of()
    surface = GridSurface.of(rough_depth(camera, seed), camera)
    directions = fan(np.random.default_rng(seed))
    if origin == (6, 0, 4):
        directions = directions[:, [2, 1, 0]] * (-1, 1, 1)  # across the view, from beside it
    mine = HeightField(surface).cast(np.array(origin, float), directions)
    reference = mesh_caster(surface.vertices(), surface.triangles())(
        np.array(origin, float), directions
    )
    assert np.isfinite(reference).sum() > 100
    # A ray along an edge of the surface may be counted on either side.
    assert (np.isfinite(mine) == np.isfinite(reference)).mean() > 0.998
    both = np.isfinite(mine) & np.isfinite(reference)
    close = np.abs(mine[both] - reference[both]) < 1e-3 * reference[both]
    assert close.mean() > 0.998


def test_each_ray_may_have_an_origin_of_its_own():
    pytest.importorskip('open3d')
    camera = camera_of()
    surface = GridSurface.of(rough_depth(camera, 3), camera)
    rng = np.random.default_rng(1)
    origins, directions = rng.uniform(-0.5, 0.5, (4000, 3)), fan(rng)
    mine = HeightField(surface).cast(origins, directions)
    reference = mesh_caster(surface.vertices(), surface.triangles())(origins, directions)
    both = np.isfinite(mine) & np.isfinite(reference)
    assert both.sum() > 500 and (np.isfinite(mine) == np.isfinite(reference)).mean() > 0.998
    assert (np.abs(mine[both] - reference[both]) < 1e-3 * reference[both]).mean() > 0.998


def test_rays_through_the_very_pixels_meet_every_pixel_of_the_surface():
    camera = camera_of()
    depth = rough_depth(camera, 4)
    surface = GridSurface.of(depth, camera)
    part = np.zeros(depth.shape, bool)
    part[:-1, :-1] |= surface.upper
    part[1:, :-1] |= surface.upper | surface.lower
    part[:-1, 1:] |= surface.upper | surface.lower
    part[1:, 1:] |= surface.lower
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(camera.K).T
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    z = (HeightField(surface).cast(np.zeros(3), rays / length) / length[:, 0]).reshape(depth.shape)
    np.testing.assert_allclose(z[part], depth[part], rtol=1e-4)


def test_an_empty_surface_is_met_by_nothing():
    camera = camera_of()
    field = HeightField(GridSurface.of(np.zeros((64, 96), np.float32), camera))
    assert np.isinf(field.cast(np.zeros(3), fan(np.random.default_rng(0)))).all()
    field = HeightField(GridSurface.of(np.full((64, 96), 5, np.float32), camera))
    assert field.cast(np.zeros(3), np.empty((0, 3))).shape == (0,)


def test_poisson_reconstruction_stays_near_the_pixels_and_leaves_the_sky_open():
    pytest.importorskip('open3d')
    camera = camera_of(192, 128, 140)
    depth = plane_depth(camera, (0, 1, 0.3), 2.0)
    depth[depth > 12] = 0
    surface = GridSurface.of(depth, camera)
    vertices, triangles = poisson_mesh(surface, PoissonConfig(octree_depth=7))
    u, v = np.meshgrid(np.arange(192), np.arange(128))
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)])
    length = np.linalg.norm(rays, axis=0)
    directions = (rays / length).reshape(3, -1).T
    z = (mesh_caster(vertices, triangles)(np.zeros(3), directions) / length.ravel()).reshape(
        128, 192
    )
    met = np.isfinite(z) & (depth > 0)
    assert met.sum() > 0.8 * (depth > 0).sum()
    assert np.median(np.abs(z - depth)[met] / depth[met]) < 0.01
    assert np.isinf(z[:20]).all() and not depth[:20].any()


def test_the_background_goes_on_behind_the_edges_of_what_stands_before_it():
    camera = camera_of()
    depth = plane_depth(camera, (0, 1, 0), 1.6)
    depth = np.where(depth > 0, np.minimum(depth, 20), 20).astype(np.float32)
    depth[:30, 40:46] = 5
    surface = GridSurface.of(depth, camera)
    hidden = behind(surface, 8)
    assert hidden.upper[:25, 39:45].all() and hidden.lower[:25, 39:45].all()
    assert not hidden.upper[:25, :39].any() and not hidden.upper[:25, 46:].any()
    without = plane_depth(camera, (0, 1, 0), 1.6)
    without = np.where(without > 0, np.minimum(without, 20), 20)
    np.testing.assert_allclose(1 / hidden.inverse[:25, 40:46], without[:25, 40:46], rtol=1e-5)


def test_nothing_goes_on_behind_a_surface_without_edges():
    camera = camera_of()
    hidden = behind(GridSurface.of(plane_depth(camera, (0.2, 0.1, 1), 5), camera), 8)
    assert not hidden.upper.any() and not hidden.lower.any()
