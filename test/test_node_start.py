"""How nodes start, or say why they cannot, in processes of their own."""

import os
import re
import subprocess
import sys

import pytest
import rclpy
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_graph import ROOT, NodeProcess
from sensor_msgs.msg import Image

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
        ('T: [0, 0, 0.5]', 'write [0.0, 0.5] instead of [0, 0.5]'),
        ('T: [[1, 0], [0, 1]]', 'write a matrix as one list of numbers'),
        ('T:', 'a parameter has no value'),
        ('T: 1\n   U: 2', 'check indentation'),
        (None, 'check the path'),
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
    assert 'expected ros__parameters (with two underscores)' in log


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize(
    ('arguments', 'environment', 'cause'),
    [
        (['--wrong'], {}, "unknown ROS arguments: ['--wrong']"),
        (['-p', 'drive:=[0, 0.5]'], {}, 'write [0.0, 0.5] instead'),
        (['-r', '__ns:=a-b'], {}, 'expected FROM:=TO'),
        (['--log-level', 'chatty'], {}, 'expected debug, info, warn, error or fatal'),
        ([], {'ROS_DOMAIN_ID': 'abc'}, 'expected an integer from 0 to 232'),
    ],
)
def test_other_arguments_and_the_environment_are_told_of(arguments, environment, cause):
    status, log = start('kitti_player', *arguments, **environment)
    assert status == 1
    assert cause in log


# ---------------------------------------------------------------- parameters of files


@pytest.fixture
def waiting(folder):
    """Starts completion_node as far as its parameters."""
    started = []

    def start_waiting(*arguments: object) -> NodeProcess:
        words = ('-p', 'autostart:=false', '-p', 'model:=nearest', *map(str, arguments))
        started.append(NodeProcess(MODULES['completion_node'], folder, *words))
        return started[-1]

    yield start_waiting
    for process in started:
        process.stop()


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize('around', ['', '/robot'])
def test_the_documented_parameter_files_hold_in_every_namespace(tmp_path, around):
    text = (ROOT / 'docs/sensors.md').read_text()
    single, several = re.findall(r'```yaml\n(.*?)```', text, re.DOTALL)
    file = tmp_path / 'rig.yaml'
    for content, inner, names in (
        (single, '', {'T_camera_lidar'}),
        (several, '/front', {'T_camera_lidar', 'fixed_frame'}),
        (several, '/rear', {'T_camera_lidar', 'fixed_frame'}),
    ):
        file.write_text(content)
        context = rclpy.Context()
        rclpy.init(args=['--ros-args', '--params-file', str(file)], context=context)
        node = rclpy.create_node(
            'completion_node',
            context=context,
            namespace=f'{around}{inner}',
            automatically_declare_parameters_from_overrides=True,
        )
        given = set(node.get_parameters_by_prefix(''))
        node.destroy_node()
        context.shutdown()
        assert names <= given


def dump(probe, node: str = '/completion_node') -> dict[str, object]:
    """Every parameter with its value, as `ros2 param dump` asks for them."""
    names = probe.call(ListParameters, f'{node}/list_parameters', ListParameters.Request())
    names = sorted(names.result.names)
    request = GetParameters.Request(names=names)
    values = probe.call(GetParameters, f'{node}/get_parameters', request).values
    plain = map(parameter_value_to_python, values)
    return {n: v if isinstance(v, (bool, int, float, str)) else list(v)
            for n, v in zip(names, plain, strict=True)}  # fmt: skip


def test_what_is_dumped_of_the_parameters_loads_again(waiting, probe, tmp_path):
    first = waiting('-p', 'hidden_points.ratio:=0.8')
    before = dump(probe)
    assert before['T_camera_lidar'] == [] and before['hidden_points.ratio'] == 0.8
    kinds = probe.call(
        DescribeParameters,
        '/completion_node/describe_parameters',
        DescribeParameters.Request(names=['T_camera_lidar']),
    )
    assert kinds.descriptors[0].type == Parameter.Type.DOUBLE_ARRAY.value
    assert first.stop() == 0
    tree: dict = {}
    for name, value in before.items():
        *parents, leaf = name.split('.')
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    file = tmp_path / 'dump.yaml'
    file.write_text(yaml.dump({'/completion_node': {'ros__parameters': tree}}))
    second = waiting('--params-file', file)
    assert dump(probe) == before, second.log


def test_parameters_of_other_nodes_in_a_shared_file_are_left_out(waiting, probe, tmp_path):
    file = tmp_path / 'all.yaml'
    file.write_text('/**:\n  ros__parameters: {robot_name: r2, sync_slob: 0.2, sync_slop: 0.3}\n')
    process = waiting('--params-file', file, '-p', 'from_a_parent_launch:=1')
    given = dump(probe)
    assert given['sync_slop'] == 0.3 and 'robot_name' not in given
    assert 'unknown parameter sync_slob; did you mean sync_slop?' in process.log
    assert 'unknown parameter from_a_parent_launch; it is ignored' in process.log


@pytest.mark.usefixtures('folder')
def test_a_misspelt_name_in_the_own_section_ends_the_start_with_a_hint(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**/completion_node:\n  ros__parameters: {sync_slob: 0.2}\n')
    status, log = start('completion_node', '--params-file', file)
    assert status == 1
    assert 'unknown parameter sync_slob; did you mean sync_slop?' in log


# ---------------------------------------------------------------- quality of service


def test_overrides_of_qos_reach_subscriptions_and_publishers(folder, probe):
    overrides = {
        '/points.subscription.reliability': 'best_effort',
        '/confidence.publisher.reliability': 'best_effort',
        '/confidence.publisher.depth': '7',
        '/lidar.subscription.depth': '3',
    }
    words = [w for name, v in overrides.items() for w in ('-p', f'qos_overrides.{name}:={v}')]
    process = NodeProcess(MODULES['completion_node'], folder, '-p', 'model:=nearest', *words)
    node = probe.node
    try:
        probe.listen(
            'confidence', Image, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        assert probe.wait(probe.heard), process.log
        of_points = node.get_subscriptions_info_by_topic('/points')
        of_images = node.get_subscriptions_info_by_topic('/image_rect')
        made = node.get_publishers_info_by_topic('/confidence')
        # The probe publishes reliably, which the node would ask for.
        assert [i.qos_profile.reliability.name for i in of_points] == ['BEST_EFFORT']
        assert [i.qos_profile.reliability.name for i in of_images] == ['RELIABLE']
        assert [i.qos_profile.reliability.name for i in made] == ['BEST_EFFORT']
        assert dump(probe)['qos_overrides./confidence.publisher.depth'] == 7
        assert 'qos_overrides./lidar.subscription.depth is ignored' in process.log
    finally:
        assert process.stop() == 0, process.log


@pytest.mark.usefixtures('folder')
@pytest.mark.parametrize(
    ('override', 'cause'),
    [
        ('reliability:=sometimes', "got 'sometimes'"),
        ('depth:=deep', "expected a number, got 'deep'"),
        ('realiability:=reliable', 'expected one of the policies reliability, durability'),
    ],
)
def test_an_override_of_qos_that_there_is_not_ends_the_start(override, cause):
    status, log = start('kitti_player', '-p', f'qos_overrides./points.publisher.{override}')
    assert status == 1
    assert 'parameter qos_overrides./points.publisher.' in log and cause in log


def test_a_subscriber_that_comes_before_the_first_report_is_not_overlooked(waiting, probe):
    node = waiting('-p', 'report_period:=3.0')
    for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=step))
        assert probe.call(ChangeState, '/completion_node/change_state', request).success
    probe.listen('/sparse/image_rect', Image)
    assert probe.wait(lambda: 'nothing to complete' in node.log)
    assert 'no output has a subscriber' not in node.log
