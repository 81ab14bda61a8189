"""Messages with absurd fields: refused with a reason, whatever they say and ask for."""

import resource
import time

import numpy as np
import pytest

from dmd3c_ros.benchmarks.soak.garbage import garbage_cloud, garbage_image, garbage_info
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.messages.cameras import camera_from_info, camera_to_info
from dmd3c_ros.messages.clouds import cloud_to_points, points_to_cloud
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.errors import MessageError
from dmd3c_ros.messages.images import depth_from_image, rgb_to_image
from dmd3c_ros.messages.types import Header
from dmd3c_ros.pipeline.rectification import ImageRectifier

WIDTH, HEIGHT = 16, 12
CAMERA = Camera.from_K(np.array([[20, 0, 8], [0, 20, 6], [0, 0, 1.0]]), WIDTH, HEIGHT)
T = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
HEADER = Header(frame_id='lens')
CASES = 1000


def good_image():
    return rgb_to_image(np.full((HEIGHT, WIDTH, 3), 7, np.uint8), HEADER)


def good_cloud():
    y, z = np.meshgrid(np.linspace(-4, 4, 9), np.linspace(-3, 3, 7))
    points = np.stack([np.full(y.size, 10.0), y.ravel(), z.ravel(), y.ravel()], 1)
    return points_to_cloud(points.astype(np.float32), HEADER, ('x', 'y', 'z', 'intensity'))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def refused(use, cases: int = CASES) -> float:
    """Share of the cases that raise MessageError; nothing else may come, nor take long."""
    count, before = 0, peak_mb()
    for case in range(cases):
        rng = np.random.default_rng(case)
        start = time.process_time()
        try:
            use(rng)
        except MessageError as error:
            assert str(error)
            count += 1
        assert time.process_time() - start < 1.0, f'case {case}'
    assert peak_mb() - before < 300
    return count / cases


@pytest.mark.filterwarnings('error')
def test_absurd_images_are_decoded_or_refused():
    def use(rng):
        image = garbage_image(rng, good_image())
        rgb = image_to_rgb(image)
        assert rgb.shape == (image.height, image.width, 3)
        assert rgb.dtype == np.uint8

    assert 0.3 < refused(use) < 0.95


@pytest.mark.filterwarnings('error')
def test_absurd_depth_images_are_read_or_refused():
    def use(rng):
        image = garbage_image(rng, good_image())
        image.encoding = rng.choice(['32FC1', '16UC1'])
        depth = depth_from_image(image)
        assert depth.shape == (image.height, image.width)
        assert (depth >= 0).all() and np.isfinite(depth).all()

    assert 0.1 < refused(use) < 0.95


@pytest.mark.filterwarnings('error')
def test_absurd_clouds_are_read_or_refused():
    def use(rng):
        points = cloud_to_points(garbage_cloud(rng, good_cloud()))
        assert points.ndim == 2 and points.shape[1] == 3 and len(points)
        assert np.isfinite(points).all()

    assert 0.3 < refused(use) < 0.95


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('rectify', [False, True])
def test_absurd_calibrations_give_a_camera_or_are_refused(rectify):
    reader = ImageRectifier(rectify, 'image')

    def use(rng):
        info = garbage_info(rng, camera_to_info(CAMERA, HEADER))
        camera_from_info(info, rectify=rectify)
        reader.read(image_to_rgb(good_image()), info, HEADER)

    assert 0.3 < refused(use, 400) < 0.99


@pytest.mark.filterwarnings('error')
def test_what_is_read_of_absurd_messages_can_be_projected():
    def use(rng):
        cloud, info = good_cloud(), camera_to_info(CAMERA, HEADER)
        if rng.random() < 0.7:
            cloud = garbage_cloud(rng, cloud)
        if rng.random() < 0.7:
            info = garbage_info(rng, info)
        camera = camera_from_info(info)
        if (camera.height, camera.width) != (HEIGHT, WIDTH):
            raise MessageError('as the node checks')
        sparse = project_points(cloud_to_points(cloud), T, camera)
        assert (sparse >= 0).all() and np.isfinite(sparse).all()
        assert np.isfinite(remove_hidden_points(sparse)).all()

    assert 0.3 < refused(use) < 0.99


CLAIMS = {
    'four billion points': ('cloud', {'width': 2**32 - 1}),
    'as many in rows': ('cloud', {'width': 65536, 'height': 65536}),
    'points of no bytes': ('cloud', {'point_step': 0, 'width': 2**32 - 1}),
    'rows of no bytes': ('cloud', {'row_step': 0, 'height': 2**32 - 1}),
    'an image of a million by a million': ('image', {'width': 10**6, 'height': 10**6}),
    'pixels of no bytes': ('image', {'step': 0, 'height': 2**32 - 1}),
}


@pytest.mark.parametrize(('kind', 'changes'), CLAIMS.values(), ids=CLAIMS)
def test_a_claim_that_the_data_do_not_keep_costs_nothing(kind, changes):
    message = good_cloud() if kind == 'cloud' else good_image()
    for name, value in changes.items():
        setattr(message, name, value)
    before, start = peak_mb(), time.process_time()
    with pytest.raises(MessageError, match='expected'):
        cloud_to_points(message) if kind == 'cloud' else image_to_rgb(message)
    assert time.process_time() - start < 0.1
    assert peak_mb() - before < 10
