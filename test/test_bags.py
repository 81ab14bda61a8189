"""Recordings without ROS: read, complete, write, convert; with the model `nearest`."""

import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bag_data import (
    CAMERA,
    PERIOD_NS,
    START_NS,
    T_CAMERA_LIDAR,
    contents,
    decoded,
    header,
    make_image,
    spoil_midst,
    wall,
    write_bag,
    write_packed_bag,
    write_ros1_bag,
)
from commands import complete, invoke
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from synthetic_drive import POINTS, make_drive

from dmd3c_ros.bags import kitti_conversion, recovery
from dmd3c_ros.bags.frames import FrameSource
from dmd3c_ros.bags.kitti_conversion import Revolution, point_times
from dmd3c_ros.bags.pairing import Synchronizer
from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.records import BagError
from dmd3c_ros.bags.selection import IMAGE, INFO, find_inputs
from dmd3c_ros.bags.transforms import read_transforms
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.io.kitti_raw import read_stamps
from dmd3c_ros.messages.images import depth_from_image, rgb_to_image
from dmd3c_ros.pipeline.outputs import OUTPUTS

DEPTH, CONFIDENCE = '/depth_registered/image_rect', '/confidence'
OUTPUT_INFO = '/depth_registered/camera_info'

pytestmark = pytest.mark.usefixtures('wide_terminal')


def expected_depth(number: int) -> np.ndarray:
    sparse = remove_hidden_points(project_points(wall(5 + number), T_CAMERA_LIDAR, CAMERA))
    completer = DepthCompleter(CompleterConfig(model='nearest'))
    return completer.complete(make_image(number), sparse, CAMERA.K).depth


# ---------------------------------------------------------------------------- completing


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_the_copy_has_every_message_of_the_input_and_depth_at_the_stamps_of_the_images(
    tmp_path, storage
):
    source = write_bag(tmp_path / 'in', storage)
    text = complete(source, tmp_path / 'out')
    assert '3 sets, 3 frames completed' in text
    with Bag(source) as before, Bag(tmp_path / 'out') as after:
        assert after.format == storage
        old, new = contents(before), contents(after)
        assert old.items() <= new.items()
        assert new.keys() - old.keys() == {DEPTH, CONFIDENCE, OUTPUT_INFO}
        images = [stamp for _, stamp, _ in old['/camera/image_rect']]
        for topic in (DEPTH, CONFIDENCE, OUTPUT_INFO):
            assert [stamp for _, stamp, _ in new[topic]] == images
        # Published when the last of its inputs has come, as the node does.
        assert [t for t, _, _ in new[DEPTH]] == [t for t, _, _ in old['/lidar/points']]
        assert {t.name: t.qos for t in before.topics}.items() <= {
            t.name: t.qos for t in after.topics
        }.items()


def test_the_depth_is_that_of_the_frames_own_image_sweep_and_calibration(tmp_path):
    complete(write_bag(tmp_path / 'in'), tmp_path / 'out')
    for number, image in enumerate(decoded(tmp_path / 'out', DEPTH)):
        assert image.header.frame_id == 'camera'
        np.testing.assert_array_equal(depth_from_image(image), expected_depth(number))
    info = decoded(tmp_path / 'out', OUTPUT_INFO)[2]
    np.testing.assert_array_equal(info.p, CAMERA.P.ravel())


def test_only_new_topics_every_output_and_another_namespace(tmp_path):
    source = write_bag(tmp_path / 'in')
    options = [part for name in OUTPUTS for part in ('--output', name)]
    complete(
        source, tmp_path / 'out', '--only-new', '--prefix', '/front',
        '--depth-encoding', '16UC1', '--storage', 'sqlite3', *options,
    )  # fmt: skip
    with Bag(tmp_path / 'out') as bag:
        assert {topic.name: topic.count for topic in bag.topics} == {
            f'/front/{name}': 3 for name in OUTPUTS
        }
    depth = decoded(tmp_path / 'out', '/front/depth_registered/image_rect')[0]
    assert depth.encoding == '16UC1'
    np.testing.assert_allclose(depth_from_image(depth), expected_depth(0), atol=5.01e-4)
    cloud = decoded(tmp_path / 'out', '/front/depth_registered/points')[0]
    assert (cloud.height, cloud.width) == (CAMERA.height, CAMERA.width)


def test_a_ros1_bag_becomes_a_ros2_bag_with_the_same_depth(tmp_path):
    source = write_bag(tmp_path / 'in')
    with Bag(source) as bag:
        write_ros1_bag(tmp_path / 'in.bag', bag)
    complete(source, tmp_path / 'out2')
    complete(tmp_path / 'in.bag', tmp_path / 'out1')
    with Bag(tmp_path / 'out1') as one, Bag(tmp_path / 'out2') as two:
        assert one.format == 'mcap'
        assert contents(one) == contents(two)


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize('storage', [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_compressed_bags_are_read(tmp_path, storage, mode):
    with Bag(write_bag(tmp_path / 'in')) as bag:
        packed, expected = write_packed_bag(tmp_path / 'packed', bag, storage, mode), contents(bag)
    with Bag(packed) as bag:
        assert not bag.damage
        assert contents(bag) == expected


def test_messages_of_types_that_nobody_knows_are_copied(tmp_path):
    source = write_bag(tmp_path / 'in', 'sqlite3')
    with BagWriter(tmp_path / 'odd', 'sqlite3') as writer, Bag(source) as bag:
        for record in bag.records():
            writer.copy(record, bag.typestore)
        writer.write('/thing', 'std_msgs/msg/String', START_NS, {'data': 'known to its maker'})
    # As recorded by Humble: no definitions, here of a type of somebody's own.
    database = sqlite3.connect(tmp_path / 'odd' / 'odd.db3')
    database.execute('DELETE FROM message_definitions')
    database.execute("UPDATE topics SET type='mine/msg/Thing' WHERE name='/thing'")
    database.commit()
    database.close()
    metadata = tmp_path / 'odd' / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('std_msgs/msg/String', 'mine/msg/Thing'))
    complete(tmp_path / 'odd', tmp_path / 'out')
    with Bag(tmp_path / 'odd') as before, Bag(tmp_path / 'out') as after:
        assert after.topic('/thing').type == 'mine/msg/Thing'
        old, new = contents(before), contents(after)
        assert old.items() <= new.items()
        assert b'known to its maker' in new['/thing'][0][2]
    # Other readers of rosbags open it too.
    with AnyReader([tmp_path / 'out']) as reader:
        assert reader.message_count == 11 + 9


def test_calibration_from_files_stands_in_for_topics(tmp_path):
    source = write_bag(tmp_path / 'in')
    bare = tmp_path / 'bare'
    with Bag(source) as bag, BagWriter(bare) as writer:
        for record in bag.records([bag.topic('/camera/image_rect'), bag.topic('/lidar/points')]):
            writer.copy(record, bag.typestore)
    text = complete(bare, tmp_path / 'no', exit_code=1)
    assert '--camera-info' in text
    np.savetxt(tmp_path / 'K.txt', CAMERA.K)
    np.savetxt(tmp_path / 'T.txt', T_CAMERA_LIDAR)
    camera = ('--camera-info', tmp_path / 'K.txt')
    text = complete(bare, tmp_path / 'no', *camera, exit_code=1)
    assert "no transform from 'lidar' to 'camera'" in text
    complete(bare, tmp_path / 'out', *camera, '--extrinsics', tmp_path / 'T.txt')
    np.testing.assert_array_equal(
        depth_from_image(decoded(tmp_path / 'out', DEPTH)[1]), expected_depth(1)
    )
    assert decoded(tmp_path / 'out', OUTPUT_INFO)[0].width == CAMERA.width


def test_frames_that_cannot_be_completed_are_counted_by_reason(tmp_path):
    source = write_bag(tmp_path / 'in', frames=5, skip_clouds=frozenset({1, 3}))
    report = tmp_path / 'report.json'
    text = complete(source, tmp_path / 'out', '--report', report)
    assert '2 images unpaired: no message on /lidar/points within 0.05 s' in text
    found = json.loads(report.read_text())
    assert found['completed'] == found['sets'] == 3
    assert found['inputs']['/lidar/points'] == {'messages': 3, 'paired': 3}
    assert sum(found['gap_histogram']['counts']) == 3
    assert found['gap_histogram']['edges_s'][0] == pytest.approx(0.003)
    # A bad message costs its own frame.
    with Bag(source) as bag, BagWriter(tmp_path / 'odd') as writer:
        for record in bag.records():
            writer.copy(record, bag.typestore)
        stamp = START_NS + 9 * PERIOD_NS
        odd = rgb_to_image(np.zeros((8, 8, 3), np.uint8), header(START_NS + PERIOD_NS, 'camera'))
        writer.write('/other/image_raw', IMAGE, stamp, odd)
    text = complete(
        tmp_path / 'odd', tmp_path / 'none', '--image', '/other/image_raw',
        '--info', '/camera/camera_info', '--sync-slop', '0.2', exit_code=1,
    )  # fmt: skip
    assert 'expected the size of the image, 8x8, got 40x24' in text
    assert not (tmp_path / 'none').exists()


def test_nothing_is_left_of_a_run_that_fails_and_nothing_is_overwritten(tmp_path):
    # Half way between two images: neither is nearer than the slop.
    source = write_bag(tmp_path / 'in', lag_ns=50_000_000)
    complete(source, tmp_path / 'out', exit_code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in']
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine').touch()
    assert 'already exists' in complete(source, tmp_path / 'out', exit_code=1)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine']


def test_a_bag_appears_when_it_is_whole(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write('/image', IMAGE, 5, rgb_to_image(make_image(0), header(5, 'camera')))
        assert not (tmp_path / 'bag').exists()
    assert len(decoded(tmp_path / 'bag', '/image')) == 1
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'other') as writer:
        writer.write('/image', IMAGE, 5, rgb_to_image(make_image(0), header(5, 'camera')))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


# ---------------------------------------------------------------------------- choosing topics


def test_depth_is_no_image_and_a_doubt_is_asked_about(tmp_path):
    complete(write_bag(tmp_path / 'in'), tmp_path / 'one')
    text = complete(tmp_path / 'one', tmp_path / 'no', exit_code=1)
    assert DEPTH in text
    assert '--prefix' in text
    complete(tmp_path / 'one', tmp_path / 'two', '--prefix', 'again')
    with Bag(tmp_path / 'two') as bag, BagWriter(tmp_path / 'three') as writer:
        for record in bag.records():
            writer.copy(record, bag.typestore)
        for name in ('/left/image_rect', '/right/image_rect'):
            writer.write(name, IMAGE, 7, rgb_to_image(make_image(0), header(7, 'camera')))
    text = complete(tmp_path / 'three', tmp_path / 'no', '--prefix', 'third', exit_code=1)
    assert '/left/image_rect' in text
    assert '--image' in text
    text = complete(tmp_path / 'in', tmp_path / 'no', '--points', '/nothing', exit_code=1)
    assert 'expected a topic /nothing' in text


def test_static_transforms_are_chained_both_ways(tmp_path):
    with Bag(write_bag(tmp_path / 'in')) as bag:
        transforms = read_transforms(bag)
    np.testing.assert_allclose(transforms.lookup('camera', 'lidar', 5), T_CAMERA_LIDAR, atol=1e-12)
    np.testing.assert_allclose(
        transforms.lookup('/lidar', 'camera', 0), np.linalg.inv(T_CAMERA_LIDAR), atol=1e-12
    )
    with pytest.raises(TransformError, match=r"'mast' to 'camera'.*base, camera, lidar"):
        transforms.lookup('camera', 'mast', 0)


def test_a_raw_image_of_a_camera_with_distortion_is_warned_about_once(tmp_path, caplog):
    with Bag(write_bag(tmp_path / 'in')) as bag, BagWriter(tmp_path / 'raw') as writer:
        for record in bag.records():
            message = bag.decode(record)
            name = record.topic.name.replace('image_rect', 'image_raw')
            if record.topic.type == INFO:
                message.d = np.array([-0.3, 0.1, 0, 0, 0])
            writer.write(name, record.topic.type, record.time_ns, message)
    with Bag(tmp_path / 'raw') as bag:
        completer = DepthCompleter(CompleterConfig(model='nearest'))
        assert len(list(FrameSource(bag, find_inputs(bag), completer).frames())) == 3
    warnings = [r.getMessage() for r in caplog.records if 'distortion' in r.getMessage()]
    assert len(warnings) == 1
    assert '/camera/image_raw' in warnings[0]


def test_info_says_what_is_there_and_what_would_be_completed(tmp_path):
    text = invoke('bag', 'info', write_bag(tmp_path / 'in'))
    assert '40x24 rgb8' in text
    assert '135 points (x y z intensity)' in text
    # Two periods in the 203 ms from the transform to the last sweep.
    assert '9.85 Hz' in text
    assert 'uses /camera/image_rect, /camera/camera_info and /lidar/points' in text
    (tmp_path / 'notes.txt').write_text('no bag')
    assert 'expected a bag' in invoke('bag', 'info', tmp_path / 'notes.txt', exit_code=1)


# ---------------------------------------------------------------------------- pairing


@pytest.mark.parametrize('jumps', [False, True], ids=['in order', 'clock jumps back'])
def test_messages_pair_as_the_nodes_synchronizer_pairs_them(jumps):
    filters = pytest.importorskip('message_filters')
    from dmd3c_ros.node.synchronizer import Synchronizer as NodeSynchronizer

    rng = random.Random(5)
    pairs = 0
    for queue_size in (1, 3, 10):
        arrivals = sorted(
            (stamp + rng.randint(0, 150_000_000), index, stamp)
            for index in range(3)
            for stamp in (k * 100_000_000 + rng.randint(0, 45_000_000) for k in range(150))
            if rng.random() > 0.1
        )
        if jumps:
            arrivals = [item for lap in range(3) for item in arrivals[: 250 - 20 * lap]]
        sources = [filters.SimpleFilter() for _ in range(3)]
        reference, wanted = NodeSynchronizer(sources, queue_size, 0.04), []
        reference.registerCallback(lambda *found, to=wanted: to.append([m.ns for m in found]))
        ours, found = Synchronizer(3, queue_size, 0.04), []
        for _, index, stamp in arrivals:
            sources[index].signalMessage(_stamped(stamp))
            result = ours.add(index, stamp, stamp)
            if result is not None:
                found.append(list(result))
        assert found == wanted
        pairs += len(found)
    assert pairs > 100


def _stamped(stamp: int):
    from std_msgs.msg import Header

    message_header = Header()
    message_header.stamp.sec, message_header.stamp.nanosec = divmod(stamp, 10**9)
    return type('Stamped', (), {'header': message_header, 'ns': stamp})()


# ---------------------------------------------------------------------------- damage


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(('storage', 'suffix'), [('mcap', 'mcap'), ('sqlite3', 'db3')])
def test_of_a_bag_that_is_cut_off_everything_readable_is_completed(tmp_path, storage, suffix):
    source = write_bag(tmp_path / 'in', storage, frames=40)
    with Bag(source) as bag:
        whole = contents(bag)
    # A recorder that died: no metadata, the end of the file missing.
    (source / 'metadata.yaml').unlink()
    cut(source / f'in.{suffix}', 0.6)
    with Bag(source) as bag:
        rest = contents(bag)
        assert bag.damage
    for topic, messages in rest.items():
        assert messages == whole[topic][: len(messages)]
    assert 15 < len(rest['/lidar/points']) < 40
    text = complete(source, tmp_path / 'out')
    assert 'is damaged' in text
    assert len(decoded(tmp_path / 'out', DEPTH)) == len(rest['/lidar/points'])
    assert 'damaged' in invoke('bag', 'info', source)


def test_a_bag_with_garbled_lengths_is_read_up_to_them(tmp_path):
    source = write_bag(tmp_path / 'in', frames=400)
    with Bag(source) as bag:
        whole = contents(bag)
    spoil_midst(source / 'in.mcap')
    with Bag(source) as bag:
        rest = contents(bag)
        assert 'stopped reading early' in bag.damage
    for topic, messages in rest.items():
        assert messages == whole[topic][: len(messages)]
    assert 0 < len(rest['/lidar/points']) < 400


def test_a_folder_without_metadata_is_read_whole(tmp_path):
    source = write_bag(tmp_path / 'in')
    with Bag(source) as bag:
        whole = contents(bag)
    (source / 'metadata.yaml').unlink()
    with Bag(source) as bag:
        assert contents(bag) == whole
        assert 'metadata.yaml is missing' in bag.damage


def test_a_ros1_bag_without_its_index_is_read(tmp_path):
    with Bag(write_bag(tmp_path / 'in', frames=8)) as bag:
        write_ros1_bag(tmp_path / 'in.bag', bag)
        whole = contents(bag)
    data = (tmp_path / 'in.bag').read_bytes()
    (tmp_path / 'cut.bag').write_bytes(data[: int(len(data) * 0.7)])
    with Bag(tmp_path / 'cut.bag') as bag:
        rest = contents(bag)
        assert bag.damage
    assert 3 <= len(rest['/lidar/points']) < 8
    for topic, messages in rest.items():
        assert messages == whole[topic][: len(messages)]


@pytest.mark.parametrize('kind', ['mcap', 'db3', 'bag'])
def test_wherever_a_bag_ends_reading_it_gives_a_prefix_or_a_clear_error(tmp_path, kind):
    source = write_bag(tmp_path / 'in', 'sqlite3' if kind == 'db3' else 'mcap', frames=2)
    path = source / f'in.{kind}'
    with Bag(source) as bag:
        whole = contents(bag)
        if kind == 'bag':
            path = write_ros1_bag(tmp_path / 'in.bag', bag)
    data, rng = path.read_bytes(), random.Random(3)
    lengths = [0, 1, 20, *(rng.randrange(len(data)) for _ in range(6))]
    short = tmp_path / f'short.{kind}'
    for length in lengths:
        short.write_bytes(data[:length])
        try:
            with Bag(short) as bag:
                rest = contents(bag)
        except BagError as error:
            assert str(short) in str(error)
            continue
        for topic, messages in rest.items():
            assert messages == whole[topic][: len(messages)]


def test_of_a_database_that_is_cut_off_no_message_ends_in_zeros(tmp_path):
    """SQLite takes pages that the file lacks for zeros."""
    with BagWriter(tmp_path / 'in', 'sqlite3') as writer:
        for number in range(1, 4):
            # So long that three share a leaf of the tree, and the rest of each lies behind it.
            rgb = np.full((43, 100, 3), number, np.uint8)
            writer.write('/image', IMAGE, number, rgb_to_image(rgb, header(number, 'camera')))
    path, counts = tmp_path / 'in/in.db3', set()
    data = path.read_bytes()
    with Bag(tmp_path / 'in') as bag:
        whole = contents(bag)
    for length in range(4096, len(data), 4096):
        path.write_bytes(data[:length])
        with Bag(path) as bag:
            messages = contents(bag).get('/image', [])
        assert messages == whole['/image'][: len(messages)]
        counts.add(len(messages))
    assert counts == {0, 1, 2}


def test_what_is_no_bag_is_refused_by_name(tmp_path):
    fake = tmp_path / 'fake.mcap'
    fake.write_bytes(b'something else entirely')
    with pytest.raises(BagError, match=r'fake\.mcap'):
        Bag(fake)
    with pytest.raises(FileNotFoundError, match='absent'):
        Bag(tmp_path / 'absent')
    assert recovery.is_cut_sqlite(fake)


# ---------------------------------------------------------------------------- KITTI


def test_a_kitti_drive_becomes_a_bag_that_needs_no_remapping(tmp_path):
    drive = make_drive(tmp_path)
    invoke('bag', 'from-kitti', drive, tmp_path / 'bag', '--storage', 'sqlite3')
    with Bag(tmp_path / 'bag') as bag:
        assert [topic.name for topic in bag.topics] == [
            '/camera_info', '/image_rect', '/points', '/tf_static',
        ]  # fmt: skip
        found = contents(bag)
        transforms = read_transforms(bag)
        durability = bag.topic('/tf_static').qos[0].durability.name
    assert durability == 'TRANSIENT_LOCAL'
    stamps = [stamp for _, stamp, _ in found['/image_rect']]
    assert stamps == [1317042140964389445 + k * 10**9 for k in range(3)]
    assert [stamp for _, stamp, _ in found['/points']] == stamps
    image = decoded(tmp_path / 'bag', '/image_rect')[2]
    assert (image.width, image.height, image.data[0]) == (40, 24, 2)
    cloud = decoded(tmp_path / 'bag', '/points')[1]
    values = np.frombuffer(cloud.data, np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(values, np.c_[POINTS, [1, 1, 1]].astype(np.float32))
    np.testing.assert_allclose(
        transforms.lookup('camera', 'lidar', 0)[:3],
        # Into the rectified camera's frame: R_rect_00, and P's fourth column through K.
        [
            [0, 0, -1, 0.2 + (4 - 20 * 0.003) / 30],
            [0, 1, 0, -0.1 + (0.2 - 12 * 0.003) / 30],
            [1, 0, 0, 0.3 + 0.003],
        ],
        atol=1e-9,
    )


def test_a_real_drive_pairs_in_every_frame(tmp_path, kitti_drive):
    day, drive = tmp_path / 'day', tmp_path / 'day' / kitti_drive.name
    for folder, suffix in (('image_02', 'png'), ('velodyne_points', 'bin')):
        (drive / folder / 'data').mkdir(parents=True)
        lines = (kitti_drive / folder / 'timestamps.txt').read_text().splitlines()[:2]
        (drive / folder / 'timestamps.txt').write_text('\n'.join(lines) + '\n')
        for number in range(2):
            name = f'data/{number:010d}.{suffix}'
            (drive / folder / name).symlink_to(kitti_drive / folder / name)
    for file in kitti_drive.parent.glob('calib_*.txt'):
        (day / file.name).symlink_to(file)
    invoke('bag', 'from-kitti', drive, tmp_path / 'bag')
    assert '2 sets, 2 frames completed' in complete(tmp_path / 'bag', tmp_path / 'out')
    depth = depth_from_image(decoded(tmp_path / 'out', DEPTH)[0])
    assert 2 < np.median(depth) < 60


def test_gps_and_imu_come_along_where_the_drive_has_them(tmp_path):
    drive = make_drive(tmp_path)
    (drive / 'oxts' / 'data').mkdir(parents=True)
    values = np.arange(30) / 10
    values[3:6] = 0, 0, np.pi / 2
    stamps = (drive / 'image_02/timestamps.txt').read_text().replace('.96', '.95')
    (drive / 'oxts/timestamps.txt').write_text(stamps)
    for number in range(3):
        text = ' '.join(map(str, values))
        (drive / f'oxts/data/{number:010d}.txt').write_text(text)
    (drive.parent / 'calib_imu_to_velo.txt').write_text('R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n')
    invoke('bag', 'from-kitti', drive, tmp_path / 'bag')
    imu = decoded(tmp_path / 'bag', '/imu/data')[0]
    q, acceleration = imu.orientation, imu.linear_acceleration
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-9)
    assert (acceleration.x, acceleration.z) == (1.1, 1.3)
    assert imu.angular_velocity.y == 1.8
    fix, velocity = (decoded(tmp_path / 'bag', f'/gps/{name}')[1] for name in ('fix', 'vel'))
    assert (fix.latitude, fix.longitude, fix.altitude) == (0.0, 0.1, 0.2)
    assert fix.position_covariance[0] == pytest.approx(2.3**2)
    assert velocity.twist.linear.x == 0.8
    with Bag(tmp_path / 'bag') as bag:
        times = [record.time_ns for record in bag.records()]
        T_lidar_imu = read_transforms(bag).lookup('lidar', 'imu', 0)
    assert times == sorted(times)
    np.testing.assert_allclose(T_lidar_imu[:3, 3], [-0.8, 0.3, -0.8])
    (drive / 'oxts/data/0000000001.txt').write_text('1 2 3')
    text = invoke('bag', 'from-kitti', drive, tmp_path / 'bad', exit_code=1)
    assert '0000000001.txt: expected 30 numbers, got 3' in text
    assert not (tmp_path / 'bad').exists()


def test_points_are_timed_by_the_laser_turning_clockwise():
    revolution = Revolution(start_ns=-52_000_000, forward_ns=0, end_ns=48_000_000)
    directions = {'ahead': (1, 0), 'left': (0, 1), 'right': (0, -1), 'rear left': (-1, 1e-9)}
    points = np.array([(*xy, 0) for xy in directions.values()])
    np.testing.assert_allclose(
        point_times(points, revolution), [0, -0.026, 0.024, -0.052], atol=1e-6
    )


def test_point_times_are_written_unless_kitti_has_removed_the_motion(tmp_path):
    drive = make_drive(tmp_path)
    invoke('bag', 'from-kitti', drive, tmp_path / 'corrected')
    names = [field.name for field in decoded(tmp_path / 'corrected', '/points')[0].fields]
    assert names == ['x', 'y', 'z', 'intensity']
    raw = drive.rename(drive.with_name('2011_09_26_drive_0001_extract'))
    invoke('bag', 'from-kitti', raw, tmp_path / 'estimated')
    folder = raw / 'velodyne_points'
    stamps = (folder / 'timestamps.txt').read_text()
    (folder / 'timestamps_start.txt').write_text(stamps.replace('.964', '.914'))
    (folder / 'timestamps_end.txt').write_text(stamps.replace('.964', '.984'))
    invoke('bag', 'from-kitti', raw, tmp_path / 'measured')
    for name, half_s in (('estimated', 0.5), ('measured', 0.05)):
        cloud = decoded(tmp_path / name, '/points')[0]
        assert [field.name for field in cloud.fields][-1] == 'time'
        values = np.frombuffer(cloud.data, np.float32).reshape(-1, 5)
        share = np.arctan2(POINTS[0, 1], POINTS[0, 0]) / np.pi
        assert values[0, 4] == pytest.approx(-share * half_s, abs=1e-6)


def test_the_times_of_a_drive_are_read_once_however_long_it_is(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(
        kitti_conversion, 'read_stamps', lambda *a: reads.append(a[0].name) or read_stamps(*a)
    )
    drive = make_drive(tmp_path)
    invoke('bag', 'from-kitti', drive, tmp_path / 'bag', '--point-time', 'always')
    assert reads == ['timestamps.txt']


# ---------------------------------------------------------------------------- without ROS

WITHOUT_ROS = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top.endswith('_msgs') or top in {
            'rclpy', 'message_filters', 'builtin_interfaces', 'tf2_ros', 'tf_transformations',
            'sensor_msgs_py', 'cv_bridge', 'rosidl_runtime_py', 'rpyutils',
        }:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Blocked())
from dmd3c_ros.cli.app import app
app(sys.argv[1:])
"""


def test_bags_are_completed_alike_without_ros(tmp_path):
    source = write_bag(tmp_path / 'in')
    complete(source, tmp_path / 'with')
    done = subprocess.run(
        [
            sys.executable, '-c', WITHOUT_ROS,
            'complete', 'bag', source, tmp_path / 'without', '--model', 'nearest',
        ],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Bag(tmp_path / 'with') as one, Bag(tmp_path / 'without') as two:
        assert contents(one) == contents(two)


def test_stand_ins_have_the_fields_and_defaults_of_ros():
    sensor_msgs = pytest.importorskip('sensor_msgs.msg')
    from dmd3c_ros.messages import plain

    for name in ('Image', 'CameraInfo', 'PointCloud2', 'PointField', 'RegionOfInterest'):
        ours, theirs = getattr(plain, name)(), getattr(sensor_msgs, name)()
        fields = theirs.get_fields_and_field_types()
        assert list(vars(ours)) == list(fields)
        for field, kind in fields.items():
            if '/' not in kind:
                assert list(np.ravel(getattr(ours, field))) == list(
                    np.ravel(getattr(theirs, field))
                )
    assert plain.PointField.FLOAT32 == sensor_msgs.PointField.FLOAT32
