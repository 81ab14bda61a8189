"""Recordings of a rig that moves: completed with the motion that their /tf tells."""

import json
from pathlib import Path

import numpy as np
import pytest
from bag_data import CAMERA, PERIOD_NS, START_NS, extrinsics, header, make_image, wall
from commands import invoke

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.selection import CLOUD, IMAGE, INFO
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.messages.cameras import camera_to_info
from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import depth_from_image, rgb_to_image
from dmd3c_ros.messages.tf import TF_TYPE

DEPTH = '/depth_registered/image_rect'
SPEED = 20.0  # m/s towards the wall
DISTANCE_M = 30.0  # of the wall at the start
LAG_NS = 30_000_000  # image after sweep
CLOCK_NS = 2_000_000_000  # the LiDAR's clock is fast by this


def way(stamp_ns: int) -> float:
    return SPEED * (stamp_ns - START_NS) * 1e-9


def motion(stamp_ns: int) -> dict:
    transform = {'translation': {'x': way(stamp_ns)}, 'rotation': {'w': 1.0}}
    pose = {'header': header(stamp_ns, 'odom'), 'child_frame_id': 'base', 'transform': transform}
    return {'transforms': [pose]}


def sweep(stamp_ns: int):
    """The wall over the 60 ms around the stamp; in the LiDAR's own clock."""
    points = wall(DISTANCE_M - way(stamp_ns))
    times = np.linspace(-0.03, 0.03, len(points), dtype=np.float32)
    points[:, 0] -= SPEED * times
    # Every sweep meets other points of the wall.
    points[:, 1] += 1.3 * ((stamp_ns - START_NS) // PERIOD_NS)
    points[:, 3] = times
    names = ('x', 'y', 'z', 'time')
    return points_to_cloud(points, header(stamp_ns + CLOCK_NS, 'lidar'), names)


def write_moving(path: Path, frames: int = 4, mounted: str = '/tf_static') -> Path:
    records = [(START_NS - PERIOD_NS, mounted, TF_TYPE, extrinsics())]
    for k in range(-2, 2 * frames + 2):
        stamp = START_NS + k * PERIOD_NS // 2
        records.append((stamp, '/tf', TF_TYPE, motion(stamp)))
    for k in range(frames):
        stamp = START_NS + k * PERIOD_NS
        head = header(stamp + LAG_NS, 'camera')
        records += [
            (stamp, '/points', CLOUD, sweep(stamp)),
            (stamp + LAG_NS, '/image_rect', IMAGE, rgb_to_image(make_image(k), head)),
            (stamp + LAG_NS, '/camera_info', INFO, camera_to_info(CAMERA, head)),
        ]
    with BagWriter(path, 'mcap') as writer:
        writer.add_topic('/tf_static', TF_TYPE, latched=True)
        for time_ns, topic, kind, message in sorted(records, key=lambda record: record[0]):
            writer.write(topic, kind, time_ns, message)
    return path


def complete(bag: Path, out: Path, *options: object) -> list[np.ndarray]:
    invoke('complete', 'bag', bag, out, '--model', 'nearest', '--only-new', *options)
    with Bag(out) as done:
        topic = done.topic(DEPTH)
        return [depth_from_image(done.decode(record)) for record in done.records([topic])]


MOVING = ('--fixed-frame', 'odom', '--lidar-clock-offset', '-2')


def test_depth_is_that_at_the_time_of_the_image(tmp_path):
    depths = complete(write_moving(tmp_path / 'in'), tmp_path / 'out', *MOVING)
    assert len(depths) == 4
    for k, depth in enumerate(depths):
        truth = DISTANCE_M - way(START_NS + k * PERIOD_NS + LAG_NS)
        np.testing.assert_allclose(depth, truth, atol=2e-3)


def test_without_the_corrections_it_is_not(tmp_path):
    source = write_moving(tmp_path / 'in')
    skewed = complete(source, tmp_path / 'skewed', *MOVING, '--keep-skew')
    assert all(np.ptp(depth) > 0.5 for depth in skewed)
    only_mounted = complete(source, tmp_path / 'mounted', '--lidar-clock-offset', '-2')
    truth = DISTANCE_M - way(START_NS + LAG_NS)
    assert np.median(only_mounted[0]) == pytest.approx(truth + SPEED * LAG_NS * 1e-9, abs=0.15)


def test_accumulated_sweeps_lie_on_the_same_wall(tmp_path):
    source = write_moving(tmp_path / 'in')
    sparse = []
    for number, options in enumerate((MOVING, (*MOVING, '--accumulate-sweeps', 3))):
        out = tmp_path / f'out{number}'
        outputs = ('--output', 'sparse/image_rect', '--output', DEPTH[1:])
        depths = complete(source, out, *options, *outputs)
        np.testing.assert_allclose(
            depths[-1], DISTANCE_M - way(START_NS + 3 * PERIOD_NS + LAG_NS), atol=2e-3
        )
        with Bag(out) as done:
            records = list(done.records([done.topic('/sparse/image_rect')]))
            sparse.append(depth_from_image(done.decode(records[-1])))
    assert (sparse[1] > 0).sum() > 1.2 * (sparse[0] > 0).sum()


def test_frames_past_the_last_transform_are_dropped_with_one_reason(tmp_path):
    source, report = write_moving(tmp_path / 'in', frames=6), tmp_path / 'report.json'
    cut = tmp_path / 'cut'
    with Bag(source) as bag, BagWriter(cut, 'mcap') as writer:
        for record in bag.records():
            if record.topic.name != '/tf' or record.time_ns < START_NS + 3 * PERIOD_NS:
                writer.copy(record, bag.typestore)
    assert len(complete(cut, tmp_path / 'out', *MOVING, '--report', report)) == 3
    (reason,) = json.loads(report.read_text())['dropped_frames'].items()
    assert "some time after the last transform from 'base' to 'odom'" in reason[0]
    assert reason[1] == 3


def test_extrinsics_are_found_in_tf_too(tmp_path):
    source = write_moving(tmp_path / 'in', mounted='/tf')
    # A single transform holds at its stamp alone, which no sweep has.
    options = ('--model', 'nearest', '--lidar-clock-offset', '-2')
    text = invoke('complete', 'bag', source, tmp_path / 'out', *options, exit_code=1)
    assert "after the last transform from 'lidar' to 'base'" in text.replace('\n', ' ')
