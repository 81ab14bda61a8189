"""`complete bag --all-cameras`: one pass over a recording, a namespace for each camera."""

import json

import numpy as np
import pytest
from bag_data import (
    CAMERA,
    HEIGHT,
    PERIOD_NS,
    START_NS,
    T_CAMERA_LIDAR,
    WIDTH,
    contents,
    decoded,
    header,
    wall,
)
from commands import complete

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.selection import CLOUD, IMAGE, INFO
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.transforms import quaternion_from_rotation
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import depth_from_image, float_to_image, rgb_to_image
from dmd3c_ros.messages.tf import TF_TYPE

pytestmark = pytest.mark.usefixtures('wide_terminal')

FRAMES = 3
# Distance of the wall from the LiDAR, and how far each camera stands before it.
WALL, AHEAD = 6.0, {'front': 0.5, 'rear': 1.5}
CAMERAS = ('/front/image_rect', '/rear/image_raw')
DEPTH = 'depth_registered/image_rect'


def transform_of(frame: str, ahead: float) -> dict:
    T = np.linalg.inv(T_CAMERA_LIDAR)
    x, y, z, w = quaternion_from_rotation(T[:3, :3]).tolist()
    pose = {'translation': {'x': ahead}, 'rotation': {'x': x, 'y': y, 'z': z, 'w': w}}
    return {'header': {'frame_id': 'lidar'}, 'child_frame_id': frame, 'transform': pose}


def write(path, images=CAMERAS, *, infos: bool = True, known: tuple[str, ...] = tuple(AHEAD)):
    """A recording with an image topic for each of `images`, of the camera that it is named by."""
    with BagWriter(path) as writer:
        transforms = {'transforms': [transform_of(name, AHEAD[name]) for name in known]}
        writer.write('/tf_static', TF_TYPE, START_NS, transforms)
        for number in range(FRAMES):
            stamp = START_NS + number * PERIOD_NS
            for image in images:
                _, name, _ = image.split('/', 2)
                head = header(stamp, name)
                rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
                writer.write(image, IMAGE, stamp, rgb_to_image(rgb, head))
                if infos:
                    beside = image.rsplit('/', 1)[0] + '/camera_info'
                    writer.write(beside, INFO, stamp, camera_to_info(CAMERA, head))
            cloud = points_to_cloud(wall(WALL)[:, :3], header(stamp, 'lidar'))
            writer.write('/points', CLOUD, stamp, cloud)
    return path


def test_every_camera_is_completed_in_its_own_namespace(tmp_path):
    bag = write(tmp_path / 'bag')
    output = complete(bag, tmp_path / 'out', '--all-cameras', '--report', tmp_path / 'r.json')
    for name, ahead in AHEAD.items():
        depths = [depth_from_image(m) for m in decoded(tmp_path / 'out', f'/{name}/{DEPTH}')]
        assert len(depths) == FRAMES
        for depth in depths:
            np.testing.assert_allclose(depth, WALL - ahead, rtol=1e-5)
        assert f'/{name} (/{name}/image_' in output
    assert output.count(f'{FRAMES} frames completed') == 2
    report = json.loads((tmp_path / 'r.json').read_text())
    assert {name: one['completed'] for name, one in report.items()} == {
        '/front': FRAMES,
        '/rear': FRAMES,
    }
    with Bag(bag) as old, Bag(tmp_path / 'out') as new:
        before, after = contents(old), contents(new)
    assert all(after[topic] == records for topic, records in before.items())


def test_the_recording_is_read_once(tmp_path, monkeypatch):
    bag, read = write(tmp_path / 'bag'), []
    records = Bag.records

    def counted(self, topics=None):
        read.append({topic.name for topic in topics} if topics is not None else 'all')
        return records(self, topics)

    monkeypatch.setattr(Bag, 'records', counted)
    complete(bag, tmp_path / 'out', '--all-cameras')
    assert read.count('all') == 1
    assert not any('/points' in names for names in read if names != 'all')


def test_only_new_and_a_prefix_hold_for_all(tmp_path):
    bag = write(tmp_path / 'bag')
    complete(bag, tmp_path / 'out', '--all-cameras', '--only-new', '--prefix', 'dense')
    with Bag(tmp_path / 'out') as new:
        names = {topic.name for topic in new.topics}
    assert {f'/dense/{name}/{DEPTH}' for name in AHEAD} <= names
    assert all(name.startswith('/dense/') for name in names)


def test_raw_and_rectified_images_of_a_camera_are_one_and_of_two_cameras_two(tmp_path):
    bag = write(tmp_path / 'one', ('/front/image_raw', '/front/image_rect'))
    assert '/front (/front/image_rect)' in complete(bag, tmp_path / 'out', '--all-cameras')
    bag = write(tmp_path / 'two', ('/front/left', '/front/right'))
    output = complete(bag, tmp_path / 'out2', '--all-cameras')
    assert '/front/left (/front/left)' in output
    assert '/front/right (/front/right)' in output


def test_depth_and_images_without_a_camera_info_are_left_out(tmp_path):
    bag = write(tmp_path / 'bag', ('/front/image_rect',))
    complete(bag, tmp_path / 'first', '--all-cameras')
    # What an earlier run wrote, and a depth camera's own image, are no cameras.
    output = complete(
        tmp_path / 'first', tmp_path / 'again', '--all-cameras', '--prefix', 'second'
    )
    assert output.count('frames completed') == 1
    with BagWriter(tmp_path / 'bare') as writer:
        head = header(START_NS, 'front')
        writer.write('/d/image', IMAGE, START_NS, float_to_image(np.ones((4, 4)), head))
        writer.write('/lone/image', IMAGE, START_NS, rgb_to_image(np.zeros((4, 4, 3), 'u1'), head))
        writer.write(
            '/points', CLOUD, START_NS, points_to_cloud(wall(3)[:, :3], header(START_NS, 'l'))
        )
    output = complete(tmp_path / 'bare', tmp_path / 'x', '--all-cameras', exit_code=1)
    assert 'expected images with a camera_info next to them, found none' in output


def test_a_camera_that_gives_no_frame_ends_with_code_1_and_the_others_are_kept(tmp_path):
    bag = write(tmp_path / 'bag', known=('front',))
    output = complete(bag, tmp_path / 'out', '--all-cameras', exit_code=1)
    assert 'no frame of /rear could be completed' in output
    assert len(decoded(tmp_path / 'out', f'/front/{DEPTH}')) == FRAMES


@pytest.mark.parametrize('option', ['--image', '--info', '--camera-info', '--extrinsics'])
def test_options_for_one_camera_are_refused(tmp_path, option):
    bag = write(tmp_path / 'bag')
    output = complete(bag, tmp_path / 'out', '--all-cameras', option, 'x', exit_code=1)
    assert f'--all-cameras: {option} applies to a single camera' in output
