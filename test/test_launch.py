"""The launch files, with small stand-ins for `launch` and `launch_ros` of a ROS install."""

import json
import runpy
import sys
import types
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = ('completion', 'kitti', 'slam')
# One set for all tests: what has been imported once keeps what it was given then.
_INSTALLED: set[str] = set()
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str | None = None
    description: str = ''


@dataclass
class SetEnvironmentVariable:
    name: str
    value: str


@dataclass
class OpaqueFunction:
    function: object


@dataclass
class LaunchDescription:
    entities: list


@dataclass
class LaunchConfiguration:
    name: str

    def perform(self, context: dict) -> str:
        return context[self.name]


@dataclass
class Node:
    package: str
    executable: str
    namespace: str | None = None
    output: str = 'log'
    parameters: list = ()
    remappings: list = ()
    arguments: list = ()
    additional_env: dict | None = None


@pytest.fixture(autouse=True)
def launch_packages(monkeypatch):
    """Stand-ins under the real names; a keyword that the real classes lack would fail here."""
    modules = {
        'launch': {'LaunchDescription': LaunchDescription},
        'launch.actions': {
            cls.__name__: cls
            for cls in (DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable)
        },
        'launch.substitutions': {'LaunchConfiguration': LaunchConfiguration},
        'launch_ros': {},
        'launch_ros.actions': {'Node': Node},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, 'dmd3c_ros.node.launch.actions', raising=False)
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    sys.modules.pop('dmd3c_ros.node.launch.actions', None)


class PackageNotFoundError(LookupError):
    pass


@pytest.fixture
def installed(monkeypatch) -> set[str]:
    """Packages that ament finds; a stand-in for ament_index_python."""
    packages = _INSTALLED
    packages |= {'rtabmap_slam', 'rtabmap_odom', 'rtabmap_viz'}

    def get_package_share_directory(name: str) -> str:
        if name not in packages:
            raise PackageNotFoundError(name)
        return f'/opt/ros/share/{name}'

    module = types.ModuleType('ament_index_python.packages')
    module.PackageNotFoundError = PackageNotFoundError
    module.get_package_share_directory = get_package_share_directory
    monkeypatch.setitem(sys.modules, 'ament_index_python', types.ModuleType('ament_index_python'))
    monkeypatch.setitem(sys.modules, 'ament_index_python.packages', module)
    monkeypatch.delitem(sys.modules, 'dmd3c_ros.node.launch.rtabmap', raising=False)
    yield packages
    sys.modules.pop('dmd3c_ros.node.launch.rtabmap', None)


def description(name: str) -> list:
    file = runpy.run_path(str(ROOT / 'launch' / f'{name}.launch.py'))
    return file['generate_launch_description']().entities


def start(name: str, **arguments: str) -> list:
    """The actions that a launch with these arguments comes to."""
    entities = description(name)
    declared = [e for e in entities if isinstance(e, DeclareLaunchArgument)]
    unknown = arguments.keys() - {argument.name for argument in declared}
    assert not unknown, f'not declared: {unknown}'
    context = {a.name: arguments.get(a.name, a.default_value) for a in declared}
    (opaque,) = (e for e in entities if isinstance(e, OpaqueFunction))
    return opaque.function(context)


def nodes(actions: list) -> dict[str, Node]:
    return {action.executable: action for action in actions if isinstance(action, Node)}


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('name', FILES)
def test_every_argument_is_declared_at_the_top_with_a_description(name):
    arguments = [e for e in description(name) if isinstance(e, DeclareLaunchArgument)]
    assert len(arguments) > 8
    assert all(argument.description for argument in arguments)
    assert len({argument.name for argument in arguments}) == len(arguments)


@pytest.mark.usefixtures('installed')
@pytest.mark.parametrize('name', FILES)
def test_launch_files_pass_no_parameter_that_was_not_given(name):
    given = {'drive': '/data/drive'} if name == 'kitti' else {}
    node = nodes(start(name, **given))['completion_node']
    assert node.parameters == []
    assert list(node.remappings) == []


def test_given_arguments_reach_the_node_with_their_types(tmp_path):
    actions = start(
        'completion',
        image='/cam/image',
        points='/lidar',
        params_file='mine.yaml',
        model='nearest',
        T_camera_lidar='[0, 0, 0.5, 0, 0, 0, 1]',
        use_sim_time='true',
        namespace='front',
    )
    node = nodes(actions)['completion_node']
    assert node.parameters == [
        'mine.yaml',
        {'model': 'nearest', 'T_camera_lidar': [0, 0, 0.5, 0, 0, 0, 1], 'use_sim_time': True},
    ]
    assert node.remappings == [('image_rect', '/cam/image'), ('points', '/lidar')]
    assert node.namespace == 'front'


def test_several_cameras_get_a_node_each_and_share_the_lidar(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr('os.cpu_count', lambda: 8)
    actions = start(
        'completion',
        cameras='[front, cams/rear]',
        image='image_raw',
        points='ouster/points',
        namespace='rig',
        params_file='rig.yaml',
        rectify='true',
        rviz='true',
    )
    started = [a for a in actions if isinstance(a, Node) and a.executable == 'completion_node']
    assert [node.namespace for node in started] == ['/rig/front', '/rig/cams/rear']
    for node in started:
        assert dict(node.remappings) == {
            'image_rect': 'image_raw',
            'points': '/rig/ouster/points',
        }
        assert node.parameters == ['rig.yaml', {'rectify': True}]
        assert node.additional_env['OMP_NUM_THREADS'] == '4'
    assert nodes(actions)['rviz2'].namespace == '/rig/front'


def test_threads_and_the_lidars_topic_may_be_the_users_own(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    started = [a for a in start('completion', cameras='left,right') if isinstance(a, Node)]
    assert [node.namespace for node in started] == ['/left', '/right']
    assert all(dict(node.remappings) == {'points': '/points'} for node in started)
    assert all('OMP_NUM_THREADS' not in node.additional_env for node in started)


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'image': '/front/image_raw'}, 'image_rect: expected a name within'),
        ({'camera_info': '/info'}, 'camera_info: expected a name within'),
        ({'T_camera_lidar': '[0, 0, 0, 0, 0, 0, 1]'}, 'expected one for each camera'),
        ({'cameras': 'front,front'}, 'expected different namespaces'),
        ({'cameras': '[2nd]'}, 'expected different namespaces'),
    ],
)
def test_arguments_that_cannot_hold_for_several_cameras_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        start('completion', **{'cameras': 'front,rear', **arguments})


def test_every_parameter_of_the_launch_files_is_known_to_its_node():
    from dmd3c_ros import completion_node
    from dmd3c_ros.node.launch import actions
    from dmd3c_ros.node.parameters import entries
    from dmd3c_ros.node.players import kitti_player
    from dmd3c_ros.node.players.settings import PlayerSettings

    known = {name for name, _ in entries(completion_node.PARAMETER_GROUPS)} | {'use_sim_time'}
    assert set(actions._PARAMETERS) <= known
    player = {name for name, _ in entries(kitti_player.PARAMETER_GROUPS)}
    player |= {item.name for item in fields(PlayerSettings)}
    actions = start('kitti', drive='~/d', camera='image_03', rate='0.5', use_sim_time='true')
    parameters = nodes(actions)['kitti_player'].parameters[0]
    assert parameters.keys() <= player
    assert (parameters['rate'], parameters['publish_clock']) == (0.5, True)
    assert Path(parameters['drive']).is_absolute()


def test_rviz_starts_on_demand_with_a_layout_of_topics_that_exist():
    from dmd3c_ros.node.inputs import TOPICS as INPUTS
    from dmd3c_ros.pipeline.outputs import OUTPUTS

    assert 'rviz2' not in nodes(start('completion'))
    assert 'rviz2' not in nodes(start('kitti', drive='/d', rviz='false'))
    node = nodes(start('kitti', drive='/d'))['rviz2']
    layout = yaml.safe_load(Path(node.arguments[1]).read_text())
    displays = layout['Visualization Manager']['Displays']
    topics = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert topics <= INPUTS.keys() | OUTPUTS.keys()
    assert {'depth_registered/points', 'depth_registered/color', 'confidence'} <= topics


def test_a_switch_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(ValueError, match="rviz: expected true or false, got 'maybe'"):
        start('completion', rviz='maybe')


def profiles(actions: list) -> dict[str, str]:
    return {a.name: a.value for a in actions if isinstance(a, SetEnvironmentVariable)}


def test_the_fast_dds_profile_is_set_before_any_node_starts():
    actions = start('completion')
    kinds = [type(action) for action in actions]
    assert kinds.index(Node) > kinds.index(SetEnvironmentVariable)
    assert profiles(actions).keys() == set(PROFILE_VARIABLES)
    assert all(Path(path) == ROOT / 'config/fastdds.xml' for path in profiles(actions).values())


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_a_profile_of_the_users_own_is_left_alone(monkeypatch, variable):
    monkeypatch.setenv(variable, '/etc/mine.xml')
    assert profiles(start('completion')) == {}
    chosen = profiles(start('completion', fastdds_profile='/etc/other.xml'))
    assert set(chosen.values()) == {'/etc/other.xml'}


def test_the_profile_can_be_turned_off():
    assert profiles(start('completion', fastdds_profile='none')) == {}


def test_waiting_threads_of_the_network_leave_the_core_soon():
    nodes = [action for action in start('completion') if isinstance(action, Node)]
    (node,) = [node for node in nodes if node.executable == 'completion_node']
    assert node.additional_env == {'OMP_WAIT_POLICY': 'ACTIVE', 'GOMP_SPINCOUNT': '1000'}


def test_the_profile_holds_large_messages():
    from xml.etree import ElementTree

    tree = ElementTree.parse(ROOT / 'config/fastdds.xml')
    (size,) = tree.findall('.//{*}segment_size')
    assert int(size.text) >= 64 << 20


def test_the_parameter_file_lists_every_parameter_with_its_default():
    from dmd3c_ros.completion_node import PARAMETER_GROUPS

    script = runpy.run_path(str(ROOT / 'docs/write_parameters.py'))
    expected = script['parameter_file']('completion_node', PARAMETER_GROUPS)
    written = (ROOT / 'config/completion.yaml').read_text()
    assert written == expected, 'python docs/write_parameters.py > config/completion.yaml'
    values = yaml.safe_load(written)['/**/completion_node']['ros__parameters']
    assert values['sync_slop'] > 0


# ---------------------------------------------------------------------------- RTAB-Map


@pytest.mark.usefixtures('installed')
def test_rtabmap_gets_the_picture_and_the_depth_that_belong_together():
    from dmd3c_ros.pipeline.outputs import OUTPUTS

    started = nodes(start('slam', image='/cam/image', frame_id='base_link', namespace='front'))
    assert started.keys() == {'completion_node', 'rgbd_odometry', 'rtabmap'}
    for name, package in (('rgbd_odometry', 'rtabmap_odom'), ('rtabmap', 'rtabmap_slam')):
        node = started[name]
        assert (node.package, node.namespace) == (package, 'front')
        topics = dict(node.remappings)
        assert topics['rgb/image'] == '/cam/image'
        assert {topics['depth/image'], topics['rgb/camera_info']} <= OUTPUTS.keys()
        (parameters,) = node.parameters
        assert parameters['frame_id'] == 'base_link'
        assert parameters['approx_sync'] is False
        # The library's own parameters are strings, whatever they hold.
        library = {key: value for key, value in parameters.items() if key[0].isupper()}
        assert library and all(isinstance(value, str) for value in library.values())
    assert started['rtabmap'].arguments == ['-d']


@pytest.mark.usefixtures('installed')
def test_a_robot_with_odometry_of_its_own_and_an_old_map_keeps_them():
    started = nodes(
        start('slam', odometry='false', odom_topic='/odom', delete_map='false', rtabmap_viz='true')
    )
    assert started.keys() == {'completion_node', 'rtabmap', 'rtabmap_viz'}
    node = started['rtabmap']
    assert dict(node.remappings)['odom'] == '/odom'
    assert node.parameters[0]['subscribe_odom_info'] is False
    assert list(node.arguments) == []
    rectified = nodes(start('slam', image='/raw', rgb_topic='rectified/image_rect'))['rtabmap']
    assert dict(rectified.remappings)['rgb/image'] == 'rectified/image_rect'


def test_a_launch_without_rtabmap_says_what_to_install(installed):
    installed.remove('rtabmap_odom')
    with pytest.raises(RuntimeError, match='needs rtabmap_odom, which is not installed: sudo apt'):
        start('slam')
    assert 'rtabmap' in nodes(start('slam', odometry='false'))


# ---------------------------------------------------------------------------- Foxglove


def test_the_foxglove_layout_shows_topics_that_exist_and_places_every_panel():
    from dmd3c_ros.node.inputs import TOPICS as INPUTS
    from dmd3c_ros.pipeline.outputs import OUTPUTS

    layout = json.loads((ROOT / 'config/foxglove_layout.json').read_text())

    def panels(part) -> list[str]:
        if isinstance(part, str):
            return [part]
        assert part['direction'] in ('row', 'column')
        return panels(part['first']) + panels(part['second'])

    configurations = layout['configById']
    assert sorted(panels(layout['layout'])) == sorted(configurations)
    kinds = {name.partition('!')[0] for name in configurations}
    assert kinds == {'3D', 'Image', 'DiagnosticSummary'}
    topics = {topic for panel in configurations.values() for topic in panel.get('topics', {})}
    for panel in configurations.values():
        topics |= {v for k, v in panel.get('imageMode', {}).items() if k.endswith('Topic')}
    assert len(topics) > 5
    assert topics <= {f'/{topic}' for topic in INPUTS.keys() | OUTPUTS.keys()}
