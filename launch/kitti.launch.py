"""A KITTI raw drive through completion_node, shown in RViz.

ros2 launch dmd3c_ros kitti.launch.py drive:=.../2011_09_26/2011_09_26_drive_0001_sync
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from dmd3c_ros.node.launch import actions
from launch import LaunchDescription

SHARE = Path(__file__).parents[1]
PLAYER_ARGUMENTS = {
    'camera': "folder of the drive's camera: image_00 to image_03",
    'rate': 'playback speed',
    'loop': 'true to start again at the end',
}


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow from those that are given."""
    arguments = {**PLAYER_ARGUMENTS, **actions.NODE_ARGUMENTS, **actions.RVIZ_ARGUMENT}
    return LaunchDescription(
        [
            DeclareLaunchArgument('drive', description='folder of a KITTI raw drive'),
            *actions.declare(arguments, {'rviz': 'true'}),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context) -> list:
    """Raises ValueError without a drive: only the player would end, and the others go on."""
    environment = actions.middleware_environment(context, SHARE)
    return [
        actions.completion_node(context, environment),
        *actions.rviz(context, environment),
        _player(context, environment),
    ]


def _player(context, environment: dict[str, str]) -> Node:
    """The player itself tells the time, so it must not wait for /clock."""
    settings = actions.given(context, ('drive', *PLAYER_ARGUMENTS))
    name = settings.pop('drive', '')
    drive = Path(name).expanduser().resolve()
    if not name or not drive.is_dir():
        raise ValueError(f'drive: expected the folder of a KITTI raw drive, got {name!r}')
    parameters = {'drive': str(drive), **actions.typed(settings)}
    if actions.is_true(context, 'use_sim_time'):
        parameters['publish_clock'] = True
    return Node(
        package=actions.PACKAGE,
        executable='kitti_player',
        namespace=actions.namespace_of(context),
        output='screen',
        additional_env=environment,
        parameters=[parameters],
    )
