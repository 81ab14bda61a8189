"""kitti_player and sim_player in processes of their own, over real topics."""

import signal

import numpy as np
import pytest
import rclpy
from rclpy.signals import SignalHandlerOptions
from ros_graph import NodeProcess, Probe, parameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from synthetic_drive import HEIGHT, POINTS, WIDTH, make_drive

from dmd3c_ros.datasets.drives import RecordedDrive, SimulatedDrive
from dmd3c_ros.messages.cameras import camera_from_info
from dmd3c_ros.messages.clouds import cloud_to_points
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.messages.transforms import matrix_from_numbers
from dmd3c_ros.node.players import kitti_player, playback, sim_player
from dmd3c_ros.node.players import player as player_module

TOPICS = {'image_rect': Image, 'camera_info': CameraInfo, 'points': PointCloud2}
KITTI, SIM = 'dmd3c_ros.node.players.kitti_player', 'dmd3c_ros.node.players.sim_player'


@pytest.fixture
def probe(folder):
    probe = Probe(publishing=False)
    yield probe
    probe.close()


@pytest.fixture
def drive(tmp_path):
    return make_drive(tmp_path, n_frames=4)


def play(module, folder, **settings) -> NodeProcess:
    return NodeProcess(module, folder, *parameters(**settings))


def stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_a_drive_is_published_whole_with_its_own_stamps(folder, probe, drive):
    images, infos, clouds = (probe.listen(*item) for item in TOPICS.items())
    process = play(KITTI, folder, drive=drive, rate=10.0, camera_frame='lens', prefetch=2)
    assert probe.wait(lambda: not process.running), process.log
    assert process.finish() == 0, process.log
    assert 'played 4 frames' in process.log
    expected = [
        int(np.datetime64(f'2011-09-26T13:02:2{i}.964389445').astype(int)) for i in range(4)
    ]
    assert [stamp_ns(m) for m in images] == [stamp_ns(m) for m in infos] == expected
    assert [stamp_ns(m) for m in clouds] == expected
    assert {m.header.frame_id for m in (*images, *infos)} == {'lens'}
    assert {m.header.frame_id for m in clouds} == {'lidar'}
    for index, (image, cloud) in enumerate(zip(images, clouds, strict=True)):
        rgb = image_to_rgb(image)
        assert rgb.shape == (HEIGHT, WIDTH, 3) and (rgb == index).all()
        np.testing.assert_array_equal(cloud_to_points(cloud), POINTS)
        assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'intensity']
    camera = camera_from_info(infos[0])
    np.testing.assert_array_equal(camera.P, [[30, 0, 20, 0], [0, 30, 12, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(camera.R, np.eye(3))


def test_no_more_frames_are_played_than_asked_for(folder, probe, drive):
    images = probe.listen('image_rect', Image)
    probe.listen('camera_info', CameraInfo), probe.listen('points', PointCloud2)
    process = play(KITTI, folder, drive=drive, rate=10.0, frames=3)
    assert probe.wait(lambda: not process.running), process.log
    assert 'played 3 frames' in process.log and len(images) == 3


@pytest.mark.parametrize('prefetch', [2, 100])
def test_a_looped_drive_goes_on_in_time_and_ends_on_a_signal(folder, probe, drive, prefetch):
    images = probe.listen('image_rect', Image)
    probe.listen('camera_info', CameraInfo), probe.listen('points', PointCloud2)
    process = play(KITTI, folder, drive=drive, rate=20.0, loop='true', prefetch=prefetch)
    assert probe.wait(lambda: len(images) >= 9), process.log
    assert process.stop(signal.SIGINT) == 0, process.log
    assert 'Traceback' not in process.log
    gaps = np.diff([stamp_ns(message) for message in images])
    assert (gaps == 10**9).all()
    levels = [image_to_rgb(message)[0, 0, 0] for message in images[:9]]
    assert levels == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_the_clock_is_told_on_demand_and_reaches_every_frame(folder, probe, drive):
    images, clocks = probe.listen('image_rect', Image), probe.listen('/clock', Clock)
    probe.listen('camera_info', CameraInfo), probe.listen('points', PointCloud2)
    process = play(KITTI, folder, drive=drive, rate=5.0, publish_clock='true')
    assert probe.wait(lambda: not process.running), process.log
    times = [clock.clock.sec * 10**9 + clock.clock.nanosec for clock in clocks]
    assert (np.diff(times) >= 0).all()
    assert len(times) > 20
    assert times[-1] == stamp_ns(images[-1])


def test_a_player_waits_for_its_subscribers_and_says_so(folder, probe, drive):
    process = play(KITTI, folder, drive=drive, rate=20.0)
    try:
        text = 'waiting for subscribers of /image_rect, /camera_info, /points'
        assert probe.wait(lambda: text in process.log), process.log
        images = probe.listen('image_rect', Image)
        probe.spin(0.5)
        assert not images
        probe.listen('camera_info', CameraInfo), probe.listen('points', PointCloud2)
        assert probe.wait(lambda: len(images) == 4), process.log
    finally:
        assert process.stop() == 0


def test_restamped_frames_carry_the_present_time(folder, probe, drive):
    images, clouds = probe.listen('image_rect', Image), probe.listen('points', PointCloud2)
    probe.listen('camera_info', CameraInfo)
    process = play(KITTI, folder, drive=drive, rate=10.0, restamp='true')
    assert probe.wait(lambda: len(images) == len(clouds) == 4), process.log
    now = probe.node.get_clock().now().nanoseconds
    assert all(0 < now - stamp_ns(message) < 120e9 for message in images)
    assert [stamp_ns(m) for m in images] == [stamp_ns(m) for m in clouds]
    process.stop()


def test_a_broken_file_ends_the_player_by_name(folder, probe, drive):
    for topic, message in TOPICS.items():
        probe.listen(topic, message)
    broken = drive / 'velodyne_points/data/0000000002.bin'
    broken.write_bytes(b'12345')
    process = play(KITTI, folder, drive=drive, rate=20.0)
    assert process.finish() == 1
    assert broken.name in process.log and 'Traceback' not in process.log


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({}, 'drive: expected the folder of a KITTI raw drive, got none'),
        ({'drive': '/nowhere'}, '/nowhere'),
        ({'drive': '/nowhere', 'rate': 0.0}, 'parameter rate'),
        ({'drvie': '/nowhere'}, 'unknown parameter drvie; did you mean drive?'),
    ],
)
def test_a_player_that_cannot_start_says_why(folder, settings, text):
    process = play(KITTI, folder, **settings)
    assert process.finish() == 1
    assert text in process.log and 'Traceback' not in process.log


@pytest.fixture
def player(folder, drive, monkeypatch):
    """A player in the tests' own process, on the context of all."""
    monkeypatch.setattr(playback, 'show_package_log', lambda logger: None)
    words = parameters(drive=drive, rate=100.0, loop='true', wait_for_subscribers=0)
    rclpy.init(args=['--ros-args', *words], signal_handler_options=SignalHandlerOptions.NO)
    player = player_module.Player('player', kitti_player.PARAMETER_GROUPS, kitti_player._open)
    yield player
    player.close()
    player.destroy_node()
    rclpy.try_shutdown()


@pytest.mark.filterwarnings('error::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_context_that_ends_at_any_moment_ends_a_player_without_a_trace(player, probe):
    images = probe.listen('image_rect', Image)
    assert probe.wait(lambda: images)
    # As a signal does, before anybody closes the player.
    rclpy.shutdown()
    assert probe.wait(lambda: not player.playing)
    assert not player.failed


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_player_that_fails_for_an_unforeseen_reason_has_failed(player, probe, monkeypatch):
    monkeypatch.setattr(player, '_publish', None)
    assert probe.wait(lambda: not player.playing)
    assert player.failed


def test_a_simulated_drive_is_published_with_its_exact_depth(folder, probe):
    images, infos, clouds = (probe.listen(*item) for item in TOPICS.items())
    depths = probe.listen('ground_truth/image_rect', Image)
    process = play(SIM, folder, frames=3, width=96, height=64, lidar='vlp16', seed=3)
    assert probe.wait(lambda: not process.running, 120), process.log
    assert process.finish() == 0, process.log
    stamps = [stamp_ns(message) for message in images]
    assert (np.diff(stamps) == 10**8).all() and len(stamps) == 3
    assert stamps == [stamp_ns(m) for m in clouds] == [stamp_ns(m) for m in depths]
    camera = camera_from_info(infos[0])
    depth = depth_from_image(depths[0])
    assert (camera.width, camera.height) == (96, 64) and depth.shape == (64, 96)
    _assert_sweep_agrees(cloud_to_points(clouds[0]), depth, camera)


def _assert_sweep_agrees(points, depth, camera) -> None:
    """Most points of the sweep lie on the surfaces that the camera sees."""
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.simulation import lidar_mount

    sparse = project_points(points, lidar_mount(), camera)
    both = (sparse > 0) & (depth > 0)
    assert both.sum() > 100
    assert np.median(np.abs(sparse - depth)[both] / depth[both]) < 0.03


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'scene': 'moon'}, "scene: expected one of street, indoor, clutter; got 'moon'"),
        ({'lidar': 'sonar'}, "lidar: expected one of hdl64e, .*; got 'sonar'"),
    ],
)
def test_an_unknown_scene_or_sensor_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        sim_player.SimSettings(**settings)


def test_the_field_of_view_spans_the_image_from_side_to_side():
    camera = SimulatedDrive(width=200, height=100, field_of_view_deg=90.0).camera
    uv, _ = camera.project(np.array([[-1, 0, 1], [1, 0, 1.0]]))
    np.testing.assert_allclose(uv, [[-0.5, 49.5], [199.5, 49.5]], atol=1e-9)


def test_the_static_transform_is_the_cameras_pose_in_the_lidars_frame(drive):
    recorded = RecordedDrive(drive)
    message = player_module.static_transform(recorded, 'lidar', 'camera')
    assert (message.header.frame_id, message.child_frame_id) == ('lidar', 'camera')
    t, q = message.transform.translation, message.transform.rotation
    T_lidar_camera = matrix_from_numbers((t.x, t.y, t.z, q.x, q.y, q.z, q.w))
    np.testing.assert_allclose(T_lidar_camera @ recorded.T_camera_lidar, np.eye(4), atol=1e-9)
