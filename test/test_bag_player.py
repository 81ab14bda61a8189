"""A recording that is played to the node gives the depth that `complete bag` gives."""

import numpy as np
import pytest
from bag_data import (
    CAMERA,
    START_NS,
    T_CAMERA_LIDAR,
    extrinsics,
    header,
    spoil_midst,
    wall,
    write_bag,
)
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import NodeProcess, Probe, parameters
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from test_bags import DEPTH, decoded, invoke
from tf2_msgs.msg import TFMessage

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.selection import INFO
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.tf import TF_TYPE, decode_transforms
from dmd3c_ros.node.players.bag_player import BagSettings

FRAMES = 6
OUTPUTS = {'depth_registered/image_rect': Image, 'confidence': Image}


@pytest.fixture
def probe(folder):
    probe = Probe(publishing=False)
    yield probe
    probe.close()


def play(folder, **settings) -> NodeProcess:
    return NodeProcess('dmd3c_ros.node.players.bag_player', folder, *parameters(**settings))


def by_stamp(messages) -> dict[int, np.ndarray]:
    return {
        m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: np.frombuffer(m.data, np.float32)
        for m in messages
    }


def test_the_node_on_a_played_bag_gives_the_depth_of_the_completed_bag(folder, probe, tmp_path):
    source = write_bag(tmp_path / 'in', frames=FRAMES)
    model = ('--model', 'light', '--precision', 'float32')
    invoke('complete', 'bag', source, tmp_path / 'out', *model)
    found = {topic: probe.listen(topic, kind) for topic, kind in OUTPUTS.items()}
    node = NodeProcess(
        'dmd3c_ros.completion_node',
        folder,
        *parameters(model='light', precision='float32'),
        *parameters(T_camera_lidar=T_CAMERA_LIDAR.ravel().tolist()),
        *('-r', 'image_rect:=/camera/image_rect', '-r', 'camera_info:=/camera/camera_info'),
        *('-r', 'points:=/lidar/points'),
    )
    try:
        assert probe.wait(probe.heard), node.log
        # Again and again: on a busy machine a frame that comes late is dropped.
        player = play(folder, bag=source, rate=0.2, loop='true')
        boxes = found.values()
        assert probe.wait(lambda: all(len(by_stamp(box)) == FRAMES for box in boxes)), node.log
        assert player.stop() == 0, player.log
    finally:
        assert node.stop() == 0, node.log
    for topic in OUTPUTS:
        live, offline = by_stamp(found[topic]), by_stamp(decoded(tmp_path / 'out', f'/{topic}'))
        assert live.keys() == offline.keys()
        for stamp in live:
            np.testing.assert_allclose(live[stamp], offline[stamp], rtol=1e-5, atol=1e-5)
    assert np.isfinite(by_stamp(decoded(tmp_path / 'out', DEPTH))[START_NS]).any()


def test_a_bag_is_played_byte_by_byte_with_its_clock_again_and_again(folder, probe, tmp_path):
    source = write_bag(tmp_path / 'in', 'sqlite3', frames=FRAMES)
    clouds = probe.listen('/lidar/points', PointCloud2)
    clock = probe.listen('/clock', Clock)
    probe.listen('/camera/image_rect', Image)
    probe.listen('/camera/camera_info', CameraInfo)
    process = play(folder, bag=source, rate=4.0, loop='true', publish_clock='true')
    assert probe.wait(lambda: len(clouds) > FRAMES + 2), process.log
    assert process.stop() == 0, process.log
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in clouds]
    assert stamps[FRAMES : FRAMES + 2] == stamps[:2]
    values = np.frombuffer(clouds[2].data, np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(values, wall(7))
    seconds = [m.clock.sec + m.clock.nanosec * 1e-9 for m in clock]
    assert min(seconds) == pytest.approx(START_NS * 1e-9, abs=0.1)
    assert max(seconds) == pytest.approx(START_NS * 1e-9 + 0.5, abs=0.1)


def test_who_comes_late_hears_all_that_was_latched(folder, probe, tmp_path):
    start, parts = START_NS, 25
    with BagWriter(tmp_path / 'in', 'mcap') as writer:
        writer.add_topic('/parts', INFO, latched=True)
        for number in range(parts):
            info = camera_to_info(CAMERA, header(start, f'part_{number}'))
            writer.write('/parts', INFO, start, info)
        # Much later, so that the player stays.
        writer.write('/end', INFO, start + 60 * 10**9, info)
    process = play(folder, bag=tmp_path / 'in')
    assert probe.wait(lambda: 'playing' in process.log), process.log
    probe.spin(1.0)
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    box = probe.listen('/parts', CameraInfo, latched)
    probe.wait(lambda: len(box) == parts, 15)
    process.stop()
    assert [info.header.frame_id for info in box] == [f'part_{n}' for n in range(parts)]


def test_static_transforms_that_a_converter_calls_volatile_are_latched(tmp_path):
    with BagWriter(tmp_path / 'in') as writer:
        for number, name in enumerate(('/tf_static', '/tf')):
            writer.add_topic(name, TF_TYPE)
            writer.write(name, TF_TYPE, number, extrinsics())
    with Bag(tmp_path / 'in') as bag:
        kept = {topic.name: topic.qos[0].durability.name for topic in bag.topics}
    assert kept == {'/tf_static': 'TRANSIENT_LOCAL', '/tf': 'VOLATILE'}


def test_static_transforms_are_latched_where_the_bag_does_not_say(folder, probe, tmp_path):
    with Bag(write_bag(tmp_path / 'in', frames=1)) as source:
        writer = Writer(tmp_path / 'plain', version=8, storage_plugin=StoragePlugin.MCAP)
        with writer:
            for topic in source.topics:
                options = {'typestore': source.typestore}
                connection = writer.add_connection(topic.name, topic.type, **options)
                for record in source.records([topic]):
                    writer.write(connection, record.time_ns, record.data)
            # Much later, so that the player stays.
            writer.write(connection, record.time_ns + 60 * 10**9, record.data)
    process = play(folder, bag=tmp_path / 'plain', wait_for_subscribers=0)
    assert probe.wait(lambda: 'playing' in process.log), process.log
    probe.spin(1.0)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    box = []
    keep = probe.node.create_subscription(TFMessage, '/tf_static', box.append, latched, raw=True)
    assert probe.wait(lambda: box, 15), process.log
    assert [t.child_frame_id for t in decode_transforms(box[0])] == ['camera', 'lidar']
    probe.node.destroy_subscription(keep)
    process.stop()


def test_of_a_damaged_bag_what_can_be_read_is_played_and_the_rest_is_told(folder, probe, tmp_path):
    source = write_bag(tmp_path / 'in', frames=400)
    spoil_midst(source / 'in.mcap')
    clouds = probe.listen('/lidar/points', PointCloud2)
    process = play(folder, bag=source, rate=100.0, wait_for_subscribers=0)
    assert probe.wait(lambda: not process.running)
    assert process.finish() == 0, process.log
    assert 'stopped reading early' in process.log and 'Traceback' not in process.log
    assert len(clouds) < 400


def test_what_is_no_bag_is_refused(folder, tmp_path):
    process = play(folder, bag=tmp_path / 'nothing')
    assert process.finish() == 1
    assert 'nothing: expected a bag, found nothing' in process.log
    assert 'Traceback' not in process.log
    with pytest.raises(ValueError, match='bag: expected a recording, got none'):
        BagSettings()
