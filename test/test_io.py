"""Files in and out: round trips, and broken inputs named."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_drive import HEIGHT, POINTS, WIDTH, make_drive

from dmd3c_ros.io.atomic import atomic_write
from dmd3c_ros.io.calibration import read_distortion, read_extrinsics
from dmd3c_ros.io.clouds import read_cloud, write_ply
from dmd3c_ros.io.depth_png import TUM_SCALE, read_depth_png, write_depth_png
from dmd3c_ros.io.images import read_rgb, write_rgb
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices

# --- atomic writes ---------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'file.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b'half of the new')
        raise RuntimeError
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_write_makes_the_folder_with_usual_permissions(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    with atomic_write(path) as file:
        file.write(b'text')
    plain = tmp_path / 'plain'
    plain.write_text('text')
    assert path.read_bytes() == b'text'
    assert path.stat().st_mode == plain.stat().st_mode


# --- images and depth ------------------------------------------------------------------------


def test_rgb_round_trip_keeps_the_channel_order(tmp_path):
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[..., 0] = 200
    write_rgb(tmp_path / 'red.png', rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / 'red.png'), rgb)


def test_broken_image_is_named(tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    (tmp_path / 'empty.png').touch()
    write_rgb(tmp_path / 'huge.png', np.zeros((4, 4, 3), np.uint8))
    data = bytearray((tmp_path / 'huge.png').read_bytes())
    data[16:24] = struct.pack('>II', 200_000, 200_000)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    (tmp_path / 'huge.png').write_bytes(data)
    for name in ('broken.png', 'empty.png', 'huge.png'):
        with pytest.raises(ValueError, match=name):
            read_rgb(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='gone'):
        read_rgb(tmp_path / 'gone.png')


@pytest.mark.parametrize(('scale', 'step'), [(256.0, 1 / 256), (TUM_SCALE, 1 / 5000)])
def test_depth_round_trip_is_exact_to_half_a_step(tmp_path, scale, step):
    depth = np.linspace(0.5, 13, 12, dtype=np.float32).reshape(3, 4)
    write_depth_png(tmp_path / 'depth.png', depth, scale)
    stored = read_depth_png(tmp_path / 'depth.png', scale)
    assert stored.dtype == np.float32
    assert np.abs(stored - depth).max() <= step / 2 + 1e-6


def test_depth_that_the_format_cannot_hold_becomes_unknown(tmp_path, caplog):
    depth = np.array([[np.nan, np.inf, -1.0, 300.0, 255.9]], np.float32)
    write_depth_png(tmp_path / 'depth.png', depth)
    stored = read_depth_png(tmp_path / 'depth.png')
    assert (stored[0, :4] == 0).all()
    assert stored[0, 4] == pytest.approx(255.9, abs=1 / 512)
    assert '2 pixels' not in caplog.text
    assert '1 pixels are beyond 256.0 m' in caplog.text


@pytest.mark.parametrize('name', ['folder', 'depth.jpg', 'depth.xyz'])
def test_depth_under_a_name_that_would_lose_it_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf'{name}: expected a depth image NAME\.png'):
        write_depth_png(tmp_path / name, np.ones((4, 4), np.float32))
    if name != 'depth.jpg':
        with pytest.raises(ValueError, match=f'{name}: expected the suffix of an image'):
            write_rgb(tmp_path / name, np.ones((4, 4, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_eight_bit_image_is_no_depth(tmp_path):
    cv2.imwrite(str(tmp_path / 'depth.png'), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r'depth\.png: expected a 16-bit grey.*uint8'):
        read_depth_png(tmp_path / 'depth.png')


# --- clouds ----------------------------------------------------------------------------------


def _write_pcd(path: Path, layout: str, body: bytes, fields='x y z', size='4 4 4', kind='F F F'):
    header = (
        '# .PCD v0.7\nVERSION 0.7\n'
        f'FIELDS {fields}\nSIZE {size}\nTYPE {kind}\n'
        f'COUNT {" ".join("1" for _ in fields.split())}\n'
        f'WIDTH 3\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA {layout}\n'
    )
    path.write_bytes(header.encode() + body)


def test_bin_and_npy_clouds(tmp_path):
    np.c_[POINTS, np.ones(3, np.float32)].tofile(tmp_path / 'cloud.bin')
    np.save(tmp_path / 'cloud.npy', POINTS.astype(np.float64))
    for name in ('cloud.bin', 'cloud.npy'):
        points = read_cloud(tmp_path / name)
        assert points.dtype == np.float32
        np.testing.assert_array_equal(points, POINTS)


def test_points_that_are_not_finite_are_left_out(tmp_path):
    np.save(tmp_path / 'cloud.npy', np.r_[POINTS, [[np.nan, 0, 0], [0, np.inf, 0]]])
    np.testing.assert_array_equal(read_cloud(tmp_path / 'cloud.npy'), POINTS)


def test_pcd_text_and_binary(tmp_path):
    text = '\n'.join(' '.join(map(str, row)) for row in POINTS)
    _write_pcd(tmp_path / 'text.pcd', 'ascii', text.encode())
    _write_pcd(tmp_path / 'binary.pcd', 'binary', POINTS.tobytes())
    np.testing.assert_array_equal(read_cloud(tmp_path / 'text.pcd'), POINTS)
    np.testing.assert_array_equal(read_cloud(tmp_path / 'binary.pcd'), POINTS)


def test_pcd_with_padding_and_further_fields(tmp_path):
    layout = [('a', 'u1'), ('x', '<f4'), ('b', 'u1'), ('y', '<f4'), ('z', '<f8')]
    records = np.zeros(3, layout)
    records['x'], records['y'], records['z'] = POINTS.T
    _write_pcd(
        tmp_path / 'cloud.pcd',
        'binary',
        records.tobytes(),
        '_ x _ y z',
        '1 4 1 4 8',
        'U F U F F',
    )
    np.testing.assert_array_equal(read_cloud(tmp_path / 'cloud.pcd'), POINTS)


def test_pcd_and_ply_written_by_open3d(tmp_path):
    o3d = pytest.importorskip('open3d')
    points = np.random.default_rng(0).normal(size=(500, 3)).round(1).astype(np.float32)
    cloud = o3d.t.geometry.PointCloud(points)
    for name, options in (
        ('compressed.pcd', {'compressed': True}),
        ('binary.pcd', {}),
        ('text.pcd', {'write_ascii': True}),
        ('binary.ply', {}),
        ('text.ply', {'write_ascii': True}),
    ):
        assert o3d.t.io.write_point_cloud(str(tmp_path / name), cloud, **options)
        np.testing.assert_allclose(read_cloud(tmp_path / name), points, atol=1e-6, err_msg=name)


def test_written_ply_holds_points_and_colours(tmp_path):
    colors = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    write_ply(tmp_path / 'cloud.ply', POINTS, colors)
    np.testing.assert_array_equal(read_cloud(tmp_path / 'cloud.ply'), POINTS)
    o3d = pytest.importorskip('open3d')
    cloud = o3d.io.read_point_cloud(str(tmp_path / 'cloud.ply'))
    np.testing.assert_array_equal(np.rint(np.asarray(cloud.colors) * 255), colors)


def test_big_endian_ply_with_a_face_list_after_the_points(tmp_path):
    header = (
        'ply\nformat binary_big_endian 1.0\ncomment made by hand\nelement vertex 3\n'
        'property double x\nproperty double y\nproperty double z\n'
        'element face 0\nproperty list uchar int vertex_indices\nend_header\n'
    )
    (tmp_path / 'cloud.ply').write_bytes(header.encode() + POINTS.astype('>f8').tobytes())
    np.testing.assert_array_equal(read_cloud(tmp_path / 'cloud.ply'), POINTS)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('odd.bin', b'123'),
        ('seven.bin', np.zeros(7, np.float32).tobytes()),
        ('text.npy', b'no array'),
        ('text.pcd', b'no cloud'),
        ('text.ply', b'no cloud'),
        ('short.ply', b'ply\nformat binary_little_endian 1.0\nelement vertex 9\n'
         b'property float x\nproperty float y\nproperty float z\nend_header\n123'),
        ('flat.ply', b'ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\n'
         b'property float y\nend_header\n1 2\n'),
        ('cut.npy', b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',\n\n"),
        ('uncounted.ply', b'ply\nformat ascii 1.0\nelement vertex 2x\nproperty float x\n'
         b'property float y\nproperty float z\nend_header\n1 2 3\n'),
        ('endless.ply', b'ply\nformat ascii 1.0\nelement vertex 1\nend_header'),
        ('pairs.pcd', b'# PCD\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 2 1 1\nPOINTS 1\n'
         b'DATA ascii\n1 2 3 4\n'),
        ('cloud.las', b''),
    ],
)  # fmt: skip
def test_broken_cloud_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_cloud(tmp_path / name)


@pytest.mark.parametrize(
    ('read', 'content'),
    [
        (read_extrinsics, b'translation: [0, 0, 1]\nrotation: [0, 0, 0, \xff]\n'),
        (read_distortion, b'camera_matrix: {data: [9, 0, 4, 0, 9, 4, 0, 0, 1]}\n'
         b'distortion_coefficients: {data: [a, 0, 0, 0]}\n'),
        (read_distortion, b'camera_matrix: {data: [9, 0, 4, 0, 9, 4, 0, 0, 1]}\n'
         b'distortion_coefficients: {data: {k1: 0}}\n'),
    ],
)  # fmt: skip
def test_broken_calibration_is_named(tmp_path, read, content):
    (tmp_path / 'broken.yaml').write_bytes(content)
    with pytest.raises(ValueError, match=r'broken\.yaml'):
        read(tmp_path / 'broken.yaml')


def test_truncated_compressed_pcd_is_named(tmp_path):
    packed = b'\x00a'
    sizes = np.array([len(packed), 36], '<u4').tobytes()
    _write_pcd(tmp_path / 'cloud.pcd', 'binary_compressed', sizes + packed)
    with pytest.raises(ValueError, match=r'cloud\.pcd.*36 bytes'):
        read_cloud(tmp_path / 'cloud.pcd')


# --- KITTI drives ----------------------------------------------------------------------------


def test_drive_gives_frames_camera_and_extrinsics(tmp_path):
    drive = KittiDrive(make_drive(tmp_path))
    frame = drive[2]
    assert (len(drive), drive.missing, frame.name) == (3, (), '0000000002')
    assert frame.stamp_ns == frame.points_stamp_ns == 1317042142964389445
    assert frame.rgb.shape == (HEIGHT, WIDTH, 3)
    assert (frame.rgb == 2).all()
    np.testing.assert_array_equal(frame.points[:, :3], POINTS)
    assert (drive.camera.width, drive.camera.height) == (WIDTH, HEIGHT)


def test_a_drives_points_are_seen_where_its_calibration_says(tmp_path):
    """KITTI's own formula: P_rect_02 R_rect_00 T_velo_to_cam X."""
    drive = KittiDrive(make_drive(tmp_path))
    P = np.array([[30, 0, 20, 4], [0, 30, 12, 0.2], [0, 0, 1, 0.003]])
    R_rect = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    X = np.array([[8, 1, 2.0], [12, -3, 0.5]])
    of_camera0 = X @ np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]).T + [0.1, 0.2, 0.3]
    u, v, w = P[:, :3] @ R_rect @ of_camera0.T + P[:, 3:]
    T = drive.T_camera_lidar
    pixels, depth = drive.camera.project(X @ T[:3, :3].T + T[:3, 3])
    np.testing.assert_allclose(pixels, np.stack([u / w, v / w], 1))
    np.testing.assert_allclose(depth, w)
    # The camera's frame is the rectified camera's own, as consumers of depth take it.
    assert not drive.camera.P[:, 3].any()
    np.testing.assert_array_equal(drive.camera.R, np.eye(3))


def test_frames_missing_on_one_side_are_named_and_keep_their_stamps(tmp_path, caplog):
    path = make_drive(tmp_path, 4)
    (path / 'velodyne_points/data/0000000001.bin').unlink()
    (path / 'image_02/data/0000000002.png').unlink()
    drive = KittiDrive(path)
    assert drive.names == ['0000000000', '0000000003']
    assert drive.missing == (
        'velodyne_points/data/0000000001.bin',
        'image_02/data/0000000002.png',
    )
    assert '2 frames skipped' in caplog.text
    assert drive[1].stamp_ns == 1317042143964389445


@pytest.mark.parametrize(
    'missing',
    [
        'image_02/timestamps.txt',
        'velodyne_points/timestamps.txt',
        '../calib_cam_to_cam.txt',
        '../calib_velo_to_cam.txt',
    ],
)
def test_missing_file_of_a_drive_is_named(tmp_path, missing):
    path = make_drive(tmp_path)
    (path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=Path(missing).name):
        KittiDrive(path)


def test_missing_folder_and_other_camera(tmp_path):
    path = make_drive(tmp_path)
    with pytest.raises(FileNotFoundError, match='image_03/data'):
        KittiDrive(path, camera='image_03')
    with pytest.raises(ValueError, match='image_07'):
        KittiDrive(path, camera='image_07')
    with pytest.raises(FileNotFoundError, match='nowhere'):
        KittiDrive(tmp_path / 'nowhere')


def test_calibration_without_the_camera_is_named(tmp_path):
    path = make_drive(tmp_path)
    (path / '../calib_cam_to_cam.txt').write_text('S_rect_02: 40 24\n')
    with pytest.raises(ValueError, match=r'calib_cam_to_cam\.txt.*12 numbers for P_rect_02'):
        KittiDrive(path)


def test_bad_stamps_and_bad_image_size_are_named(tmp_path):
    path = make_drive(tmp_path)
    write_rgb(path / 'image_02/data/0000000001.png', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r'0000000001\.png: expected 40x24 .* got 8x8'):
        KittiDrive(path)[1]
    (path / 'image_02/timestamps.txt').write_text('yesterday\n' * 3)
    with pytest.raises(ValueError, match=r'timestamps\.txt: expected lines like'):
        KittiDrive(path)
    (path / 'image_02/timestamps.txt').write_text('2011-09-26 13:02:25.964389445\n')
    with pytest.raises(ValueError, match=r'timestamps\.txt: expected a line for 0000000002'):
        KittiDrive(path)


def test_rings_count_the_turns_of_the_laser():
    azimuth = np.concatenate([np.linspace(0.01, 2 * np.pi - 0.01, 20)] * 3)
    points = np.c_[np.cos(azimuth), np.sin(azimuth), np.zeros((60, 2))].astype(np.float32)
    np.testing.assert_array_equal(ring_indices(points), np.repeat([0, 1, 2], 20))
    assert len(ring_indices(points[:0])) == 0


def test_real_drive_reads_whole(kitti_drive):
    drive = KittiDrive(kitti_drive)
    frame = drive[0]
    assert frame.rgb.shape == (drive.camera.height, drive.camera.width, 3)
    assert len(frame.points) > 100_000
    assert np.diff([drive[0].stamp_ns, drive[1].stamp_ns]) == 100_000_000
    assert 55 <= ring_indices(frame.points)[-1] + 1 <= 64


def test_a_folder_that_takes_no_files_is_named_itself():
    """And not the temporary file by which that is found out."""
    from dmd3c_ros.io.atomic import check_folder

    with pytest.raises(OSError, match=r"cannot be written to.*'/proc'$"):
        check_folder('/proc')
