"""RTAB-Map's nodes on the depth of completion_node, for slam.launch.py.

Names are those of rtabmap_ros: parameters in lower case belong to its nodes, the others, which are
strings, to the library (Labbé and Michaud, "RTAB-Map as an open-source lidar and visual SLAM
library", JFR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from . import actions

ARGUMENTS = {
    'frame_id': "RTAB-Map: the robot's base frame; TF must connect it to the camera's frame",
    'rgb_topic': 'RTAB-Map: topic of the rectified image instead of image; '
    'rectified/image_rect if completion_node rectifies',
    'odom_frame_id': 'RTAB-Map: odometry frame that it publishes',
    'odometry': "RTAB-Map: true for its RGB-D odometry, false for the robot's own on odom_topic",
    'odom_topic': 'RTAB-Map: topic of the odometry (nav_msgs/Odometry)',
    'max_depth': 'RTAB-Map: maximum depth of features, m',
    'min_inliers': 'RTAB-Map: minimum number of matched features for odometry or a loop closure',
    'delete_map': 'RTAB-Map: true to start with an empty map, false to continue with the last one',
    'rtabmap_viz': "true to show RTAB-Map's own window",
}
DEFAULTS = {
    'frame_id': 'camera',
    'odom_frame_id': 'odom',
    'odometry': 'true',
    'odom_topic': 'odom',
    'max_depth': '40',
    'min_inliers': '20',
    'delete_map': 'true',
    'rtabmap_viz': 'false',
}


def nodes(context, environment: Mapping[str, str]) -> list[Node]:
    """Odometry, mapping and window, as the arguments say.

    environment: variables of their processes. Raises RuntimeError naming what to install where a
    package of RTAB-Map is missing.
    """
    odometry = actions.is_true(context, 'odometry')
    window = actions.is_true(context, 'rtabmap_viz')
    packages = ['rtabmap_slam', *['rtabmap_odom'] * odometry, *['rtabmap_viz'] * window]
    for package in packages:
        actions.require(package, 'rtabmap-ros')
    make = partial(_node, context, environment)
    clean = ['-d'] if actions.is_true(context, 'delete_map') else []
    made = [make('rtabmap_slam', 'rtabmap', _mapping(context, odometry), clean)]
    if odometry:
        made.insert(0, make('rtabmap_odom', 'rgbd_odometry', _odometry(context)))
    if window:
        parameters = {'subscribe_depth': True, 'subscribe_odom_info': odometry}
        made.append(make('rtabmap_viz', 'rtabmap_viz', parameters))
    return made


def _odometry(context) -> dict[str, object]:
    return {
        'odom_frame_id': _text(context, 'odom_frame_id'),
        'publish_tf': True,
        'Vis/MaxDepth': _text(context, 'max_depth'),
        'Vis/MinInliers': _text(context, 'min_inliers'),
        # Lost odometry restarts at the next frame instead of waiting to relocalize.
        'Odom/ResetCountdown': '1',
    }


def _mapping(context, odometry: bool) -> dict[str, object]:
    return {
        'subscribe_depth': True,
        'subscribe_odom_info': odometry,
        'Vis/MaxDepth': _text(context, 'max_depth'),
        'Vis/MinInliers': _text(context, 'min_inliers'),
        'Kp/MaxDepth': _text(context, 'max_depth'),
        'Grid/RangeMax': _text(context, 'max_depth'),
    }


def _node(
    context,
    environment: Mapping[str, str],
    package: str,
    executable: str,
    parameters: dict[str, object],
    arguments: list[str] | None = None,
) -> Node:
    topics = actions.given(context, ('image', 'rgb_topic'))
    image = topics.get('rgb_topic', topics.get('image', 'image_rect'))
    return Node(
        package=package,
        executable=executable,
        namespace=actions.namespace_of(context),
        output='screen',
        additional_env=dict(environment),
        parameters=[
            {
                'frame_id': _text(context, 'frame_id'),
                # Image and depth carry one and the same stamp.
                'approx_sync': False,
                'use_sim_time': actions.is_true(context, 'use_sim_time'),
                # Mapping and odometry may be slower than the camera: hold a second's frames.
                'sync_queue_size': 10,
                **parameters,
            }
        ],
        remappings=[
            ('rgb/image', image),
            ('rgb/camera_info', 'depth_registered/camera_info'),
            ('depth/image', 'depth_registered/image_rect'),
            ('odom', _text(context, 'odom_topic')),
        ],
        arguments=arguments or [],
    )


def _text(context, name: str) -> str:
    return LaunchConfiguration(name).perform(context)
