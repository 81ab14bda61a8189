"""Raw images become rectified ones in which points lie where the camera model says."""

import cv2
import distorted_camera as bent
import numpy as np
import pytest
from distorted_camera import EQUIDISTANT, MODELS, PLUMB_BOB

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.completer import Completion
from dmd3c_ros.core.distortion import Distortion, Rectifier
from dmd3c_ros.io.calibration import read_distortion
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info, distortion_from_info
from dmd3c_ros.messages.decoding import compressed_to_rgb
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.types import Header
from dmd3c_ros.pipeline.rectification import ImageRectifier

HEADER = Header(frame_id='lens')


def of_opencv(distortion) -> Distortion:
    return Distortion(distortion.model, bent.K, distortion.D)


def info_of(camera: Camera, distortion=PLUMB_BOB):
    return camera_to_info(camera, HEADER, of_opencv(distortion))


@pytest.mark.parametrize('degrees', [0.0, 3.0], ids=['straight', 'turned'])
@pytest.mark.parametrize('distortion', MODELS, ids=lambda distortion: distortion.model)
def test_every_point_is_seen_where_the_rectified_camera_projects_it(distortion, degrees):
    camera = bent.rectified(bent.turned(degrees))
    points = bent.points_ahead(camera)
    raw, straight = bent.raw_pixels(points, distortion), camera.project(points)[0]
    assert np.abs(raw - straight).max() > 5, 'the lens bends too little to tell'
    shown = Rectifier(of_opencv(distortion), camera)(bent.image_of(raw))
    off = [np.hypot(*(bent.spot_at(shown, pixel) - pixel)) for pixel in straight]
    assert len(off) > 15
    assert max(off) < 0.1


def test_what_the_raw_image_does_not_show_is_black_and_unknown():
    wide = Camera.from_K(np.array([[40.0, 0, 80], [0, 40, 60], [0, 0, 1]]), 160, 120)
    reader = ImageRectifier(True, 'image_raw')
    rectified = reader.read(np.full((120, 160, 3), 200, np.uint8), info_of(wide), HEADER)
    assert 0.1 < rectified.visible.mean() < 0.9
    assert rectified.visible[60, 80]
    # At the rim a pixel is a mean of the raw image's last one and nothing.
    assert rectified.rgb[~rectified.visible].max() <= 100
    assert np.median(rectified.rgb[~rectified.visible]) == 0
    full = np.ones((120, 160), np.float32)
    depth, confidence = rectified.masked(Completion(full, full))
    np.testing.assert_array_equal(depth > 0, rectified.visible)
    np.testing.assert_array_equal(confidence > 0, rectified.visible)


def test_camera_info_of_the_outputs_is_that_of_the_rectified_image():
    camera = bent.rectified()
    info = ImageRectifier(True, 'image_raw').read(np.zeros((120, 160, 3), np.uint8),
                                                 info_of(camera), HEADER).info  # fmt: skip
    assert not any(info.d)
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), camera.K)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4)), camera.P)
    assert info.header == HEADER


def test_maps_are_made_once_and_again_when_the_calibration_changes(monkeypatch):
    made = []
    maps = Distortion.maps
    monkeypatch.setattr(Distortion, 'maps', lambda *given: made.append(1) or maps(*given))
    reader = ImageRectifier(True, 'image_raw')
    rgb = np.zeros((120, 160, 3), np.uint8)
    first = info_of(bent.rectified())
    for number in range(3):
        first.header = Header(frame_id=f'lens{number}')
        reader.read(rgb, first, HEADER)
    assert len(made) == 1
    reader.read(rgb, info_of(bent.rectified(), EQUIDISTANT), HEADER)
    assert len(made) == 2


@pytest.mark.parametrize(
    ('x', 'y', 'columns', 'rows', 'bins'),
    [(20, 10, 120, 90, 1), (0, 0, 160, 120, 2), (24, 12, 100, 96, 2)],
)
def test_a_window_and_binning_rectify_to_the_same_part_of_the_image(x, y, columns, rows, bins):
    camera = bent.rectified()
    points = bent.points_ahead(camera)
    raw = bent.image_of(bent.raw_pixels(points, PLUMB_BOB))[y : y + rows, x : x + columns]
    raw = cv2.resize(raw, (columns // bins, rows // bins), interpolation=cv2.INTER_AREA)
    info = info_of(camera)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = x, y, columns, rows
    info.binning_x = info.binning_y = bins
    rectified = ImageRectifier(True, 'image_raw').read(raw, info, HEADER)
    assert (rectified.camera.width, rectified.camera.height) == (columns // bins, rows // bins)
    expected = rectified.camera.project(points)[0]
    inside = (expected > 8).all(1) & (expected < np.array([columns, rows]) / bins - 9).all(1)
    assert inside.sum() > 2
    reach = 7 // bins
    for pixel in expected[inside]:
        assert np.hypot(*(bent.spot_at(rectified.rgb, pixel, reach) - pixel)) < 0.15


@pytest.mark.parametrize(
    ('column', 'degrees', 'text'),
    [(-44.0, 0.0, 'lies 0.500 m and 0.00 degrees from'), (0.0, 3.0, '0.000 m and 3.00 degrees')],
)
def test_a_camera_that_lies_off_its_frame_is_told_of_once(column, degrees, text, caplog):
    camera = bent.rectified(bent.turned(degrees))
    info = info_of(camera)
    info.p[3] = column
    reader = ImageRectifier(True, 'image_raw')
    for shift in range(2):
        info.p[2] += shift
        reader.read(np.zeros((120, 160, 3), np.uint8), info, HEADER)
    assert caplog.text.count(text) == 1


def test_a_camera_in_its_own_frame_needs_no_word(caplog):
    info = info_of(bent.rectified())
    ImageRectifier(True, 'image_raw').read(np.zeros((120, 160, 3), np.uint8), info, HEADER)
    assert not caplog.text


def test_an_empty_p_is_taken_from_k_for_a_raw_image():
    info = info_of(bent.rectified())
    info.p, info.r = [0.0] * 12, [0.0] * 9
    with pytest.raises(MessageError, match='not calibrated'):
        camera_from_info(info)
    np.testing.assert_allclose(camera_from_info(info, rectify=True).K, bent.K)


def test_an_image_of_a_straight_lens_is_not_touched():
    camera = bent.rectified()
    distortion = Distortion('plumb_bob', camera.K, (0.0,) * 5)
    rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert Rectifier(distortion, camera)(rgb) is rgb
    # A fisheye with all coefficients 0 bends nevertheless.
    assert Rectifier(Distortion('equidistant', camera.K, (0.0,) * 4), camera)(rgb) is not rgb


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'distortion_model': 'bendy'}, "expected one of the models plumb_bob, .* got 'bendy'"),
        ({'d': [0.1, 0.2]}, 'expected 4 or 5 coefficients of plumb_bob, got 2'),
        ({'d': [np.nan] * 5}, 'expected finite numbers'),
        ({'k': [0.0] * 9}, 'not calibrated'),
    ],
)
def test_a_lens_that_nobody_knows_is_refused_with_what_came(changes, text):
    info = info_of(bent.rectified())
    for name, value in changes.items():
        setattr(info, name, value)
    with pytest.raises(MessageError, match=text):
        distortion_from_info(info)


@pytest.mark.parametrize(
    ('rectify', 'topic', 'text'),
    [
        (False, '/cam/image_raw', 'is assumed to be rectified'),
        (True, '/cam/image_rect', 'suggests that it is already rectified'),
        (False, '/cam/image_rect', None),
        (True, '/cam/image_raw', None),
    ],
)
def test_a_setting_that_the_topics_name_contradicts_is_warned_about_once(
    caplog, rectify, topic, text
):
    reader = ImageRectifier(rectify, topic)
    for distortion in (PLUMB_BOB, PLUMB_BOB._replace(D=(-0.1, 0, 0, 0, 0))):
        reader.read(np.zeros((120, 160, 3), np.uint8), info_of(bent.rectified(), distortion),
                    HEADER)  # fmt: skip
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (text is not None)
    assert all(text in message and topic in message for message in messages)


def test_the_lens_is_read_from_a_ros_calibration_file(tmp_path):
    path = tmp_path / 'camera.yaml'
    path.write_text(
        f'camera_matrix: {{rows: 3, cols: 3, data: {bent.K.ravel().tolist()}}}\n'
        'distortion_model: equidistant\n'
        f'distortion_coefficients: {{rows: 1, cols: 4, data: {list(EQUIDISTANT.D)}}}\n'
    )
    distortion = read_distortion(path)
    assert (distortion.model, distortion.D) == EQUIDISTANT
    np.testing.assert_array_equal(distortion.K, bent.K)
    assert read_distortion(tmp_path / 'K.txt') is None


# ---------------------------------------------------------------------------- compressed images


class Compressed:
    """The fields of sensor_msgs/CompressedImage that count."""

    def __init__(self, format: str, data: bytes) -> None:
        self.format, self.data = format, np.frombuffer(data, np.uint8)


def smooth() -> np.ndarray:
    """An image (H, W, 3) RGB that JPEG keeps well."""
    v, u = np.mgrid[:48, :64]
    return np.stack([4 * u, 5 * v, 255 - 3 * u], axis=-1).clip(0, 255).astype(np.uint8)


def packed(suffix: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


RGB = smooth()
GREY = np.repeat(RGB[..., :1], 3, axis=2)
BGRA = cv2.cvtColor(RGB, cv2.COLOR_RGB2BGRA)
WIDE = RGB.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ('format', 'data', 'expected'),
    [
        ('jpeg', packed('.jpg', RGB[..., ::-1]), RGB),
        ('rgb8; jpeg compressed bgr8', packed('.jpg', RGB[..., ::-1]), RGB),
        ('rgb8; png compressed rgb8', packed('.png', RGB), RGB),
        ('bgra8; png compressed bgra8', packed('.png', BGRA), RGB),
        ('mono8; jpeg compressed ', packed('.jpg', RGB[..., 0]), GREY),
        ('mono16; png compressed ', packed('.png', WIDE[..., 0]), GREY),
        ('bgr16; png compressed bgr16', packed('.png', WIDE[..., ::-1]), RGB),
    ],
)  # fmt: skip
def test_compressed_images_of_every_kind_give_rgb(format, data, expected):
    rgb = compressed_to_rgb(Compressed(format, data))
    assert rgb.dtype == np.uint8 and rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - expected).max() <= (0 if 'png' in format else 8)


@pytest.mark.parametrize('bits', [8, 16])
def test_a_compressed_mosaic_gets_its_colours_back(bits):
    tile = np.array([[200, 100], [100, 50]], np.uint16)
    mosaic = np.tile(tile, (8, 8)) * (257 if bits == 16 else 1)
    data = packed('.png', mosaic.astype(f'u{bits // 8}'))
    rgb = compressed_to_rgb(Compressed(f'bayer_rggb{bits}; png compressed ', data))
    np.testing.assert_allclose(rgb[4:-4, 4:-4].reshape(-1, 3), [[200, 100, 50]] * 64, atol=1)


@pytest.mark.parametrize(
    ('format', 'data', 'text'),
    [
        ('jpeg', b'', "0 bytes of 'jpeg' cannot be decoded"),
        ('jpeg', b'no image at all', 'cannot be decoded'),
        ('jpeg', packed('.jpg', RGB)[:20], 'cannot be decoded'),
        ('16UC1; compressedDepth png', packed('.png', WIDE[..., 0]), 'an image, got depth'),
        ('32FC1; tiff', packed('.tiff', RGB.astype(np.float32)), 'cannot be decoded'),
    ],
)  # fmt: skip
def test_what_is_no_compressed_image_is_refused(format, data, text):
    with pytest.raises(MessageError, match=text):
        compressed_to_rgb(Compressed(format, data))
