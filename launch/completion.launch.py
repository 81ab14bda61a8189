"""completion_node on one's own sensors.

ros2 launch dmd3c_ros completion.launch.py image:=/camera/image_rect \
    camera_info:=/camera/camera_info points:=/lidar/points

Several cameras and one LiDAR, a node for each: /front/image_raw, /rear/image_raw and so on.

ros2 launch dmd3c_ros completion.launch.py cameras:=front,rear image:=image_raw rectify:=true \
    points:=/lidar/points params_file:=rig.yaml
"""

from pathlib import Path

from launch.actions import OpaqueFunction

from dmd3c_ros.node.launch import actions
from launch import LaunchDescription

SHARE = Path(__file__).parents[1]


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow from those that are given."""
    arguments = {
        **actions.TOPIC_ARGUMENTS,
        **actions.CAMERAS_ARGUMENT,
        **actions.NODE_ARGUMENTS,
        **actions.RVIZ_ARGUMENT,
    }
    return LaunchDescription(
        [*actions.declare(arguments, {'rviz': 'false'}), OpaqueFunction(function=_start)]
    )


def _start(context) -> list:
    environment = actions.middleware_environment(context, SHARE)
    return [
        *actions.completion_nodes(context, environment),
        *actions.rviz(context, environment, actions.topic_remappings(context)),
    ]
