"""The launch files, with `launch` and `launch_ros` where they are, else with small stand-ins."""

import importlib.util
import json
import logging
import os
import runpy
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# Only the player looks into it.
DRIVE = str(ROOT)
FILES = ('completion', 'kitti', 'slam')
MODULES = ('actions', 'middleware', 'rtabmap')
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
# The repository's folder of launch files is no such package.
REAL = bool(importlib.util.find_spec('launch') and importlib.util.find_spec('launch').origin)


class StandIn:
    """An action that is given by keywords, as those of launch are."""

    known: tuple[str, ...] = ()

    def __init__(self, **given) -> None:
        assert given.keys() <= set(self.known), f'unknown: {given.keys() - set(self.known)}'
        self.__dict__.update(given)


class DeclareLaunchArgument(StandIn):
    known = 'default_value', 'description'

    def __init__(self, name: str, **given) -> None:
        super().__init__(**given)
        self.name = name

    def visit(self, context) -> None:
        default = getattr(self, 'default_value', None)
        if default is None:
            assert self.name in context.launch_configurations, f'{self.name} is required'
        else:
            context.launch_configurations.setdefault(self.name, default)


class OpaqueFunction(StandIn):
    known = ('function',)

    def visit(self, context) -> list:
        return self.function(context)


class LaunchDescription:
    def __init__(self, entities: list) -> None:
        self.entities = entities


class LaunchContext:
    def __init__(self) -> None:
        self.launch_configurations: dict[str, str] = {}


class LaunchConfiguration:
    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context) -> str:
        return context.launch_configurations[self.name]


class NodeAction(StandIn):
    known = (
        *('package', 'executable', 'name', 'namespace', 'parameters', 'remappings'),
        *('ros_arguments', 'arguments', 'output', 'additional_env', 'respawn', 'respawn_delay'),
    )


STAND_INS = {
    'launch': {'LaunchDescription': LaunchDescription, 'LaunchContext': LaunchContext},
    'launch.actions': {
        'DeclareLaunchArgument': DeclareLaunchArgument,
        'OpaqueFunction': OpaqueFunction,
    },
    'launch.substitutions': {'LaunchConfiguration': LaunchConfiguration},
    'launch.logging': {'get_logger': logging.getLogger},
    'launch_ros': {},
    'launch_ros.actions': {'Node': NodeAction},
}


@pytest.fixture(autouse=True)
def launch_packages(monkeypatch):
    """Nodes remember what they were given; the classes refuse keywords that they do not know."""
    if not REAL:
        for name, content in STAND_INS.items():
            module = types.ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
    actions = importlib.import_module('launch_ros.actions')

    class Node(actions.Node):
        def __init__(self, **given) -> None:
            super().__init__(**given)
            self.given = types.SimpleNamespace(**{'arguments': [], 'remappings': [], **given})

    monkeypatch.setattr(actions, 'Node', Node)
    forget_modules()
    for name in (*PROFILE_VARIABLES, 'OMP_NUM_THREADS'):
        monkeypatch.delenv(name, raising=False)
    yield
    forget_modules()


def forget_modules() -> None:
    """What these modules have imported is another one in the next test."""
    for name in MODULES:
        sys.modules.pop(f'dmd3c_ros.node.launch.{name}', None)
        vars(importlib.import_module('dmd3c_ros.node.launch')).pop(name, None)


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path) -> Path:
    """Folder with a file for each package that ament finds."""
    folder = tmp_path / 'ros/share/ament_index/resource_index/packages'
    folder.mkdir(parents=True)
    for name in ('rtabmap_slam', 'rtabmap_odom', 'rtabmap_viz', 'rviz2'):
        (folder / name).touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'ros'))
    return folder


def description(name: str) -> list:
    file = runpy.run_path(str(ROOT / 'launch' / f'{name}.launch.py'))
    return file['generate_launch_description']().entities


def declared(name: str) -> list:
    kind = importlib.import_module('launch.actions').DeclareLaunchArgument
    return [entity for entity in description(name) if isinstance(entity, kind)]


def start(name: str, pushed_namespace: str = '', **arguments: str) -> list:
    """What the nodes are given that a launch with these arguments comes to."""
    unknown = arguments.keys() - {argument.name for argument in declared(name)}
    assert not unknown, f'not declared: {unknown}'
    context = importlib.import_module('launch').LaunchContext()
    context.launch_configurations.update(arguments)
    if pushed_namespace:
        # As PushRosNamespace of an including launch file leaves it.
        context.launch_configurations['ros_namespace'] = pushed_namespace
    actions = [a for entity in description(name) for a in entity.visit(context) or ()]
    return [action.given for action in actions]


def nodes(started: list) -> dict[str, types.SimpleNamespace]:
    return {node.executable: node for node in started}


@pytest.mark.parametrize('name', FILES)
def test_every_argument_is_declared_at_the_top_with_a_description(name):
    arguments = declared(name)
    assert len(arguments) > 8
    assert all(argument.description for argument in arguments)
    assert len({argument.name for argument in arguments}) == len(arguments)


@pytest.mark.parametrize('name', FILES)
def test_launch_files_pass_no_parameter_that_was_not_given(name):
    given = {'drive': DRIVE} if name == 'kitti' else {}
    node = nodes(start(name, **given))['completion_node']
    assert node.parameters == ([{'preset': 'slam'}] if name == 'slam' else [])
    assert node.remappings == []
    assert (node.name, node.respawn, node.ros_arguments) == (None, False, [])


def test_given_arguments_reach_the_node_with_their_types(tmp_path):
    (tmp_path / 'mine.yaml').touch()
    started = start(
        'completion',
        image='/cam/image',
        points='/lidar',
        params_file=str(tmp_path / 'mine.yaml'),
        model='nearest',
        T_camera_lidar='[0, 0, 0.5, 0, 0, 0, 1]',
        sync_slop='0.03',
        min_confidence='0.5',
        autostart='false',
        use_sim_time='true',
        namespace='front',
        node_name='depth',
        log_level='debug',
        respawn='true',
    )
    node = nodes(started)['completion_node']
    assert node.parameters == [
        str(tmp_path / 'mine.yaml'),
        {
            'model': 'nearest',
            'T_camera_lidar': [0, 0, 0.5, 0, 0, 0, 1],
            'sync_slop': 0.03,
            'min_confidence': 0.5,
            'autostart': False,
            'use_sim_time': True,
        },
    ]
    assert (node.name, node.namespace, node.respawn) == ('depth', '/front', True)
    assert node.ros_arguments == ['--log-level', 'debug']


@pytest.mark.parametrize(
    ('image', 'info'),
    [
        ('/cam0/image_rect', '/cam0/camera_info'),
        ('/cam0/image_raw/compressed', '/cam0/camera_info'),
        ('color/image_raw', 'color/camera_info'),
        ('image_raw', None),
    ],
)
def test_camera_info_lies_beside_the_image_unless_it_is_named(image, info):
    node = nodes(start('completion', image=image, points='/lidar'))['completion_node']
    expected = {'image_rect': image, 'points': '/lidar'} | ({'camera_info': info} if info else {})
    assert dict(node.remappings) == expected
    named = nodes(start('completion', image=image, camera_info='/calib'))['completion_node']
    assert dict(named.remappings)['camera_info'] == '/calib'


def test_a_parameter_file_that_is_missing_ends_the_launch(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r'params_file: .* got rig\.yaml'):
        start('completion', params_file='rig.yaml')
    (tmp_path / 'rig.yaml').touch()
    monkeypatch.setenv('HOME', str(tmp_path))
    node = nodes(start('completion', params_file='~/rig.yaml'))['completion_node']
    assert node.parameters == [str(tmp_path / 'rig.yaml')]


def test_several_cameras_get_a_node_each_and_share_the_lidar(monkeypatch):
    monkeypatch.setattr('os.cpu_count', lambda: 8)
    started = start(
        'completion',
        cameras='[front, cams/rear]',
        image='image_raw',
        points='ouster/points',
        namespace='rig',
        rectify='true',
        rviz='true',
    )
    completing = [node for node in started if node.executable == 'completion_node']
    assert [node.namespace for node in completing] == ['/rig/front', '/rig/cams/rear']
    for node in completing:
        assert dict(node.remappings) == {
            'image_rect': 'image_raw',
            'points': '/rig/ouster/points',
        }
        assert node.parameters == [{'rectify': True}]
        assert node.additional_env['OMP_NUM_THREADS'] == '4'
    seen = nodes(started)['completion_rviz']
    assert seen.namespace == '/rig/front'
    assert dict(seen.remappings) == dict(completing[0].remappings)


def test_threads_and_the_lidars_topic_may_be_the_users_own(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    started = start('completion', cameras='left,right')
    assert [node.namespace for node in started] == ['/left', '/right']
    assert all(dict(node.remappings) == {'points': '/points'} for node in started)
    assert all('OMP_NUM_THREADS' not in node.additional_env for node in started)


@pytest.mark.parametrize(
    ('namespace', 'base'), [('', '/robot'), ('rig', '/robot/rig'), ('/other', '/other')]
)
def test_nodes_nest_in_the_namespace_of_an_including_launch(namespace, base):
    pushed = {'pushed_namespace': '/robot', 'namespace': namespace}
    (single,) = start('completion', **pushed)
    assert single.namespace.rstrip('/') == base
    several = start('completion', cameras='front,rear', points='lidar', **pushed)
    assert [node.namespace for node in several] == [f'{base}/front', f'{base}/rear']
    assert {dict(node.remappings)['points'] for node in several} == {f'{base}/lidar'}
    played = start('kitti', drive=DRIVE, **pushed) + start('slam', **pushed)
    assert {node.namespace.rstrip('/') for node in played} == {base}


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'image': '/front/image_raw'}, 'image_rect: expected a name relative to'),
        ({'camera_info': '/info'}, 'camera_info: expected a name relative to'),
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
    started = start('kitti', drive='~', camera='image_03', rate='0.5', use_sim_time='true')
    parameters = nodes(started)['kitti_player'].parameters[0]
    assert parameters.keys() <= player
    assert (parameters['rate'], parameters['publish_clock']) == (0.5, True)
    assert Path(parameters['drive']).is_absolute()


def test_rviz_is_given_the_topics_of_the_node():
    assert 'completion_rviz' not in nodes(start('completion'))
    assert 'completion_rviz' not in nodes(start('kitti', drive=DRIVE, rviz='false'))
    assert nodes(start('kitti', drive=DRIVE))['completion_rviz'].remappings == []
    for name in ('completion', 'slam'):
        started = nodes(
            start(name, rviz='true', image='/cam0/image_rect', points='/lidar', namespace='rig')
        )
        node, seen = started['completion_node'], started['completion_rviz']
        assert seen.remappings == node.remappings != []
        assert seen.namespace == node.namespace == '/rig'


@pytest.mark.parametrize('name', FILES)
def test_a_launch_without_rviz_ends_before_it_starts_anything(name, installed):
    (installed / 'rviz2').unlink()
    arguments = {'drive': DRIVE} if name == 'kitti' else {}
    with pytest.raises(RuntimeError, match=r'rviz2 is not installed: sudo apt .* rviz:=false'):
        start(name, rviz='true', **arguments)
    assert start(name, rviz='false', **arguments)


@pytest.mark.parametrize('drive', ['', '/no/such/drive'])
def test_a_launch_without_its_drive_ends_before_it_starts_anything(drive):
    with pytest.raises(ValueError, match='drive: expected the folder of a KITTI raw drive, got'):
        start('kitti', drive=drive, rviz='false')


def test_a_switch_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(ValueError, match="rviz: expected true or false, got 'maybe'"):
        start('completion', rviz='maybe')


@pytest.mark.parametrize('name', FILES)
def test_the_fast_dds_profile_is_that_of_our_own_processes_alone(name):
    started = start(name, rviz='true', **({'drive': DRIVE} if name == 'kitti' else {}))
    assert len(started) > 1
    for node in started:
        assert {node.additional_env[variable] for variable in PROFILE_VARIABLES} == {
            str(ROOT / 'config/fastdds.xml')
        }
    assert not any(variable in os.environ for variable in PROFILE_VARIABLES)


def profile(**arguments: str) -> set[str]:
    """Profiles that completion_node is given."""
    environment = nodes(start('completion', **arguments))['completion_node'].additional_env
    return {environment[variable] for variable in PROFILE_VARIABLES if variable in environment}


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_a_profile_of_the_users_own_is_left_alone(monkeypatch, variable):
    monkeypatch.setenv(variable, '/etc/mine.xml')
    assert profile() == set()
    assert profile(fastdds_profile='/etc/other.xml') == {'/etc/other.xml'}


def test_the_profile_can_be_turned_off():
    assert profile(fastdds_profile='none') == set()


@pytest.mark.parametrize(('room_mb', 'segment_mb'), [(1000, 64), (64, 16), (20, None), (0, None)])
def test_segments_are_as_large_as_shared_memory_allows(monkeypatch, tmp_path, room_mb, segment_mb):
    from dmd3c_ros.node.launch import middleware

    told = []
    logger = types.SimpleNamespace(warning=told.append)
    monkeypatch.setattr(middleware, 'get_logger', {'launch.user': logger}.get)

    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setattr(middleware, '_room', lambda: room_mb << 20)
    chosen = profile()
    if segment_mb is None:
        assert chosen == set()
    else:
        text = Path(*chosen).read_text()
        assert f'<segment_size>{segment_mb << 20}</segment_size>' in text
        assert text.replace(str(segment_mb << 20), '') == (
            ROOT / 'config/fastdds.xml'
        ).read_text().replace(str(64 << 20), '')
    assert len(told) == (segment_mb != 64)
    assert all(f'room for {room_mb} MB' in text and '--shm-size' in text for text in told)


def test_waiting_threads_of_the_network_leave_the_core_soon():
    node = nodes(start('completion', fastdds_profile='none'))['completion_node']
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


def test_rtabmap_gets_the_image_and_the_depth_that_belong_together():
    from dmd3c_ros.pipeline.outputs import OUTPUTS

    started = nodes(start('slam', image='/cam/image', frame_id='base_link', namespace='front'))
    assert started.keys() == {'completion_node', 'rgbd_odometry', 'rtabmap'}
    for name, package in (('rgbd_odometry', 'rtabmap_odom'), ('rtabmap', 'rtabmap_slam')):
        node = started[name]
        assert (node.package, node.namespace) == (package, '/front')
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


def test_slam_gets_the_depth_that_it_can_rely_on_unless_all_is_asked_for():
    assert nodes(start('slam'))['completion_node'].parameters == [{'preset': 'slam'}]
    chosen = nodes(start('slam', preset='all'))['completion_node']
    assert chosen.parameters == [{'preset': 'all'}]


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
    (installed / 'rtabmap_odom').unlink()
    with pytest.raises(RuntimeError, match='rtabmap_odom is not installed: sudo apt install ros-'):
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
