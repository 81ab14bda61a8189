"""How nodes start, or say why they cannot, in processes of their own."""

import os
import subprocess
import sys

import pytest
from ros_graph import ROOT

MODULES = {
    'bag_player': 'dmd3c_ros.node.players.bag_player',
    'completion_node': 'dmd3c_ros.completion_node',
    'droid_feeder': 'dmd3c_ros.node.droid_feeder',
    'kitti_player': 'dmd3c_ros.node.players.kitti_player',
    'sim_player': 'dmd3c_ros.node.players.sim_player',
}


def start(node: str, *arguments: object, **environment: str) -> tuple[int, str]:
    """Exit status and log of a node that ends by itself."""
    done = subprocess.run(
        [sys.executable, '-m', MODULES[node], '--ros-args', *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert 'Traceback' not in done.stdout
    return done.returncode, done.stdout


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize('node', MODULES)
def test_no_node_takes_a_bad_argument_for_a_wish_to_end(node):
    status, log = start(node, '-r', 'no_rule')
    assert status == 1
    assert f"[{node}]: failed to initialize rcl: Couldn't parse remap rule: '-r no_rule'" in log
    assert 'expected FROM:=TO' in log


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize(
    ('text', 'cause'),
    [
        ('T: [0, 0, 0.5]', 'write each with a point, [0.0, 0.5] instead of [0, 0.5]'),
        ('T: [[1, 0], [0, 1]]', 'write the numbers of a matrix as one list'),
        ('T:', 'a parameter has no value'),
        ('T: 1\n   U: 2', 'is the indentation right'),
        (None, 'is the path right'),
    ],
)
def test_a_bad_parameter_file_is_named_with_its_line_and_the_remedy(tmp_path, text, cause):
    file = tmp_path / 'mine.yaml'
    if text:
        file.write_text(f'/**:\n  ros__parameters:\n    {text}\n')
    status, log = start('kitti_player', '--params-file', file)
    assert status == 1
    (line,) = (line for line in log.splitlines() if 'FATAL' in line)
    assert str(file) in line and cause in line
    assert text is None or 'line' in line
    assert '.c:' not in line


@pytest.mark.usefixtures('folder')
def test_a_misspelt_section_of_a_parameter_file_is_told(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros_parameters:\n    rate: 1.0\n')
    status, log = start('kitti_player', '--params-file', file)
    assert status == 1
    assert 'ros__parameters (with two underscores) is expected' in log


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize(
    ('arguments', 'environment', 'cause'),
    [
        (['--wrong'], {}, "unknown arguments of ROS: ['--wrong']"),
        (['-p', 'drive:=[0, 0.5]'], {}, 'write each with a point'),
        (['-r', '__ns:=a-b'], {}, 'expected FROM:=TO'),
        (['--log-level', 'chatty'], {}, 'valid severity level'),
        ([], {'ROS_DOMAIN_ID': 'abc'}, 'expected a whole number from 0 to 232'),
    ],
)
def test_other_arguments_and_the_environment_are_told_of(arguments, environment, cause):
    status, log = start('kitti_player', *arguments, **environment)
    assert status == 1
    assert cause in log
