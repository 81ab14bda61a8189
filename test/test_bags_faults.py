"""Recordings with bad messages, memory that runs out, names that are taken on the way."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import torch
from bag_data import PERIOD_NS, START_NS, decoded, header, make_image, write_bag
from commands import complete, invoke

from dmd3c_ros.bags.reader import Bag
from dmd3c_ros.bags.records import BagError
from dmd3c_ros.bags.selection import IMAGE
from dmd3c_ros.bags.writer import BagWriter
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.datasets import miniature
from dmd3c_ros.messages.images import rgb_to_image

DEPTH = '/depth_registered/image_rect'

pytestmark = pytest.mark.usefixtures('wide_terminal')


@pytest.mark.parametrize('topic', ['/camera/image_rect', '/camera/camera_info', '/lidar/points'])
@pytest.mark.parametrize('options', [(), ('--fixed-frame', 'base', '--accumulate-sweeps', '2')])
def test_a_message_that_is_cut_off_costs_no_more_than_its_frame(tmp_path, topic, options):
    source, stamp = tmp_path / 'in', START_NS + PERIOD_NS
    with Bag(write_bag(tmp_path / 'whole')) as bag, BagWriter(source) as writer:
        for record in bag.records():
            cut = record.topic.name == topic and record.time_ns < stamp + PERIOD_NS // 2
            writer.copy(record._replace(data=record.data[:8]) if cut else record, bag.typestore)
    text = complete(source, tmp_path / 'out', *options)
    assert f'2 messages skipped: {topic}: expected a header, got 8 bytes' in text
    assert len(decoded(tmp_path / 'out', DEPTH)) == 1
    text = invoke('export', 'tum', tmp_path / 'out', tmp_path / 'tum')
    assert f'{topic}: expected' in text or topic == '/lidar/points'
    assert '1 frames' in text


def test_a_topic_whose_messages_are_gone_is_named(tmp_path):
    source = write_bag(tmp_path / 'in', storage='sqlite3')
    with closing(sqlite3.connect(source / 'in.db3')) as database, database:
        query = "SELECT id FROM topics WHERE name='/lidar/points'"
        database.execute(f'DELETE FROM messages WHERE topic_id=({query})')
    # metadata.yaml still counts them.
    text = invoke('bag', 'info', source)
    assert '/lidar/points: expected a message, could not read any' in text


def test_without_a_sweep_in_time_it_is_told_how_far_away_the_sweeps_are(tmp_path):
    source = write_bag(tmp_path / 'late', lag_ns=2_370_000_000)
    text = complete(source, tmp_path / 'out', exit_code=1)
    assert 'stamp of closest sweep minus stamp of image, unpaired images:' in text
    # Those of the first image and of the last, in a tenth each.
    assert ' 2170.0 to 2190.0 ms      1 #' in text and ' 2350.0 to 2370.0 ms      1 #' in text
    assert (
        'the clocks differ by about 2.370 s; use one clock or --lidar-clock-offset -2.370' in text
    )
    text = complete(source, tmp_path / 'out', '--lidar-clock-offset', '-2.37')
    assert '3 frames completed' in text
    # Advice is what to give instead, not what to add to what was given.
    wrong = ('--lidar-clock-offset', '1.5')
    text = complete(source, tmp_path / 'wrong', *wrong, exit_code=1)
    assert (
        'the clocks differ by about 3.870 s; use one clock or --lidar-clock-offset -2.370' in text
    )
    source = write_bag(tmp_path / 'shifted', frames=9, lag_ns=60_000_000)
    options = ('--sync-slop', '0.03')
    text = complete(source, tmp_path / 'none', *options, exit_code=1)
    assert 'they are always -0.040 s apart' in text and '--lidar-clock-offset 0.040' in text


def test_without_a_cloud_what_the_bag_has_is_listed(tmp_path):
    with Bag(write_bag(tmp_path / 'in')) as bag, BagWriter(tmp_path / 'less') as writer:
        for record in bag.records():
            if record.topic.name != '/lidar/points':
                writer.copy(record, bag.typestore)
    text = complete(tmp_path / 'less', tmp_path / 'out', exit_code=1)
    assert 'expected a sensor_msgs/msg/PointCloud2 topic with messages, found none' in text
    assert '/camera/image_rect (sensor_msgs/msg/Image, 3)' in text


def test_a_run_that_is_terminated_leaves_nothing(tmp_path):
    source = write_bag(tmp_path / 'in', frames=300)
    arguments = ('complete', 'bag', source, tmp_path / 'out', '--model', 'nearest')
    process = subprocess.Popen(
        [sys.executable, '-m', 'dmd3c_ros.cli', *map(str, arguments)],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(tmp_path.glob('.out.*')):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, text
    assert [path.name for path in tmp_path.iterdir()] == ['in'] and 'Traceback' not in text


def out_of_memory(monkeypatch, calls: set[int]) -> None:
    """Let memory run out in the completions of these numbers."""
    complete, number = DepthCompleter.complete, count()

    def run(*arguments):
        if next(number) in calls:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\nMore')
        return complete(*arguments)

    monkeypatch.setattr(DepthCompleter, 'complete', run)


def test_where_memory_never_suffices_the_run_ends_with_what_takes_less(tmp_path, monkeypatch):
    out_of_memory(monkeypatch, {0})
    text = complete(write_bag(tmp_path / 'in'), tmp_path / 'out', exit_code=1)
    assert 'error: out of memory: --inference-scale 0.5 needs a quarter of it, --device' in text
    assert text.rstrip().endswith('(CUDA out of memory. Tried to allocate 2 GiB.)')
    assert not (tmp_path / 'out').exists()


def test_where_memory_runs_out_only_options_of_the_command_are_named(tmp_path, monkeypatch):
    miniature.write_kitti(tmp_path, miniature.simulate('street', (208, 64), 1))
    out_of_memory(monkeypatch, {0})
    options = ('--dataset', 'kitti-selection', '--root', tmp_path, '--out', tmp_path / 'out')
    text = invoke('evaluate', *options, '--model', 'nearest', exit_code=1)
    assert 'error: out of memory: --device cpu needs no GPU memory (CUDA' in text


def test_where_memory_runs_out_on_the_way_one_frame_is_dropped(tmp_path, monkeypatch):
    out_of_memory(monkeypatch, {1})
    text = complete(write_bag(tmp_path / 'in'), tmp_path / 'out')
    assert '1 frames dropped: completion failed: out of memory' in text
    assert len(decoded(tmp_path / 'out', DEPTH)) == 2


def test_a_whole_bag_whose_name_was_taken_is_kept(tmp_path):
    with pytest.raises(BagError, match='the bag is in') as error:  # noqa: SIM117
        with BagWriter(tmp_path / 'bag') as writer:
            writer.write('/image', IMAGE, 5, rgb_to_image(make_image(0), header(5, 'camera')))
            (tmp_path / 'bag').mkdir()
            (tmp_path / 'bag' / 'mine').touch()
    assert len(decoded(Path(str(error.value).rpartition(' ')[2]), '/image')) == 1
    assert (tmp_path / 'bag' / 'mine').exists()
