"""What the launch files share. Imported only where the ROS package `launch` is installed.

An argument that is left empty is not passed on, so that every default stays where it belongs: in
the dataclasses behind the nodes' parameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from .threads import ENVIRONMENT

PACKAGE = 'dmd3c_ros'

NODE_ARGUMENTS = {
    'params_file': 'YAML file of parameters of completion_node; config/completion.yaml lists all',
    'model': 'what completes: a network or a classical baseline',
    'weights': 'checkpoint file of the network, instead of the one that comes with the package',
    'device': 'auto, cpu, cuda or cuda:N',
    'precision': 'auto, float32, bfloat16 or float16',
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
RVIZ_ARGUMENT = {'rviz': 'true or false: show the results in RViz'}

# The argument's name -> the node's own topic.
_TOPICS = {'image': 'image_rect', 'camera_info': 'camera_info', 'points': 'points'}
_PARAMETERS = (
    'model',
    'weights',
    'device',
    'precision',
    'T_camera_lidar',
    'fixed_frame',
    'use_sim_time',
)
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


def completion_node(context, topics: Sequence[str] = ()) -> Node:
    """completion_node with the arguments that were given; topics: arguments that remap its own."""
    options = given(context, ('params_file', 'namespace'))
    parameters = [options.get('params_file'), typed(given(context, _PARAMETERS))]
    return Node(
        package=PACKAGE,
        executable='completion_node',
        namespace=options.get('namespace'),
        output='screen',
        additional_env=ENVIRONMENT,
        parameters=[source for source in parameters if source],
        remappings=[(_TOPICS[name], topic) for name, topic in given(context, topics).items()],
    )


def rviz(context, share: Path) -> list:
    """RViz with the package's layout, where it is asked for."""
    if not is_true(context, 'rviz'):
        return []
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=given(context, ['namespace']).get('namespace'),
            arguments=['-d', str(share / 'config' / 'completion.rviz')],
            parameters=[{'use_sim_time': is_true(context, 'use_sim_time')}],
        )
    ]
