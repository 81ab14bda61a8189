"""droid_feeder in a process of its own, over real topics and from a bag, into a stand-in."""

import signal

import numpy as np
import pytest
import ros_graph
from bag_data import START_NS, write_bag
from ros_graph import NodeProcess, Probe, parameters
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from typer.testing import CliRunner

from dmd3c_ros.cli.app import app
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.images import depth_to_image, rgb_to_image
from dmd3c_ros.slam.droid_checkout import DroidCheckout

MODULE = 'dmd3c_ros.node.droid_feeder'
TOPICS = {
    'image_rect': Image,
    'depth_registered/image_rect': Image,
    'depth_registered/camera_info': CameraInfo,
}
# The class as the project defines it: made of a namespace of options, one call for each frame,
# and at the end poses (N, 7) for the stream of all frames. It checks what it gets and writes it.
STAND_IN = """
import os
import numpy as np
import torch

class Droid:
    def __init__(self, args):
        assert os.path.isfile(args.weights) and not args.stereo and args.disable_vis
        self.args, self.calls = args, []
        self.out = os.path.join(os.path.dirname(args.weights), 'calls.npz')

    def track(self, tstamp, image, depth=None, intrinsics=None):
        height, width = self.args.image_size
        if len(self.calls) == self.args.buffer:
            raise IndexError('index out of range of the buffer')
        assert image.shape == (1, 3, height, width) and image.dtype == torch.uint8
        assert height >= 128 and width >= 128 and height % 8 == 0 and width % 8 == 0
        assert depth.shape == (height, width) and depth.dtype == torch.float32
        assert intrinsics.shape == (4,) and torch.isfinite(depth).all() and (depth >= 0).all()
        self.calls.append((tstamp, image.numpy(), depth.numpy(), intrinsics.numpy()))
        stamps, images, depths, K = (np.stack(part) for part in zip(*self.calls))
        np.savez(self.out, t=stamps, image=images, depth=depths, intrinsics=K)

    def terminate(self, stream=None):
        if len(self.calls) < 2:
            raise ValueError('not enough values to unpack (expected 2, got 0)')
        poses = []
        for (tstamp, image, intrinsics), call in zip(stream, self.calls):
            assert tstamp == call[0] and (image.numpy() == call[1]).all()
            poses.append([tstamp, 0, 0, 0, 0, 0, 1])
        return np.array(poses, np.float32)
"""


@pytest.fixture
def checkout(tmp_path):
    path = tmp_path / 'DROID-SLAM'
    (path / 'droid_slam').mkdir(parents=True)
    (path / 'droid_slam/droid.py').write_text(STAND_IN)
    (path / 'droid.pth').write_bytes(b'weights')
    return path


def start(folder, checkout, **settings) -> NodeProcess:
    return NodeProcess(MODULE, folder, *parameters(droid_path=checkout, **settings))


def messages(stamp_s: int) -> dict:
    """Image, depth with holes, and CameraInfo of one instant, as completion_node gives them."""
    header = Header(frame_id='lens')
    header.stamp.sec = stamp_s
    rgb = np.zeros((144, 192, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 250, stamp_s % 200
    depth = np.full((144, 192), 7.5, np.float32)
    depth[:, :96] = 0
    # A smeared edge in front of a wall that is farther away.
    depth[:, 155], depth[:, 156:] = 12, 20
    return {
        'image_rect': rgb_to_image(rgb, header),
        'depth_registered/image_rect': depth_to_image(depth, header),
        'depth_registered/camera_info': camera_to_info(ros_graph.camera(192, 144), header),
    }


def test_live_frames_reach_droid_slam_in_its_layout_and_poses_come_back(folder, checkout):
    probe = Probe(publishing=False)
    try:
        publishers = {
            topic: probe.node.create_publisher(kind, topic, ros_graph.RELIABLE)
            for topic, kind in TOPICS.items()
        }
        poses, stamps = checkout / 'poses.txt', []
        process = start(folder, checkout, trajectory=poses, frames=3, unit=2.0)

        def publish() -> bool:
            """A new frame each time, until the node has what it wants."""
            if all(p.get_subscription_count() for p in publishers.values()):
                stamps.append(1000 + len(stamps))
                for topic, message in messages(stamps[-1]).items():
                    publishers[topic].publish(message)
                probe.spin(0.3)
            return not process.running

        assert probe.wait(publish), process.log
        assert process.finish() == 0, process.log
    finally:
        probe.close()
    calls = np.load(checkout / 'calls.npz')
    assert calls['t'].tolist() == [0, 1, 2]
    assert calls['image'].shape == (3, 1, 3, 144, 192)
    # Blue first, as DROID-SLAM's own readers give it.
    assert (calls['image'][:, 0, 2] == 250).all()
    seen = calls['image'][:, 0, 0, 0, 0].tolist()
    assert set(calls['depth'][0, :, :96].ravel()) == {0}
    assert set(calls['depth'][0, :, 96:155].ravel()) == {3.75}
    assert set(calls['depth'][0, :, 155].ravel()) == {0}
    assert set(calls['depth'][0, :, 156:].ravel()) == {10}
    camera = ros_graph.camera(192, 144)
    np.testing.assert_allclose(
        calls['intrinsics'][0], [camera.fx, camera.fy, camera.cx, camera.cy]
    )
    lines = [line.split() for line in poses.read_text().splitlines()[1:]]
    assert [float(line[0]) % 200 for line in lines] == seen
    assert [line[1:] for line in lines][1] == ['2', '0', '0', '0', '0', '0', '1']
    assert '3 frames tracked' in process.log


def test_a_bag_is_fed_whole_and_the_node_ends(folder, checkout, tmp_path):
    arguments = ['complete', 'bag', write_bag(tmp_path / 'bag'), tmp_path / 'dense']
    result = CliRunner().invoke(app, [*map(str, arguments), '--model', 'nearest'])
    assert result.exit_code == 0, result.output
    poses = tmp_path / 'poses.txt'
    process = start(folder, checkout, bag=tmp_path / 'dense', trajectory=poses)
    assert process.finish() == 0, process.log
    assert '3 frames tracked, 0 dropped' in process.log
    first = poses.read_text().splitlines()[1].split()
    assert first[0] == f'{START_NS // 10**9}.000000000'
    # The first wall, 5 m away, is at 1 of DROID-SLAM's units.
    np.testing.assert_allclose(np.load(checkout / 'calls.npz')['depth'][2], 7 / 5, rtol=1e-6)
    process = start(
        folder, checkout, bag=tmp_path / 'dense', droid_options="'{buffer: 2}'", trajectory=poses
    )
    assert process.finish() == 1
    assert 'DROID-SLAM failed: IndexError: index out of range of the buffer' in process.log
    assert 'Traceback' not in process.log


def test_a_trajectory_that_droid_slam_cannot_finish_is_said_in_one_line(
    folder, checkout, tmp_path
):
    arguments = ['complete', 'bag', write_bag(tmp_path / 'bag'), tmp_path / 'dense']
    result = CliRunner().invoke(app, [*map(str, arguments), '--model', 'nearest'])
    assert result.exit_code == 0, result.output
    poses = tmp_path / 'poses.txt'
    process = start(folder, checkout, bag=tmp_path / 'dense', trajectory=poses, frames=1)
    assert process.finish() == 1
    expected = 'DROID-SLAM could not finish the trajectory of 1 frames (it needs 2 keyframes'
    assert expected in process.log and 'not enough values to unpack' in process.log
    assert '1 frames tracked' in process.log
    assert 'Traceback' not in process.log and not poses.exists()


def test_a_signal_ends_a_node_that_hears_nothing(folder, checkout):
    process = start(folder, checkout)
    probe = Probe(publishing=False)
    try:
        found = lambda: 'droid_feeder' in probe.node.get_node_names()  # noqa: E731
        assert probe.wait(found), process.log
    finally:
        probe.close()
    assert process.stop(signal.SIGINT) == 0, process.log
    assert 'Traceback' not in process.log


def test_a_feeder_that_cannot_start_says_what_it_needs(folder, checkout, tmp_path):
    process = start(folder, tmp_path / 'nowhere')
    assert process.finish() == 1
    assert 'droid_weights: expected' in process.log and 'Traceback' not in process.log
    process = start(folder, checkout, bag=tmp_path / 'no.mcap')
    assert process.finish() == 1
    assert 'no.mcap: expected a bag, found nothing' in process.log
    assert 'Traceback' not in process.log
    with pytest.raises(ValueError, match='droid_path: expected the folder'):
        DroidCheckout()
    with pytest.raises(ValueError, match='droid_options: expected a mapping'):
        DroidCheckout('here', droid_options='[1]')
    with pytest.raises(FileNotFoundError, match='found no /'):
        DroidCheckout(str(tmp_path)).load()
    assert DroidCheckout('here', droid_options='{beta: 0.3, fork: 1}').options()['beta'] == 0.3


def test_options_are_those_of_droid_slams_rgbd_script():
    # evaluation_scripts/test_eth3d.py as of commit 2dfd39f0, 2025-05.
    options = DroidCheckout('here').options()
    window = {name: options[f'frontend_{name}'] for name in ('thresh', 'window', 'radius', 'nms')}
    assert window == {'thresh': 16, 'window': 20, 'radius': 2, 'nms': 1}
    assert [options[name] for name in ('beta', 'filter_thresh', 'warmup')] == [0.5, 2, 8]
    assert [options[name] for name in ('keyframe_thresh', 'motion_damping')] == [3.5, 0.5]
