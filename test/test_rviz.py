"""RViz's layout follows the topics and the frame that are in use."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ros_graph
import yaml
from ros_graph import ROOT, NodeProcess, parameters
from synthetic_drive import make_drive

from dmd3c_ros.node.inputs import TOPICS as INPUTS
from dmd3c_ros.pipeline.outputs import OUTPUTS

TEMPLATE = ROOT / 'config/completion.rviz'
# Instead of RViz: tells its arguments, and waits for a signal.
RVIZ = """#!/bin/sh
printf '%s\\n' "$@" > "$(dirname "$0")/arguments"
exec sleep 60
"""


def topics(layout: dict) -> dict[str, str]:
    displays = layout['Visualization Manager']['Displays']
    return {d['Name']: d['Topic']['Value'] for d in displays if 'Topic' in d}


def test_the_layout_shows_topics_that_exist():
    shown = set(topics(yaml.safe_load(TEMPLATE.read_text())).values())
    assert shown <= INPUTS.keys() | OUTPUTS.keys()
    assert {'depth_registered/points', 'depth_registered/color', 'points'} <= shown
    assert 'sparse/overlay' in shown


@pytest.fixture
def rviz(folder, tmp_path):
    """Starts completion_rviz, with a program called rviz2 in the path."""
    (tmp_path / 'rviz2').write_text(RVIZ)
    (tmp_path / 'rviz2').chmod(0o755)
    prefix = tmp_path / 'prefix'
    (prefix / 'share/ament_index/resource_index/packages').mkdir(parents=True)
    (prefix / 'share/ament_index/resource_index/packages/dmd3c_ros').touch()
    (prefix / 'share/dmd3c_ros').symlink_to(ROOT)
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, '-m', 'dmd3c_ros.node.rviz', '--ros-args', *arguments],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    'AMENT_PREFIX_PATH': str(prefix),
                    'PATH': f'{tmp_path}:{os.environ["PATH"]}',
                    'TMPDIR': str(tmp_path),
                },
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_rviz_shows_the_topics_and_the_frame_in_use(rviz, tmp_path):
    from sensor_msgs.msg import CompressedImage

    inputs = {
        'camera_info': ('/cam0/camera_info', INPUTS['camera_info']),
        'image_rect': ('/cam0/image_rect/compressed', CompressedImage),
    }
    probe = ros_graph.Probe(inputs=inputs)
    names = ('image_rect:=/cam0/image_rect', 'camera_info:=/cam0/camera_info', '__ns:=/rig')
    process = rviz(*(word for name in names for word in ('-r', name)), '-p', 'use_sim_time:=true')
    arguments = tmp_path / 'arguments'

    def told() -> bool:
        probe.publishers['camera_info'].publish(ros_graph.camera_info())
        return arguments.exists() and bool(arguments.read_text())

    assert probe.wait(told), process.poll()
    words = arguments.read_text().split()
    assert words[2:] == ['--ros-args', '-p', 'use_sim_time:=true']
    layout = yaml.safe_load(Path(words[1]).read_text())
    assert layout['Visualization Manager']['Global Options']['Fixed Frame'] == 'lens'
    shown = topics(layout)
    assert shown['Camera'] == '/cam0/image_rect/compressed'
    assert shown['LiDAR sweep'] == '/rig/points'
    assert shown['Completed cloud'] == '/rig/depth_registered/points'
    probe.close()
    # RViz is that very process, which a launch can end.
    process.send_signal(signal.SIGINT)
    assert process.wait(ros_graph.PATIENCE_S) == -signal.SIGINT


def test_a_signal_ends_the_waiting_for_the_frame(rviz, folder):
    process = rviz()
    for line in process.stderr:
        if 'RViz will start with the first message on /camera_info' in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(ros_graph.PATIENCE_S) == 0


def test_rviz_opens_on_a_player_that_waits_for_a_node_without_subscribers(rviz, folder, tmp_path):
    node = NodeProcess('dmd3c_ros.completion_node', folder, *parameters(model='nearest'))
    settings = parameters(drive=make_drive(tmp_path), loop='true', publish_clock='true')
    player = NodeProcess('dmd3c_ros.node.players.kitti_player', folder, *settings)
    probe = ros_graph.Probe(publishing=False)
    try:
        assert probe.wait(lambda: 'waiting for subscribers' in player.log), player.log
        process = rviz('-p', 'use_sim_time:=true')
        assert probe.wait((tmp_path / 'arguments').exists), player.log + node.log
        assert process.poll() is None
        assert 'incompatible QoS' not in player.log
    finally:
        probe.close()
        player.stop()
        node.stop()
