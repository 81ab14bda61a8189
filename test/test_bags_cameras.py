"""Recordings of raw, distorted and compressed images, completed as the node does."""

import cv2
import distorted_camera as bent
import numpy as np
import pytest
from bag_data import PERIOD_NS, START_NS, decoded, header
from commands import invoke
from distorted_camera import PLUMB_BOB

from dmd3c_ros.bags.selection import CLOUD, COMPRESSED, IMAGE, INFO
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.distortion import Distortion
from dmd3c_ros.io.depth_png import read_depth_png
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.images import depth_from_image, rgb_to_image

CAMERA = bent.rectified(bent.turned(2))
POINTS = bent.points_ahead(CAMERA)
RAW_IMAGE = bent.image_of(bent.raw_pixels(POINTS, PLUMB_BOB))
DISTORTION = Distortion(PLUMB_BOB.model, bent.K, PLUMB_BOB.D)


def image_of(kind: str, head) -> tuple[str, str, object]:
    """Topic, type and message of a raw image."""
    if kind == IMAGE:
        return '/cam/image_raw', IMAGE, rgb_to_image(RAW_IMAGE, head)
    data = np.frombuffer(cv2.imencode('.png', RAW_IMAGE)[1].tobytes(), np.uint8)
    message = {'header': head, 'format': 'bgr8; png compressed bgr8', 'data': data}
    return '/cam/image_raw/compressed', COMPRESSED, message


def write(path, kind: str = IMAGE, frames: int = 2, infos: int | None = None):
    """A bag of a distorted camera and points in its own frame."""
    with BagWriter(path) as writer:
        if infos:
            writer.add_topic('/cam/camera_info', INFO, latched=True)
        for number in range(frames):
            stamp = START_NS + number * PERIOD_NS
            head = header(stamp, 'lens')
            topic, typename, image = image_of(kind, head)
            writer.write(topic, typename, stamp, image)
            if infos is None or number < infos:
                # One that comes once was published long before.
                seen = head if infos is None else header(START_NS - 10**12, 'lens')
                info = camera_to_info(CAMERA, seen, DISTORTION)
                writer.write('/cam/camera_info', INFO, stamp, info)
            cloud = points_to_cloud(POINTS.astype(np.float32), header(stamp, 'lens'))
            writer.write('/points', CLOUD, stamp, cloud)
    return path


def extrinsics(folder):
    path = folder / 'T.txt'
    np.savetxt(path, np.eye(4))
    return path


def assert_points_lie_on_their_spots(image: np.ndarray, depth: np.ndarray) -> None:
    pixels, z = CAMERA.project(POINTS)
    for pixel, metres in zip(pixels, z, strict=True):
        column, row = np.rint(pixel).astype(int)
        assert depth[row, column] == pytest.approx(metres, rel=1e-4)
        assert np.hypot(*(bent.spot_at(image, pixel) - pixel)) < 0.1


@pytest.mark.parametrize('infos', [1, 2], ids=['once', 'twice'])
def test_a_camera_info_that_was_kept_for_late_subscribers_serves_every_image(tmp_path, infos):
    text = invoke(
        *('complete', 'bag', write(tmp_path / 'in', frames=3, infos=infos), tmp_path / 'out'),
        *('--extrinsics', extrinsics(tmp_path), '--model', 'nearest', '--rectify'),
    )
    assert '3 sets, 3 frames completed' in text
    assert len(decoded(tmp_path / 'out', '/depth_registered/camera_info')) == 3


@pytest.mark.parametrize('kind', [IMAGE, COMPRESSED])
def test_a_raw_recording_is_rectified_with_its_camera_info(tmp_path, kind):
    invoke(
        *('complete', 'bag', write(tmp_path / 'in', kind), tmp_path / 'out', '--rectify'),
        *('--extrinsics', extrinsics(tmp_path), '--model', 'nearest', '--keep-hidden-points'),
        '--preserve-lidar',
    )  # fmt: skip
    images = decoded(tmp_path / 'out', '/rectified/image_rect')
    depths = decoded(tmp_path / 'out', '/depth_registered/image_rect')
    infos = decoded(tmp_path / 'out', '/depth_registered/camera_info')
    beside = decoded(tmp_path / 'out', '/rectified/camera_info')
    assert len(images) == len(depths) == len(infos) == len(beside) == 2
    for image, depth, info in zip(images, depths, infos, strict=True):
        assert_points_lie_on_their_spots(image_to_rgb(image), depth_from_image(depth))
        assert not any(info.d)
        np.testing.assert_allclose(camera_from_info(info).P, CAMERA.P)


CALIBRATION = f"""
image_width: {CAMERA.width}
image_height: {CAMERA.height}
distortion_model: {PLUMB_BOB.model}
distortion_coefficients: {{rows: 1, cols: 5, data: {list(PLUMB_BOB.D)}}}
camera_matrix: {{rows: 3, cols: 3, data: {bent.K.ravel().tolist()}}}
rectification_matrix: {{rows: 3, cols: 3, data: {CAMERA.R.ravel().tolist()}}}
projection_matrix: {{rows: 3, cols: 4, data: {CAMERA.P.ravel().tolist()}}}
"""


def test_a_raw_recording_is_rectified_with_a_calibration_file(tmp_path):
    (tmp_path / 'camera.yaml').write_text(CALIBRATION)
    source = write(tmp_path / 'in', infos=0)
    invoke(
        *('complete', 'bag', source, tmp_path / 'out', '--rectify', '--model', 'nearest'),
        *('--extrinsics', extrinsics(tmp_path), '--camera-info', tmp_path / 'camera.yaml'),
        *('--keep-hidden-points', '--preserve-lidar'),
    )  # fmt: skip
    image = decoded(tmp_path / 'out', '/rectified/image_rect')[0]
    depth = decoded(tmp_path / 'out', '/depth_registered/image_rect')[0]
    assert_points_lie_on_their_spots(image_to_rgb(image), depth_from_image(depth))


def test_a_single_raw_image_is_rectified_with_a_calibration_file(tmp_path):
    (tmp_path / 'camera.yaml').write_text(CALIBRATION)
    cv2.imwrite(str(tmp_path / 'raw.png'), RAW_IMAGE)
    np.save(tmp_path / 'points.npy', POINTS.astype(np.float32))
    invoke(
        *('complete', 'one', tmp_path / 'raw.png', tmp_path / 'points.npy', '--rectify'),
        *('--intrinsics', tmp_path / 'camera.yaml', '--out', tmp_path / 'depth.png'),
        *('--model', 'nearest', '--keep-hidden-points', '--cloud', tmp_path / 'cloud.ply'),
    )
    depth = read_depth_png(tmp_path / 'depth.png')
    pixels, z = CAMERA.project(POINTS)
    column, row = np.rint(pixels).astype(int).T
    np.testing.assert_allclose(depth[row, column], z, atol=1 / 256)
