"""TFMessage: bytes under the type's name and hash."""

import os
import time

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosbags.typesys import Stores, get_typestore
from tf2_msgs.msg import TFMessage

TYPE = 'tf2_msgs/msg/TFMessage'


@pytest.fixture(scope='module')
def node():
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('transforms', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_bytes_arrive_as_they_were_sent(node):
    got = []
    publisher = node.create_publisher(TFMessage, '/tf', 10)
    node.create_subscription(TFMessage, '/tf', got.append, 10, raw=True)
    types = get_typestore(Stores.ROS2_JAZZY)
    data = bytes(types.serialize_cdr(types.types[TYPE]([]), TYPE))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + 20
    while not got and time.monotonic() < end:
        publisher.publish(data)
        executor.spin_once(timeout_sec=0.1)
    assert got[0] == data
    executor.shutdown()


def test_the_graph_shows_the_type_with_its_hash(node):
    node.create_publisher(TFMessage, '/tf_static', 10)
    (info,) = node.get_publishers_info_by_topic('/tf_static')
    assert info.topic_type == TYPE
    assert str(info.topic_type_hash) == get_typestore(Stores.ROS2_JAZZY).hash_rihs01(TYPE)


def test_a_message_is_not_made_without_its_fields():
    with pytest.raises(TypeError, match='bytes'):
        TFMessage()
