"""Depth fused into a coloured surface."""

import numpy as np
import pytest
from bag_data import write_bag
from commands import invoke

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.ply import read_ply, write_ply
from dmd3c_ros.slam.mapping import MapSettings, PointMap, TsdfMap

CAMERA = Camera.from_K(np.array([[80.0, 0, 39.5], [0, 80.0, 29.5], [0, 0, 1]]), 80, 60)
RGB = np.full((60, 80, 3), (200, 100, 50), np.uint8)


def moved(z: float) -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = z
    return pose


def wall(distance: float) -> np.ndarray:
    return np.full((60, 80), distance, np.float32)


def test_frames_of_a_wall_make_a_plane_of_its_colour_where_it_stands():
    pytest.importorskip('open3d')
    fused = TsdfMap(MapSettings(voxel_size=0.05))
    for z in (0.0, 0.3, 0.6):
        fused.add(RGB, wall(3.0 - z), CAMERA, moved(z))
    mesh = fused.mesh()
    np.testing.assert_allclose(mesh.vertices[:, 2], 3.0, atol=0.01)
    assert np.ptp(mesh.vertices[:, 0]) > 1.5
    np.testing.assert_allclose(mesh.colors.mean(axis=0), RGB[0, 0], atol=2)
    assert mesh.triangles.max() < len(mesh.vertices)


def test_ground_has_no_holes_up_to_seven_heights_of_the_camera():
    pytest.importorskip('open3d')
    fused, height = TsdfMap(MapSettings(voxel_size=0.1, min_views=1)), 1.63
    camera = Camera.from_K(np.array([[400.0, 0, 199.5], [0, 400.0, 49.5], [0, 0, 1]]), 400, 200)
    # Rises to the right by one in fifty: the voxels lie otherwise below it from place to place.
    v, u = np.mgrid[:200, :400]
    depth = height / np.maximum((v - 49.5) / 400 + (u - 199.5) / 400 / 50, 1e-3)
    depth[depth > 7 * height] = 0
    fused.add(np.full((200, 400, 3), 99, np.uint8), depth.astype(np.float32), camera, np.eye(4))
    x, _, z = fused.mesh().vertices.T
    seen = np.histogram2d(x, z, bins=[np.arange(-1, 1.1, 0.2), np.arange(5, 10.9, 0.2)])[0]
    assert (seen > 0).mean() > 0.98


def test_what_too_few_frames_saw_or_is_too_far_is_left_out():
    pytest.importorskip('open3d')
    fused = TsdfMap(MapSettings(voxel_size=0.1, max_depth=5, min_views=2))
    fused.add(RGB, wall(3.0), CAMERA, np.eye(4))
    fused.add(RGB, wall(9.0), CAMERA, np.eye(4))
    with pytest.raises(ValueError, match='no surface within 5 m was seen in 2 frames'):
        fused.mesh()
    fused.add(RGB, wall(3.0), CAMERA, np.eye(4))
    np.testing.assert_allclose(fused.mesh().vertices[:, 2], 3.0, atol=0.01)
    with pytest.raises(ValueError, match=r'rgb: expected \(60, 80, 3\) as the depth'):
        fused.add(RGB[:30], wall(3.0), CAMERA, np.eye(4))
    with pytest.raises(ValueError, match=r'voxel_size: expected 0\.005 to 5'):
        MapSettings(voxel_size=0)


def test_points_alone_keep_place_and_colour():
    sparse = np.zeros((60, 80), np.float32)
    sparse[30, 40] = 4.0
    points = PointMap(MapSettings())
    points.add(RGB, sparse, CAMERA, moved(1.0))
    where, colors = points.cloud()
    np.testing.assert_allclose(where, [[0.025, 0.025, 5.0]], atol=1e-6)
    assert colors.tolist() == [[200, 100, 50]]


def test_a_mesh_is_written_as_other_programs_read_it(tmp_path):
    open3d = pytest.importorskip('open3d')
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 2]], np.float32)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    triangles = np.array([[0, 1, 2], [1, 3, 2]])
    write_ply(tmp_path / 'a.ply', corners, colors, triangles)
    found = open3d.io.read_triangle_mesh(str(tmp_path / 'a.ply'))
    np.testing.assert_array_equal(found.triangles, triangles)
    np.testing.assert_array_equal(found.vertices, corners)
    np.testing.assert_allclose(np.asarray(found.vertex_colors) * 255, colors)
    assert len(read_ply(tmp_path / 'a.ply')) == 4


def test_a_bag_is_fused_into_a_mesh_and_a_picture(tmp_path):
    pytest.importorskip('open3d')
    pytest.importorskip('kiss_icp')
    bag = write_bag(tmp_path / 'bag')
    options = ('--model', 'nearest', '--min-views', '1', '--picture', tmp_path / 'map.png')
    text = invoke('export', 'mesh', bag, tmp_path / 'map.ply', *options)
    assert 'triangles' in text
    assert np.isfinite(read_ply(tmp_path / 'map.ply')['x']).all()
    assert (tmp_path / 'map.png').stat().st_size > 1000
    text = invoke('export', 'mesh', tmp_path / 'none', tmp_path / 'b.ply', exit_code=1)
    assert 'expected a drive or a bag, found nothing' in text
    (tmp_path / 'file').write_text('')
    late = ('--picture', tmp_path / 'file/map.png')
    text = invoke('export', 'mesh', tmp_path / 'none', tmp_path / 'b.ply', *late, exit_code=1)
    assert 'file' in text and 'found nothing' not in text
