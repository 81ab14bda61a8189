"""Inputs over real topics: what publishers offer is matched, and silence is explained."""

import time

import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_graph import camera_info, make_image, wall
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2

from dmd3c_ros.node.inputs import Inputs
from dmd3c_ros.node.publishers import Outputs
from dmd3c_ros.pipeline.settings import NodeSettings

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
PATIENCE_S = 30.0


class Graph:
    """A node with inputs, and a driver that feeds them."""

    def __init__(self, context, simulated: bool = False) -> None:
        given = [Parameter('use_sim_time', value=simulated)]
        self.node = rclpy.create_node('inputs', context=context, parameter_overrides=given)
        self.driver = rclpy.create_node('driver', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        for node in (self.node, self.driver):
            self._executor.add_node(node)
        self.sets, self.inputs, self._publishers = [], None, {}

    def close(self) -> None:
        self._executor.shutdown()
        if self.inputs is not None:
            self.inputs.close()
        for node in (self.node, self.driver):
            node.destroy_node()

    def listen(self, **settings) -> None:
        """Begin to take messages in."""
        self.inputs = Inputs(self.node, NodeSettings(**settings), self.sets.append)

    def offer(self, kind, topic: str, qos=RELIABLE):
        """A publisher; one that the driver had on this topic goes."""
        old = self._publishers.pop(topic, None)
        if old is not None:
            self.driver.destroy_publisher(old)
        self._publishers[topic] = self.driver.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def send(self, stamp_s: float, *, info_s: float | None = -1, cloud_s: float = -1) -> None:
        """One message of each input; info_s None sends no CameraInfo."""
        messages = {'image_rect': (make_image(), stamp_s), 'points': (wall(), cloud_s)}
        if info_s is not None:
            messages['camera_info'] = camera_info(), info_s
        for topic, (message, seconds) in messages.items():
            seconds = stamp_s if seconds < 0 else seconds
            message.header.stamp.sec = int(seconds)
            message.header.stamp.nanosec = round((seconds % 1) * 1e9)
            self._publishers[topic].publish(message)

    def wait(self, condition, timeout: float = PATIENCE_S) -> bool:
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.01)
        return bool(condition())

    def heard(self, *topics: str) -> bool:
        """Are the driver's publishers matched?"""
        return self.wait(
            lambda: (
                all(self._publishers[t].get_subscription_count() for t in topics)
                and all(self.node.get_subscriptions_info_by_topic(f'/{t}') for t in topics)
            )
        )

    def trouble(self, *words: str) -> str:
        """Wait for a report that has all the words; the last report where none comes."""
        last = ''

        def told() -> bool:
            nonlocal last
            last = self.inputs.report().trouble or ''
            return all(word in last for word in words)

        self.wait(told)
        return last


@pytest.fixture
def graph(context):
    graph = Graph(context)
    yield graph
    graph.close()


def offer_all(graph, info_qos=RELIABLE) -> None:
    graph.offer(Image, 'image_rect')
    graph.offer(CameraInfo, 'camera_info', info_qos)
    graph.offer(PointCloud2, 'points')


def pairs_come(graph, start: float, **options) -> bool:
    """Send sets, one after the other, until one comes back."""
    before = len(graph.sets)
    for number in range(100):
        graph.send(start + number, **options)
        if graph.wait(lambda: len(graph.sets) > before, 0.3):
            return True
    return False


# ---------------------------------------------------------------- what publishers offer


def test_a_camera_info_that_was_published_once_before_serves_every_image(graph):
    offer_all(graph, LATCHED)
    info = camera_info()
    info.header.stamp.sec = 7
    graph._publishers['camera_info'].publish(info)
    graph.listen()
    assert pairs_come(graph, 100.0, info_s=None)
    assert graph.sets[-1].info.header.stamp.sec == 7
    assert graph.inputs.report().trouble is None


def test_of_several_latched_infos_the_one_of_the_images_stamp_is_taken(graph):
    offer_all(graph, LATCHED)
    graph.listen()
    assert pairs_come(graph, 100.0)
    latest = graph.sets[-1]
    assert latest.info.header.stamp == latest.image.header.stamp


def test_pairing_goes_on_when_the_offers_change(graph):
    offer_all(graph, LATCHED)
    graph.listen()
    assert pairs_come(graph, 100.0)
    graph.offer(CameraInfo, 'camera_info', BEST_EFFORT)
    graph.offer(PointCloud2, 'points', BEST_EFFORT)
    assert pairs_come(graph, 200.0)
    assert graph.wait(
        lambda: (
            [
                (info.qos_profile.reliability, info.qos_profile.durability)
                for info in graph.node.get_subscriptions_info_by_topic('/camera_info')
            ]
            == [(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)]
        )
    )
    assert pairs_come(graph, 300.0)
    last = graph.sets[-1]
    assert last.info.header.stamp == last.image.header.stamp


def test_rates_and_residuals_are_reported(graph):
    offer_all(graph)
    graph.listen()
    assert pairs_come(graph, 100.0, cloud_s=-1)
    graph.inputs.report()
    for number in range(5):
        graph.send(200.0 + number, cloud_s=200.02 + number)
    assert graph.wait(lambda: graph.inputs._residuals_s and len(graph.inputs._residuals_s) == 5)
    report = graph.inputs.report()
    assert report.trouble is None
    assert all(rate > 0 for rate in report.rates_hz.values())
    assert report.residuals_s == pytest.approx([0.02] * 5)


# ---------------------------------------------------------------- why nothing pairs


def test_a_topic_without_publisher_is_named_with_others_of_its_type(graph):
    graph.listen()
    # The first by its name, but what another node has computed.
    graph.offer(PointCloud2, 'cam/depth_registered/points')
    graph.offer(PointCloud2, 'ouster/points')
    assert graph.wait(lambda: graph.node.count_publishers('/cam/depth_registered/points'))
    text = graph.trouble('/ouster/points')
    assert (
        'no message on /points (no publisher; sensor_msgs/msg/PointCloud2 is published on '
        '/ouster/points, /cam/depth_registered/points)' in text
    )
    assert 'no message on /image_rect (no publisher)' in text


@pytest.mark.parametrize(
    ('kind', 'topic', 'word', 'text'),
    [
        (
            LaserScan,
            'points',
            'LaserScan',
            'send sensor_msgs/msg/LaserScan, expected sensor_msgs/msg/PointCloud2',
        ),
        (
            CompressedImage,
            'image_rect/compressed',
            '/compressed',
            '/image_rect/compressed is published: set image_transport to compressed',
        ),
    ],
    ids=['type', 'transport'],
)
def test_what_is_published_of_another_type_or_transport_is_named(graph, kind, topic, word, text):
    graph.listen()
    graph.offer(kind, topic)
    assert text in graph.trouble(word)


def test_an_incompatible_quality_of_service_is_named(graph):
    graph.offer(PointCloud2, 'points', RELIABLE)
    graph.listen()
    assert graph.heard('points')
    # Before the subscription follows, half a second later.
    graph.node.destroy_timer(graph.inputs._timer)
    graph.offer(PointCloud2, 'points', BEST_EFFORT)
    text = graph.trouble('QoS of its publisher driver is incompatible')
    assert 'RELIABILITY reliable is requested, best effort is offered' in text


GAPS = {
    'clocks': (
        {'cloud_s': 5.0},
        'closest stamps of /image_rect and /camera_info 0.000 s, /points 95.000 s apart, '
        'sync_slop is 0.05 s; /points is behind, on a different clock',
    ),
    'triggers': (
        {'cloud_s': 100.25},
        '/points 0.250 s apart, sync_slop is 0.05 s; /points is ahead',
    ),
    'no stamps': ({'cloud_s': 0.0}, 'messages on /points have no stamp'),
    'one info': ({'info_s': 7.0}, 'must have the stamp of its image, or be transient local'),
}


@pytest.mark.parametrize(('options', 'words'), GAPS.values(), ids=GAPS)
def test_stamps_that_do_not_meet_are_named_with_their_gap(graph, options, words):
    offer_all(graph)
    graph.listen()
    assert graph.heard('image_rect', 'camera_info', 'points')
    last = ''

    def told() -> bool:
        nonlocal last
        graph.send(100.0, **{'info_s': 100.0, 'cloud_s': 100.0} | options)
        graph.wait(lambda: all(source._count for source in graph.inputs._all))
        last = graph.inputs.report().trouble or ''
        return words in last

    assert graph.wait(told), last


def test_simulated_time_without_a_clock_is_named(context):
    graph = Graph(context, simulated=True)
    try:
        graph.listen()
        assert 'use_sim_time is set but /clock has no publisher' in graph.trouble('/clock')
    finally:
        graph.close()


# ---------------------------------------------------------------- outputs


REFUSED = (
    (LATCHED, 'DURABILITY transient local is requested, volatile is offered'),
    (QoSProfile(depth=1, deadline=Duration(seconds=0.5)), 'DEADLINE 0.5 s is requested'),
)


def test_a_subscriber_that_asks_for_more_than_is_offered_is_named(context):
    from rclpy.lifecycle import LifecycleNode

    graph, node = Graph(context), LifecycleNode('outputs', context=context)
    try:
        outputs = Outputs(node, lambda text: None)
        topic = 'depth_registered/points'
        for number, (qos, reason) in enumerate(REFUSED):
            graph.driver.create_subscription(PointCloud2, topic, print, BEST_EFFORT)
            assert graph.wait(
                lambda n=number: len(node.get_subscriptions_info_by_topic(f'/{topic}')) == n + 1
            )
            assert outputs.refusal() is None
            asking = graph.driver.create_subscription(PointCloud2, topic, print, qos)
            assert graph.wait(outputs.refusal)
            assert f'driver receives nothing on {topic}' in outputs.refusal()
            assert reason in outputs.refusal()
            graph.driver.destroy_subscription(asking)
            assert graph.wait(lambda: outputs.refusal() is None)
        outputs.close()
    finally:
        graph.close()
        node.destroy_node()
