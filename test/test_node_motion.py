"""completion_node on a rig that moves, over real /tf and /tf_static topics."""

import numpy as np
import pytest
import ros_graph
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import NodeProcess, Probe, camera_info, lasting, make_image, parameters, wall_points
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from dmd3c_ros.messages.clouds import points_to_cloud
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.messages.tf import encode_transforms

S = 10**9
DEPTH = 'depth_registered/image_rect'
SPEED = 20.0  # m/s towards the wall
DELAY_NS = 40_000_000  # from the sweep's stamp to the image
CLOCK_NS = 250_000_000  # the LiDAR's clock is fast by this
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope='module')
def node(folder):
    arguments = parameters(
        model='nearest',
        report_period=0.5,
        fixed_frame='odom',
        lidar_clock_offset=-0.25,
        transform_timeout=1.0,
    )
    with lasting(NodeProcess('dmd3c_ros.completion_node', folder, *arguments)) as process:
        yield process


@pytest.fixture(scope='module')
def probe(node):
    probe = Probe()
    probe.tf = probe.node.create_publisher(TFMessage, '/tf', 100)
    probe.tf_static = probe.node.create_publisher(TFMessage, '/tf_static', LATCHED)
    yield probe
    probe.close()


def stamp(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // S, nanosec=stamp_ns % S)


def pose(parent, child, stamp_ns, x, rotation=(0.0, 0.0, 0.0, 1.0)) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, stamp(stamp_ns)
    message.transform.translation.x = float(x)
    q = message.transform.rotation
    q.x, q.y, q.z, q.w = rotation
    return message


def publish_extrinsics(probe) -> None:
    """The camera 0.25 m behind the LiDAR, as ros_graph has it."""
    lens = pose('base', 'lens', 0, -ros_graph.OFFSET_M, (-0.5, 0.5, -0.5, 0.5))
    probe.tf_static.publish(encode_transforms([lens, pose('base', 'lidar', 0, 0.0)]))


def publish_motion(probe, start_ns: int) -> None:
    """One second of odometry from before start_ns on, at 20 Hz."""
    for k in range(-4, 17):
        at = start_ns + k * S // 20
        x = SPEED * (at - start_ns) * 1e-9
        probe.tf.publish(encode_transforms([pose('odom', 'base', at, x)]))


def publish_set(probe, start_ns: int) -> None:
    """A sweep of the wall that lasts 0.1 s, and an image in the midst of it."""
    points = wall_points()
    times = np.linspace(0, 0.1, len(points), dtype=np.float32)
    points[:, 0] -= SPEED * times
    cloud = points_to_cloud(
        np.column_stack([points, times]), Header(frame_id='lidar'), ('x', 'y', 'z', 'time')
    )
    image, info = make_image(), camera_info()
    cloud.header.stamp = stamp(start_ns + CLOCK_NS)
    image.header.stamp = info.header.stamp = stamp(start_ns + DELAY_NS)
    for topic, message in (('camera_info', info), ('image_rect', image), ('points', cloud)):
        probe.publishers[topic].publish(message)


def publish_sets_until(probe, start_ns: int, named) -> None:
    """A set each second from start_ns on, without motion, until its fault is named."""
    assert probe.wait(probe.heard)

    def publish() -> bool:
        nonlocal start_ns
        start_ns += S
        publish_set(probe, start_ns)
        probe.spin(0.4)
        return named()

    assert probe.wait(publish), 'the fault is not named'


def depth_at(probe, start_ns: int, *, motion_first: bool) -> np.ndarray:
    """Depth of the first set, from start_ns on, that comes back."""
    box = probe.listen(DEPTH, Image)
    assert probe.wait(probe.heard)
    for start in range(start_ns, start_ns + 40 * S, 4 * S):
        if motion_first:
            publish_motion(probe, start)
            probe.spin(0.2)
            publish_set(probe, start)
        else:
            publish_set(probe, start)
            probe.spin(0.2)
            publish_motion(probe, start)
        wanted = stamp(start + DELAY_NS)
        if probe.wait(lambda wanted=wanted: any(m.header.stamp == wanted for m in box), 3.0):
            return depth_from_image(box[-1])
    raise AssertionError('no set came back')


def counts(probe) -> dict:
    reports = probe.listen('/diagnostics', DiagnosticArray)
    seen = len(reports)
    assert probe.wait(lambda: len(reports) > seen)
    values = {item.key: item.value for item in reports[-1].status[0].values}
    return {key: int(values[key]) for key in ('failed', 'no_transform')}


def test_a_frame_without_transforms_is_skipped_with_the_reason_and_counted(node, probe):
    probe.listen(DEPTH, Image)
    text = "no transform from 'odom' to 'lens': TF has no frame 'odom'"
    publish_sets_until(probe, 100 * S, lambda: text in node.log)
    found = counts(probe)
    assert found['no_transform'] > 0
    assert found['failed'] >= found['no_transform']


@pytest.fixture
def mounted(node, probe):
    """The extrinsics are known to the node, as they are after any test that needs them."""
    assert probe.wait(probe.heard)
    publish_extrinsics(probe)
    probe.spin(0.5)


@pytest.mark.usefixtures('mounted')
def test_points_are_moved_from_their_own_time_to_the_images(probe):
    depth = depth_at(probe, 200 * S, motion_first=True)
    truth = ros_graph.WALL_M + ros_graph.OFFSET_M - SPEED * DELAY_NS * 1e-9
    np.testing.assert_allclose(depth, truth, atol=3e-3)


@pytest.mark.usefixtures('mounted')
def test_a_frame_waits_for_motion_that_is_told_late(probe):
    depth = depth_at(probe, 300 * S, motion_first=False)
    truth = ros_graph.WALL_M + ros_graph.OFFSET_M - SPEED * DELAY_NS * 1e-9
    np.testing.assert_allclose(depth, truth, atol=3e-3)


@pytest.mark.usefixtures('mounted')
def test_motion_that_ends_before_the_image_is_stale(node, probe):
    depth_at(probe, 350 * S, motion_first=True)
    text = "s after the last transform from 'base' to 'odom'"
    publish_sets_until(probe, 400 * S, lambda: text in node.log)
    assert f'{text}; waited for 1 s: raise transform_timeout' in node.log
    depth_at(probe, 600 * S, motion_first=True)
