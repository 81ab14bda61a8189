"""completion_node and RTAB-Map's RGB-D odometry and mapping on its depth.

ros2 launch dmd3c_ros slam.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info \
    points:=/lidar/points frame_id:=base_link
"""

from pathlib import Path

from launch.actions import OpaqueFunction

from dmd3c_ros.node.launch import actions, rtabmap
from launch import LaunchDescription

SHARE = Path(__file__).parents[1]


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow from those that are given."""
    arguments = {
        **actions.TOPIC_ARGUMENTS,
        **actions.NODE_ARGUMENTS,
        **actions.RVIZ_ARGUMENT,
        **rtabmap.ARGUMENTS,
    }
    return LaunchDescription(
        [
            *actions.declare(arguments, {'rviz': 'false', 'preset': 'slam', **rtabmap.DEFAULTS}),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context) -> list:
    environment, remappings = (
        actions.middleware_environment(context, SHARE),
        actions.topic_remappings(context),
    )
    return [
        actions.completion_node(context, environment, remappings),
        *rtabmap.nodes(context, environment),
        *actions.rviz(context, environment, remappings),
    ]
