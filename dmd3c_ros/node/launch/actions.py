"""What the launch files share. Imported only where the ROS package `launch` is installed.

An argument that is left empty is not passed on, so that every default stays where it belongs: in
the dataclasses behind the nodes' parameters.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dmd3c_ros.node.threads import ENVIRONMENT

PACKAGE = 'dmd3c_ros'

NODE_ARGUMENTS = {
    'params_file': 'YAML file of parameters of completion_node; config/completion.yaml lists all',
    'model': 'what completes: a network or a classical baseline',
    'weights': 'checkpoint file of the network, instead of the one that comes with the package',
    'device': 'auto, cpu, cuda or cuda:N',
    'precision': 'auto, float32, bfloat16 or float16',
    'image_transport': 'raw or compressed',
    'rectify': 'true for raw images: their distortion is undone',
    'T_camera_lidar': 'extrinsics [x, y, z, qx, qy, qz, qw] or 16 numbers by rows; else from TF',
    'fixed_frame': 'frame of TF that stands still, such as odom, to correct for motion over',
    'namespace': 'namespace of the node and its topics',
    'use_sim_time': 'true to take the time from /clock',
    'fastdds_profile': 'Fast DDS profile file, instead of the one that comes with the package '
    'for large messages; none to use no profile',
}
TOPIC_ARGUMENTS = {
    'image': 'topic of the rectified image, instead of image_rect',
    'camera_info': "topic of the image's CameraInfo, instead of camera_info",
    'points': 'topic of the LiDAR sweeps, instead of points',
}
CAMERAS_ARGUMENT = {
    'cameras': 'namespaces of several cameras that share the LiDAR, such as front,rear: a node '
    'for each. image and camera_info are names within each namespace then, and the extrinsics '
    'come from TF or params_file'
}
RVIZ_ARGUMENT = {'rviz': 'true or false: show the results in RViz'}

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
    'use_sim_time',
)
_NAMESPACE = re.compile(r'[A-Za-z_]\w*(/[A-Za-z_]\w*)*')
# Fast DDS 2 (Humble, Jazzy) and 3 (Kilted) read one each.
_PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def declare(arguments: Mapping[str, str], defaults: Mapping[str, str] | None = None) -> list:
    """Launch arguments with their descriptions, empty where `defaults` says nothing."""
    defaults = defaults or {}
    return [
        DeclareLaunchArgument(name, default_value=defaults.get(name, ''), description=text)
        for name, text in arguments.items()
    ]


def given(context, names: Sequence[str]) -> dict[str, str]:
    """Those of the arguments that are not empty."""
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


def fastdds_environment(context, share: Path) -> list:
    """The profile for large messages, unless the user's environment names another one."""
    profile = LaunchConfiguration('fastdds_profile').perform(context)
    if profile == 'none' or (not profile and any(map(os.environ.get, _PROFILE_VARIABLES))):
        return []
    path = str(Path(profile).resolve() if profile else share / 'config' / 'fastdds.xml')
    return [SetEnvironmentVariable(name, path) for name in _PROFILE_VARIABLES]


def completion_node(
    context,
    remappings: Sequence[tuple[str, str]] = (),
    namespace: str = '',
    environment: Mapping[str, str] | None = None,
) -> Node:
    """completion_node with the arguments that were given; namespace: instead of the one given."""
    options = given(context, ('params_file', 'namespace'))
    parameters = [options.get('params_file'), typed(given(context, _PARAMETERS))]
    return Node(
        package=PACKAGE,
        executable='completion_node',
        namespace=namespace or options.get('namespace'),
        output='screen',
        additional_env={**ENVIRONMENT, **(environment or {})},
        parameters=[source for source in parameters if source],
        remappings=list(remappings),
    )


def topic_remappings(context) -> list[tuple[str, str]]:
    """The node's own topics and those that were given instead."""
    return [(_TOPICS[name], topic) for name, topic in given(context, TOPIC_ARGUMENTS).items()]


def completion_nodes(context) -> list[Node]:
    """completion_node, or one for each of the cameras, in namespaces of their own.

    Raises ValueError for arguments that would give all cameras the same images or pose.
    """
    cameras = camera_namespaces(context)
    if not cameras:
        return [completion_node(context, topic_remappings(context))]
    topics = dict(topic_remappings(context))
    for name in ('image_rect', 'camera_info'):
        if topics.get(name, '').startswith('/'):
            raise ValueError(
                f'{name}: expected a name within the namespace of each camera, got {topics[name]}'
            )
    if given(context, ['T_camera_lidar']):
        raise ValueError('T_camera_lidar: expected one for each camera, in params_file or by TF')
    # Relative to what the cameras share, not to each of them.
    topics['points'] = posixpath.join('/', _base(context), topics.get('points', 'points'))
    threads = {}
    if 'OMP_NUM_THREADS' not in os.environ:
        # All of a machine's cores for each node would be too many threads for its cores.
        threads['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1) // len(cameras)))
    return [
        completion_node(context, list(topics.items()), namespace, threads) for namespace in cameras
    ]


def camera_namespaces(context) -> list[str]:
    """Namespaces of the cameras, none where the argument is empty; ValueError for bad names."""
    text = LaunchConfiguration('cameras').perform(context)
    names = [name.strip(' \'"/') for name in text.strip().strip('[]').split(',') if name.strip()]
    bad = [name for name in names if not _NAMESPACE.fullmatch(name)]
    if bad or len(set(names)) < len(names):
        raise ValueError(f'cameras: expected different namespaces such as front,rear, got {text}')
    return [posixpath.join('/', _base(context), name) for name in names]


def _base(context) -> str:
    return given(context, ['namespace']).get('namespace', '').strip('/')


def rviz(context, share: Path, namespace: str = '') -> list:
    """RViz with the package's layout, where it is asked for.

    namespace: instead of the one that was given.
    """
    if not is_true(context, 'rviz'):
        return []
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=namespace or given(context, ['namespace']).get('namespace'),
            arguments=['-d', str(share / 'config' / 'completion.rviz')],
            parameters=[{'use_sim_time': is_true(context, 'use_sim_time')}],
        )
    ]
