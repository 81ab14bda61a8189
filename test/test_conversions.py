"""Messages <-> arrays: every layout and encoding a driver may send, and what must be refused."""

import array
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.messages import decoding
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info
from dmd3c_ros.messages.clouds import cloud_to_points, depth_to_cloud, points_to_cloud
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.images import (
    color_map,
    depth_from_image,
    depth_to_image,
    float_to_image,
    overlay,
    rgb_to_image,
)

XYZ = np.array([[1, 2, 3], [-4, 5, 6], [7, -8, 9], [0.5, 0.25, -1]], np.float32)


def header() -> Header:
    message = Header(frame_id='lens')
    message.stamp.sec, message.stamp.nanosec = 12, 345
    return message


def cloud_of(points, dtype, *, shape=None, padding=0, big=False) -> PointCloud2:
    """A cloud of the structured dtype (x, y, z and more), with bytes of padding after each row."""
    height, width = shape or (1, len(points))
    records = np.zeros(len(points), dtype)
    for axis, name in enumerate('xyz'):
        records[name] = points[:, axis]
    rows = records.reshape(height, width).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    cloud = PointCloud2(header=header(), height=height, width=width, is_bigendian=big)
    cloud.point_step, cloud.row_step = records.dtype.itemsize, rows.shape[1]
    codes = {'f4': 7, 'f8': 8, 'u2': 4, 'u1': 2}
    cloud.fields = [
        PointField(name=name, offset=offset, datatype=codes[kind.str[1:]], count=1)
        for name, (kind, offset) in records.dtype.fields.items()
    ]
    cloud.data = array.array('B', rows.tobytes())
    return cloud


LAYOUTS = {
    'packed float32': {'names': ['x', 'y', 'z'], 'formats': ['<f4'] * 3},
    'with intensity': {'names': ['x', 'y', 'z', 'i'], 'formats': ['<f4'] * 4},
    'unaligned extra fields': {
        'names': ['ring', 'z', 'y', 'x', 'flag'],
        'formats': ['<u2', '<f4', '<f4', '<f4', 'u1'],
        'offsets': [0, 2, 6, 10, 14],
        'itemsize': 17,
    },
    'float64': {'names': ['x', 'y', 'z'], 'formats': ['<f8'] * 3},
    'pcl padding': {
        'names': ['x', 'y', 'z', 'i'],
        'formats': ['<f4'] * 4,
        'offsets': [0, 4, 8, 16],
        'itemsize': 32,
    },
}


@pytest.mark.parametrize('layout', LAYOUTS.values(), ids=LAYOUTS.keys())
def test_clouds_of_every_layout_give_the_same_points(layout):
    points = cloud_to_points(cloud_of(XYZ, np.dtype(layout)))
    assert points.dtype == np.float32 and points.flags.c_contiguous
    np.testing.assert_array_equal(points, XYZ)


@pytest.mark.parametrize('kind', ['>f4', '>f8'])
def test_big_endian_clouds_are_read(kind):
    dtype = np.dtype({'names': ['x', 'y', 'z'], 'formats': [kind] * 3})
    cloud = cloud_of(XYZ, dtype, big=True)
    np.testing.assert_array_equal(cloud_to_points(cloud), XYZ)


def test_an_organised_cloud_with_padded_rows_is_read_row_by_row():
    dtype = np.dtype({'names': ['x', 'y', 'z'], 'formats': ['<f4'] * 3})
    cloud = cloud_of(XYZ, dtype, shape=(2, 2), padding=7)
    np.testing.assert_array_equal(cloud_to_points(cloud), XYZ)


def test_a_wrong_row_step_of_a_single_row_does_not_matter():
    cloud = cloud_of(XYZ, np.dtype(LAYOUTS['packed float32']))
    cloud.row_step = 0
    np.testing.assert_array_equal(cloud_to_points(cloud), XYZ)


def test_invalid_and_missing_returns_are_left_out():
    points = XYZ.copy()
    points[0, 1], points[1], points[2, 2] = np.nan, 0, np.inf
    cloud = cloud_of(points, np.dtype(LAYOUTS['packed float32']))
    np.testing.assert_array_equal(cloud_to_points(cloud), XYZ[3:])


def _broken_clouds():
    def cloud(**changes):
        message = cloud_of(
            XYZ, np.dtype(LAYOUTS['with intensity']), shape=changes.pop('shape', None)
        )
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    field = PointField(name='x', offset=0, datatype=PointField.FLOAT32, count=1)
    integers = [PointField(name=n, offset=4 * i, datatype=5, count=1) for i, n in enumerate('xyz')]
    yield 'expected some points, got 0x1', cloud(width=0)
    yield 'expected fields x, y and z, got x', cloud(fields=[field])
    yield 'expected fields x, y and z, got none', cloud(fields=[])
    yield 'got INT32, INT32, INT32', cloud(fields=integers)
    yield 'expected 64 bytes for 4x1 points, got 63', cloud(data=array.array('B', bytes(63)))
    yield 'expected point_step >= 12', cloud(point_step=8)
    yield 'expected row_step >= 32, got 16', cloud(shape=(2, 2), row_step=16)
    yield 'expected valid points, got 4', cloud(data=array.array('B', b'\xff' * 64))


@pytest.mark.parametrize(
    ('text', 'cloud'), tuple(_broken_clouds()), ids=lambda value: str(value)[:40]
)
def test_broken_clouds_are_refused_with_what_came(text, cloud):
    with pytest.raises(MessageError, match=text):
        cloud_to_points(cloud)


def test_a_full_sweep_converts_in_a_few_milliseconds():
    points = np.random.default_rng(0).normal(size=(114_000, 4)).astype(np.float32)
    cloud = points_to_cloud(points, header(), ('x', 'y', 'z', 'intensity'))
    times = []
    for _ in range(10):
        start = time.perf_counter()
        cloud_to_points(cloud)
        times.append(time.perf_counter() - start)
    # About 1 ms on an idle core; a loop over the points would take a hundred times as long.
    assert min(times) < 10e-3


def test_points_survive_the_way_out_and_back():
    cloud = points_to_cloud(XYZ, header())
    assert cloud.header == header()
    assert cloud.row_step * cloud.height == len(cloud.data)
    assert cloud.is_dense
    np.testing.assert_array_equal(cloud_to_points(cloud), XYZ)
    with pytest.raises(ValueError, match=r'expected \(N, 3\), got \(4, 2\)'):
        points_to_cloud(XYZ[:, :2], header())


# ---------------------------------------------------------------------------- images

RGB = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def image_of(pixels, encoding, *, padding=0, height=None) -> Image:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    image = Image(header=header(), height=height or len(pixels), width=pixels.shape[1])
    image.encoding, image.step = encoding, rows.shape[1]
    image.is_bigendian = int(pixels.dtype.byteorder == '>')
    image.data = array.array('B', rows.tobytes())
    return image


def _color_images():
    bgr = RGB[..., ::-1]
    alpha = np.full((4, 6, 1), 200, np.uint8)
    wide = RGB.astype(np.uint16) * 257
    yield 'rgb8', RGB
    yield 'bgr8', bgr
    yield '8UC3', bgr
    yield 'rgba8', np.dstack([RGB, alpha])
    yield 'bgra8', np.dstack([bgr, alpha])
    yield '8UC4', np.dstack([bgr, alpha])
    yield 'rgb16', wide
    yield 'bgr16', wide[..., ::-1]
    yield '16UC3', wide[..., ::-1]
    yield 'rgb16', wide.astype('>u2')


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(('encoding', 'pixels'), tuple(_color_images()))
def test_colour_encodings_give_rgb(encoding, pixels, padding):
    padding *= pixels.dtype.itemsize
    rgb = image_to_rgb(image_of(pixels, encoding, padding=padding))
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, RGB)


@pytest.mark.parametrize(
    ('encoding', 'dtype'), [('mono8', 'u1'), ('8UC1', 'u1'), ('mono16', '<u2'), ('16UC1', '>u2')]
)
def test_grey_encodings_give_equal_channels(encoding, dtype):
    grey = RGB[..., 0].astype(dtype) * (1 if dtype == 'u1' else 257)
    rgb = image_to_rgb(image_of(grey.astype(dtype), encoding, padding=4))
    np.testing.assert_array_equal(rgb, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('order', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_patterns_keep_red_red_and_blue_blue(order, bits):
    color = {'r': 200, 'g': 100, 'b': 50}
    tile = np.array([color[name] for name in order], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 4))
    if bits == 16:
        mosaic = mosaic.astype(np.uint16) * 257
    rgb = image_to_rgb(image_of(mosaic, f'bayer_{order}{bits}'))
    np.testing.assert_allclose(rgb[2:-2, 2:-2].reshape(-1, 3), [[200, 100, 50]] * 16, atol=1)


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'])
def test_yuv_encodings_give_the_colour_back(encoding):
    rgb = np.full((4, 6, 3), (200, 80, 40), np.uint8)
    y, u, v = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)[0, 0]
    # OpenCV's full-range luma against the video range of packed YUV.
    y = np.uint8(16 + int(y) * 219 / 255)
    u, v = (np.uint8(128 + (int(c) - 128) * s) for c, s in ((u, 0.88), (v, 0.80)))
    if encoding.startswith('nv'):
        chroma = [u, v] if encoding == 'nv12' else [v, u]
        pixels = np.vstack([np.full((4, 6), y), np.tile(np.array(chroma, np.uint8), (2, 3))])
        image = image_of(pixels, encoding, height=4)
    else:
        pair = [u, y, v, y] if encoding in ('yuv422', 'uyvy') else [y, u, y, v]
        image = image_of(np.tile(np.array(pair, np.uint8), (4, 3)).reshape(4, 6, 2), encoding)
    got = image_to_rgb(image)
    assert got.shape == (4, 6, 3)
    np.testing.assert_allclose(got.astype(int), rgb.astype(int), atol=25)


def test_an_unpadded_rgb8_image_is_not_copied():
    image = image_of(RGB, 'rgb8')
    assert np.shares_memory(image_to_rgb(image), np.frombuffer(image.data, np.uint8))


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'encoding': '32FC1'}, "expected a colour or grey encoding, got '32FC1'"),
        ({'encoding': 'jpeg'}, "got 'jpeg'"),
        ({'encoding': ''}, "got ''"),
        ({'width': 0}, 'expected some pixels, got 0x4'),
        ({'step': 17}, 'expected step >= 18 for 6 pixels rgb8, got 17'),
        ({'height': 5}, 'expected 90 bytes for 6x5 rgb8, got 72'),
        ({'encoding': 'nv12', 'height': 3, 'width': 5}, '5x3 nv12 cannot be decoded'),
    ],
)
def test_broken_images_are_refused_with_what_came(changes, text):
    image = image_of(RGB, 'rgb8')
    for name, value in changes.items():
        setattr(image, name, value)
    with pytest.raises(MessageError, match=text):
        image_to_rgb(image)


@pytest.mark.parametrize(
    ('body', 'reason'),
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", 'multiarray failed'),
        ('import os; os.abort()', 'exit status'),
    ],
    ids=['compiled for another NumPy', 'crashing'],
)
def test_a_cv_bridge_that_does_not_work_is_passed_over(tmp_path, body, reason):
    (tmp_path / 'cv_bridge.py').write_text(body)
    script = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'import os; os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)\n'
        'from dmd3c_ros.messages.decoding import cv_bridge_fault, image_decoder\n'
        'print(image_decoder()[0], "|", cv_bridge_fault())\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith('rosbags-image')
    assert reason in result.stdout


def test_a_cv_bridge_that_works_is_preferred(tmp_path, monkeypatch):
    (tmp_path / 'cv_bridge.py').write_text(
        'import numpy as np\n'
        'class CvBridge:\n'
        '    def imgmsg_to_cv2(self, image, encoding):\n'
        '        assert encoding == "rgb8"\n'
        '        flat = np.frombuffer(image.data, np.uint8)\n'
        '        return flat.reshape(image.height, image.width, -1)[..., ::-1][..., -3:]\n'
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    decoding.image_decoder.cache_clear()
    decoding.cv_bridge_fault.cache_clear()
    try:
        assert decoding.image_decoder()[0] == 'cv_bridge'
    finally:
        decoding.image_decoder.cache_clear()
        decoding.cv_bridge_fault.cache_clear()
        sys.modules.pop('cv_bridge', None)


# ---------------------------------------------------------------------------- depth


def test_depth_in_metres_marks_unknown_with_nan():
    depth = np.array([[0, 1.5], [np.nan, 80.25]], np.float32)
    image = depth_to_image(depth, header())
    assert (image.encoding, image.step, image.header) == ('32FC1', 8, header())
    values = np.frombuffer(image.data, np.float32)
    np.testing.assert_array_equal(values, [np.nan, 1.5, np.nan, 80.25])
    np.testing.assert_array_equal(depth_from_image(image), [[0, 1.5], [0, 80.25]])


def test_depth_in_millimetres_marks_unknown_and_too_far_with_zero():
    depth = np.array([[0, 1.2344], [np.nan, 65.535], [65.6, 200]], np.float32)
    image = depth_to_image(depth, header(), '16UC1')
    values = np.frombuffer(image.data, np.uint16)
    np.testing.assert_array_equal(values, [0, 1234, 0, 65535, 0, 0])
    np.testing.assert_allclose(
        depth_from_image(image), [[0, 1.234], [0, 65.535], [0, 0]], atol=1e-5
    )


def test_an_unknown_depth_encoding_is_an_error():
    with pytest.raises(ValueError, match='expected 32FC1 or 16UC1'):
        depth_to_image(np.ones((2, 2), np.float32), header(), '64FC1')
    with pytest.raises(MessageError, match="got 'rgb8'"):
        depth_from_image(image_of(RGB, 'rgb8'))


@pytest.mark.parametrize('dtype', ['<f4', '>f4'])
def test_padded_and_big_endian_depth_is_read(dtype):
    depth = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    image = image_of(depth, '32FC1', padding=8)
    np.testing.assert_array_equal(depth_from_image(image), depth.astype('f4'))


def test_a_coloured_cloud_is_organised_and_projects_back_onto_its_pixels():
    R = cv2.Rodrigues(np.array([0.02, -0.01, 0.03]))[0]
    P = np.array([[500, 0, 3.2, 40], [0, 510, 2.1, 0.2], [0, 0, 1, 0.003]])
    camera = Camera.from_matrices(P, 6, 4, R)
    depth = np.linspace(5, 50, 24, dtype=np.float32).reshape(4, 6)
    depth[2, 3] = 0
    cloud = depth_to_cloud(depth, RGB, camera, header())
    assert (cloud.height, cloud.width, cloud.is_dense) == (4, 6, False)
    assert cloud.row_step * cloud.height == len(cloud.data)
    values = np.frombuffer(cloud.data, np.float32).reshape(4, 6, 4)
    assert np.isnan(values[2, 3, :3]).all()
    known = depth > 0
    uv, z = camera.rectified.project(values[known][:, :3])
    np.testing.assert_allclose(z, depth[known], rtol=1e-5)
    np.testing.assert_allclose(uv, np.argwhere(known)[:, ::-1], atol=1e-2)
    packed = values.view(np.uint32)[..., 3]
    unpacked = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)
    np.testing.assert_array_equal(unpacked, RGB)


def test_a_bright_point_is_no_nan_to_a_reader_of_the_colour():
    white = np.full((4, 6, 3), 255, np.uint8)
    camera = Camera.from_K(np.diag([100.0, 100, 1]), 6, 4)
    cloud = depth_to_cloud(np.ones((4, 6), np.float32), white, camera, header())
    assert np.isfinite(np.frombuffer(cloud.data, np.float32)).all()
    assert cloud.is_dense


def test_the_colour_map_is_black_where_unknown_and_clear_of_the_range():
    depth = np.array([[0, np.nan, 0.1, 1, 80, 900]], np.float32)
    colors = color_map(depth, 1.0, 80.0)[0].astype(int)
    assert colors[:2].max() == 0
    near, far = colors[3], colors[4]
    assert near[0] > near[2] and far[2] > far[0]
    np.testing.assert_array_equal(colors[2], near)
    np.testing.assert_array_equal(colors[5], far)


def test_points_are_drawn_over_the_image_the_nearest_in_front():
    rgb = np.full((60, 1200, 3), 100, np.uint8)
    sparse = np.zeros((60, 1200), np.float32)
    sparse[30, 100], sparse[30, 102], sparse[10, 600] = 40.0, 5.0, 20.0
    drawn = overlay(rgb, sparse, 1.0, 80.0)
    near, far = (color_map(np.array([[z]], np.float32), 1.0, 80.0)[0, 0] for z in (5.0, 40.0))
    assert (drawn[30, 101:104] == near).all() and (drawn[30, 99:101] == far).all()
    assert (drawn != 100).any(-1).sum() == 9 + 15
    assert (rgb == 100).all()


# ---------------------------------------------------------------------------- cameras


def calibrated() -> CameraInfo:
    info = CameraInfo(header=header(), height=375, width=1242)
    info.p = [721.5, 0.0, 609.5, 44.8, 0.0, 721.5, 172.8, 0.2, 0.0, 0.0, 1.0, 0.003]
    info.k = [700.0, 0.0, 600.0, 0.0, 700.0, 170.0, 0.0, 0.0, 1.0]
    info.r = np.eye(3).ravel().tolist()
    return info


def test_camera_info_gives_the_rectified_camera_and_back():
    camera = camera_from_info(calibrated())
    assert (camera.width, camera.height, camera.fx, camera.P[0, 3]) == (1242, 375, 721.5, 44.8)
    again = camera_from_info(camera_to_info(camera, header()))
    np.testing.assert_array_equal(again.P, camera.P)
    np.testing.assert_array_equal(again.R, camera.R)


def test_binning_and_region_of_interest_change_size_and_principal_point():
    info = calibrated()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 50, 800, 300
    info.binning_x = info.binning_y = 2
    camera = camera_from_info(info)
    assert (camera.width, camera.height) == (400, 150)
    assert camera.fx == pytest.approx(721.5 / 2)
    assert camera.cx == pytest.approx((609.5 - 100 + 0.5) / 2 - 0.5)


def test_k_stands_in_for_an_empty_p_only_without_distortion():
    info = calibrated()
    info.p = [0.0] * 12
    assert camera_from_info(info).fx == 700
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    with pytest.raises(MessageError, match='not calibrated'):
        camera_from_info(info)


@pytest.mark.parametrize('change', ['empty', 'no size', 'not finite'])
def test_an_uncalibrated_camera_is_refused(change):
    info = CameraInfo(height=375, width=1242) if change == 'empty' else calibrated()
    if change == 'no size':
        info.width = 0
    if change == 'not finite':
        info.p = [np.nan] * 12
    with pytest.raises(MessageError, match='camera_info: camera'):
        camera_from_info(info)


def test_message_data_are_arrays_that_rclpy_takes_in_bulk():
    depth = np.ones((4, 6), np.float32)
    camera = Camera.from_K(np.diag([100.0, 100, 1]), 6, 4)
    for message in (
        depth_to_image(depth, header()),
        rgb_to_image(RGB, header()),
        float_to_image(depth, header()),
        points_to_cloud(XYZ, header()),
        depth_to_cloud(depth, RGB, camera, header()),
    ):
        assert isinstance(message.data, array.array) and message.data.typecode == 'B'
