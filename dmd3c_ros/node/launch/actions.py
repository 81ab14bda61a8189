"""Shared code of the launch files. Imported only if the ROS package `launch` is installed.

Empty arguments are not passed on, so that all defaults stay in the dataclasses behind the nodes'
parameters.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dmd3c_ros.node.threads import ENVIRONMENT

from . import middleware

PACKAGE = 'dmd3c_ros'

NODE_ARGUMENTS = {
    'params_file': 'YAML parameter file for completion_node, such as config/completion.yaml',
    'model': 'completion model: a network or a classical baseline',
    'weights': 'checkpoint file of the network; default: the one that comes with the package',
    'device': 'auto, cpu, cuda or cuda:N',
    'precision': 'auto, float32, bfloat16 or float16',
    'image_transport': 'raw or compressed',
    'rectify': 'true to rectify raw images',
    'T_camera_lidar': 'extrinsics [x, y, z, qx, qy, qz, qw] or 4x4 by rows; default: from TF',
    'fixed_frame': 'world-fixed TF frame, such as odom, for motion compensation',
    'sync_slop': 'maximum time difference between an image and its sweep, s',
    'min_confidence': 'depth with a lower confidence is published as unknown, 0 to 1',
    'preset': 'which depth is published: all, or slam to remove depth that makes SLAM drift',
    'autostart': 'false if a lifecycle manager configures and activates the node',
    'namespace': 'namespace of the node and its topics',
    'node_name': 'node name instead of completion_node, also for the sections of params_file',
    'log_level': 'debug, info, warn, error or fatal',
    'respawn': 'true to restart the node 2 s after it has exited unexpectedly',
    'use_sim_time': 'true to take the time from /clock',
    'fastdds_profile': 'Fast DDS profile file instead of the one that comes with the package '
    'for large messages; none for no profile',
}
TOPIC_ARGUMENTS = {
    'image': 'topic of the rectified image instead of image_rect',
    'camera_info': "topic of CameraInfo instead of camera_info in the image's namespace",
    'points': 'topic of the LiDAR sweeps instead of points',
}
CAMERAS_ARGUMENT = {
    'cameras': 'namespaces of several cameras that share the LiDAR, such as front,rear: starts a '
    'node for each. image and camera_info are then relative to each namespace, and extrinsics '
    'come from TF or params_file'
}
RVIZ_ARGUMENT = {'rviz': 'true to show inputs and results in RViz'}

# The argument's name -> the node's own topic.
_TOPICS = {'image': 'image_rect', 'camera_info': 'camera_info', 'points': 'points'}
_PARAMETERS = (
    'model',
    'weights',
    'device',
    'precision',
    'image_transport',
    'rectify',
    'T_camera_lidar',
    'fixed_frame',
    'sync_slop',
    'min_confidence',
    'preset',
    'autostart',
    'use_sim_time',
)
_NAMESPACE = re.compile(r'[A-Za-z_]\w*(/[A-Za-z_]\w*)*')
_RESPAWN_DELAY_S = 2.0


def declare(arguments: Mapping[str, str], defaults: Mapping[str, str] | None = None) -> list:
    """Launch arguments with their descriptions, empty without an entry in `defaults`."""
    defaults = defaults or {}
    return [
        DeclareLaunchArgument(name, default_value=defaults.get(name, ''), description=text)
        for name, text in arguments.items()
    ]


def given(context, names: Sequence[str]) -> dict[str, str]:
    """The arguments that are not empty."""
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    return {name: value for name, value in values.items() if value}


def typed(values: Mapping[str, str]) -> dict[str, object]:
    """Arguments as parameters: numbers, booleans and lists as YAML reads them."""
    return {name: yaml.safe_load(value) for name, value in values.items()}


def is_true(context, name: str) -> bool:
    """A boolean argument; raises ValueError for anything but true and false."""
    text = LaunchConfiguration(name).perform(context).lower()
    if text not in ('true', 'false', ''):
        raise ValueError(f'{name}: expected true or false, got {text!r}')
    return text == 'true'


def middleware_environment(context, share: Path) -> dict[str, str]:
    """Environment of the launched processes for messages of several megabytes.

    Only for the nodes of this package and those that receive its images: another launch file may
    include this one, and its nodes must not be affected.
    """
    profile = LaunchConfiguration('fastdds_profile').perform(context)
    return middleware.environment(profile, share / 'config' / 'fastdds.xml')


def namespace_of(context) -> str:
    """The nodes' namespace in full: the argument within what an including launch has pushed."""
    pushed = context.launch_configurations.get('ros_namespace', '')
    return posixpath.join('/', pushed, given(context, ['namespace']).get('namespace', ''))


def completion_node(
    context,
    environment: Mapping[str, str],
    remappings: Sequence[tuple[str, str]] = (),
    namespace: str = '',
) -> Node:
    """completion_node with the given arguments.

    environment: variables of its process. namespace: overrides the given one. Raises ValueError
    if params_file does not exist, which launch would ignore.
    """
    options = given(context, ('params_file', 'node_name', 'log_level'))
    parameters = [_file(options.get('params_file')), typed(given(context, _PARAMETERS))]
    level = options.get('log_level')
    return Node(
        package=PACKAGE,
        executable='completion_node',
        name=options.get('node_name'),
        namespace=namespace or namespace_of(context),
        output='screen',
        respawn=is_true(context, 'respawn'),
        respawn_delay=_RESPAWN_DELAY_S,
        additional_env={**ENVIRONMENT, **environment},
        parameters=[source for source in parameters if source],
        remappings=list(remappings),
        ros_arguments=['--log-level', level] if level else [],
    )


def _file(name: str | None) -> str | None:
    if name is None:
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f'params_file: expected a YAML file, got {name}')
    return str(path)


def topic_remappings(context) -> list[tuple[str, str]]:
    """The node's own topics and those given instead.

    CameraInfo is in the image's namespace, as in image_transport, unless it is given too.
    """
    topics = given(context, TOPIC_ARGUMENTS)
    if 'image' in topics:
        folder = posixpath.dirname(topics['image'].removesuffix('/compressed'))
        if folder:
            topics.setdefault('camera_info', posixpath.join(folder, 'camera_info'))
    return [(_TOPICS[name], topic) for name, topic in topics.items()]


def completion_nodes(context, environment: Mapping[str, str]) -> list[Node]:
    """completion_node, or one for each of the cameras in its own namespace.

    Raises ValueError for arguments that would give all cameras the same images or pose.
    """
    cameras = camera_namespaces(context)
    if not cameras:
        return [completion_node(context, environment, topic_remappings(context))]
    topics = dict(topic_remappings(context))
    for name in ('image_rect', 'camera_info'):
        if topics.get(name, '').startswith('/'):
            raise ValueError(
                f'{name}: expected a name relative to the namespaces, got {topics[name]}'
            )
    if given(context, ['T_camera_lidar']):
        raise ValueError('T_camera_lidar: expected one for each camera, in params_file or from TF')
    topics['points'] = _shared_points(context)
    if 'OMP_NUM_THREADS' not in os.environ:
        # If each node used all cores, there would be more threads than cores.
        threads = max(1, (os.cpu_count() or 1) // len(cameras))
        environment = {**environment, 'OMP_NUM_THREADS': str(threads)}
    return [
        completion_node(context, environment, list(topics.items()), namespace)
        for namespace in cameras
    ]


def _shared_points(context) -> str:
    """The LiDAR's topic, relative to the common namespace, not to that of each camera."""
    topic = given(context, ['points']).get('points', 'points')
    return posixpath.join(namespace_of(context), topic)


def camera_namespaces(context) -> list[str]:
    """Namespaces of the cameras, none if the argument is empty; ValueError for bad names."""
    text = LaunchConfiguration('cameras').perform(context)
    names = [name.strip(' \'"/') for name in text.strip().strip('[]').split(',') if name.strip()]
    bad = [name for name in names if not _NAMESPACE.fullmatch(name)]
    if bad or len(set(names)) < len(names):
        raise ValueError(f'cameras: expected different namespaces such as front,rear, got {text}')
    return [posixpath.join(namespace_of(context), name) for name in names]


def rviz(
    context, environment: Mapping[str, str], remappings: Sequence[tuple[str, str]] = ()
) -> list[Node]:
    """RViz with the package's layout for the topics and the frame in use, if requested.

    Shows the first of several cameras. Raises RuntimeError if RViz is not installed: launch
    would only notice when other nodes are running, and leave them behind.
    """
    if not is_true(context, 'rviz'):
        return []
    require('rviz2', 'rviz2', 'rviz:=false runs without it')
    names, namespace = list(remappings), namespace_of(context)
    if 'cameras' in context.launch_configurations and camera_namespaces(context):
        names = list({**dict(names), 'points': _shared_points(context)}.items())
        namespace = camera_namespaces(context)[0]
    return [
        Node(
            package=PACKAGE,
            executable='completion_rviz',
            namespace=namespace,
            output='screen',
            additional_env=dict(environment),
            parameters=[{'use_sim_time': is_true(context, 'use_sim_time')}],
            remappings=names,
        )
    ]


def require(package: str, debian: str, otherwise: str = '') -> None:
    """Raise RuntimeError naming what to install where a package of ROS is missing."""
    try:
        get_package_prefix(package)
    except (PackageNotFoundError, OSError) as error:
        distro = os.environ.get('ROS_DISTRO', '$ROS_DISTRO')
        raise RuntimeError(
            f'{package} is not installed: sudo apt install ros-{distro}-{debian}'
            + (f'; {otherwise}' if otherwise else '')
        ) from error
