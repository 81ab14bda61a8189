"""The parts of the nodes, each on its own."""

import logging
import mmap
import sys
import threading
import time
import types
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import rclpy
import rclpy.executors
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from message_filters import ApproximateTimeSynchronizer, SimpleFilter
from rcl_interfaces.srv import SetParameters
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from dmd3c_ros.completion_node import PARAMETER_GROUPS
from dmd3c_ros.core.ranges import ranged
from dmd3c_ros.core.transform_buffer import TransformError
from dmd3c_ros.io.read_ahead import read_ahead
from dmd3c_ros.messages.tf import encode_transforms
from dmd3c_ros.messages.transforms import matrix_from_numbers, numbers_from_matrix
from dmd3c_ros.node.diagnostics import Counts, Reporter, Steps, Throttle
from dmd3c_ros.node.inputs import Inputs
from dmd3c_ros.node.logs import RosLogHandler
from dmd3c_ros.node.parameters import ParameterError, Parameters, entries
from dmd3c_ros.node.players.bag_player import BagSettings
from dmd3c_ros.node.players.kitti_player import KittiSettings
from dmd3c_ros.node.players.settings import PlayerSettings
from dmd3c_ros.node.players.sim_player import SimSettings
from dmd3c_ros.node.process_memory import keep_freed_memory, memory_in_use
from dmd3c_ros.node.services import prepare_in_thread
from dmd3c_ros.node.synchronizer import Synchronizer
from dmd3c_ros.node.tf_listener import TfListener
from dmd3c_ros.node.worker import NewestWins
from dmd3c_ros.pipeline.settings import NodeSettings


@pytest.fixture
def make_node(context):
    """Nodes with parameters given from outside, as a launch file would."""
    nodes = []

    def make(**given):
        nodes.append(
            rclpy.create_node(
                f'parts_{len(nodes)}',
                context=context,
                parameter_overrides=[Parameter(name, value=v) for name, v in given.items()],
            )
        )
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


# ---------------------------------------------------------------- worker


def test_only_the_newest_item_waits_and_the_others_are_told_of():
    begun, go_on, handled = threading.Event(), threading.Event(), []

    def handle(item):
        begun.set()
        go_on.wait(10)
        handled.append(item)

    worker = NewestWins(handle)
    assert not worker.put(1)
    assert begun.wait(10)
    assert [worker.put(item) for item in (2, 3, 4)] == [False, True, True]
    go_on.set()
    while len(handled) < 2:
        time.sleep(0.001)
    worker.stop()
    assert handled == [1, 4]
    assert not worker.failed


def test_a_worker_never_makes_the_giver_wait():
    go_on, handled = threading.Event(), []
    worker = NewestWins(lambda item: (go_on.wait(), handled.append(item)))
    for item in range(1000):
        worker.put(item)  # would not return if it waited: the handler does not yet
    assert not handled
    go_on.set()
    while not handled or handled[-1] != 999:
        time.sleep(0.001)
    worker.stop()
    assert len(handled) <= 2


def test_a_worker_that_a_signal_interrupts_in_a_put_still_ends():
    def interrupted(put, moment: int) -> bool:
        """Is there a line of this number, at which the put is interrupted?"""
        lines = iter(range(1, moment + 1))

        def trace(frame, event, arg):
            if event == 'line' and next(lines, moment) == moment:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            put(0)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    for moment in range(1, 100):
        worker = NewestWins(lambda item: None)
        time.sleep(0.01)
        ends = not interrupted(worker.put, moment)
        # Once the thread waits again, for what comes or for the end.
        time.sleep(0.01)
        stopping = threading.Thread(target=worker.stop, daemon=True)
        stopping.start()
        stopping.join(10)
        assert not stopping.is_alive(), f'interrupted at line {moment} of it'
        if ends:
            break
    assert moment > 2


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_worker_whose_handler_fails_is_seen_to_have_failed():
    worker = NewestWins(lambda item: 1 / item)
    worker.put(0)
    end = time.monotonic() + 10
    while not worker.failed and time.monotonic() < end:
        time.sleep(0.001)
    assert worker.failed
    worker.stop()


# ---------------------------------------------------------------- synchronizer


def message_at(stamp_s: float):
    message = PointCloud2()
    message.header.stamp.sec = int(stamp_s)
    message.header.stamp.nanosec = round(stamp_s % 1 * 1e9)
    return message


class Pair:
    """A camera and a LiDAR on one synchronizer; the pairs' stamps of the camera, s."""

    def __init__(self, kind: type) -> None:
        self.camera, self.lidar, self.pairs = SimpleFilter(), SimpleFilter(), []
        synchronizer = kind([self.camera, self.lidar], 10, 0.02)
        synchronizer.registerCallback(
            lambda a, b: self.pairs.append(a.header.stamp.sec + a.header.stamp.nanosec * 1e-9)
        )

    def play(self, start_s: float, seconds: float = 3.0) -> list[float]:
        """Three images for each sweep, so that two of them wait for ever."""
        seen = len(self.pairs)
        for number in range(round(seconds * 30)):
            self.camera.signalMessage(message_at(start_s + number / 30))
            if number % 3 == 0:
                self.lidar.signalMessage(message_at(start_s + number / 30))
        return self.pairs[seen:]


def test_a_bag_that_starts_anew_is_paired_from_its_first_frame_on():
    node, original = Pair(Synchronizer), Pair(ApproximateTimeSynchronizer)
    assert [len(node.play(1000.0)) for _ in range(3)] == [30, 30, 30]
    # What the node's own synchronizer is for.
    original.play(1000.0)
    assert len(original.play(1000.0)) < 10


def test_stamps_of_the_far_future_and_of_no_clock_at_all_do_not_stop_the_pairing():
    pair = Pair(Synchronizer)
    for start_s in range(1000, 1020):
        pair.camera.signalMessage(message_at(4e9 / 2 + start_s))
        pair.lidar.signalMessage(message_at(4e9 / 2 - start_s))
        pair.camera.signalMessage(message_at(0.0))
        pair.camera.signalMessage(message_at(-5.0))
        assert len(pair.play(float(start_s), 1.0)) == 10


# ---------------------------------------------------------------- parameters


@dataclass(frozen=True)
class Oven:
    """An oven.

    heat: temperature inside, degrees.
    racks: shelves, one at
        least.
    mode: 'fan' or 'grill'.
    shape: its corners, m.
    """

    heat: float = ranged(180.0, 0.0, 300.0)
    racks: int = ranged(2, 1, 5)
    mode: str = 'fan'
    shape: tuple[float, ...] = ()

    def __post_init__(self):
        if self.mode not in ('fan', 'grill'):
            raise ValueError(f'mode: expected fan or grill, got {self.mode!r}')


def test_parameters_fill_their_dataclass_and_default_to_it(make_node):
    parameters = Parameters(make_node(heat=200.0, shape=[0, 1, 2]), (('', Oven),))
    assert parameters.get(Oven) == Oven(heat=200.0, shape=(0.0, 1.0, 2.0))


def test_descriptors_carry_meaning_and_range(make_node):
    node = make_node()
    Parameters(node, (('', Oven),))
    assert node.describe_parameter('racks').description == 'shelves, one at least.'
    (limits,) = node.describe_parameter('racks').integer_range
    assert (limits.from_value, limits.to_value) == (1, 5)
    (limits,) = node.describe_parameter('heat').floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 300.0)


@pytest.mark.parametrize(
    ('given', 'text'),
    [
        ({'heat': 999.0}, 'parameter heat: .*temperature inside'),
        ({'heat': 'hot'}, 'parameter heat: .*temperature inside'),
        ({'mode': 'off'}, "parameter mode: expected fan or grill, got 'off'"),
        ({'shape': 'round'}, "parameter shape: expected a list of numbers, got 'round'$"),
        ({'shape': '[0, 0.5]'}, r'as a text; write \[0.0, 0.5\] instead of \[0, 0.5\]$'),
    ],
)
def test_a_node_does_not_start_with_parameters_that_make_no_sense(make_node, given, text):
    with pytest.raises(ParameterError, match=text):
        Parameters(make_node(**given), (('', Oven),))


def test_parameters_of_others_are_left_out_with_a_warning(make_node, capfd):
    node = make_node(haet=1.0, zzz=1.0, heat=200.0)
    assert Parameters(node, (('', Oven),)).get(Oven).heat == 200.0
    assert not node.has_parameter('haet')
    log = capfd.readouterr().err
    assert 'unknown parameter haet; did you mean heat?; it is ignored' in log
    assert 'unknown parameter zzz; it is ignored' in log


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ('/**/parts_0: {ros__parameters: {haet: 1.0}}', 'haet; did you mean heat'),
        ('parts_0: {ros__parameters: {zzz: {y: 1.0}}}', r'zzz.y \(known: heat, racks, mode'),
        ('rig: {parts_0: {ros__parameters: {haet: 1.0}}}', 'haet; did you mean heat'),
    ],
)
def test_a_misspelt_name_in_the_nodes_own_section_is_an_error(
    make_node, tmp_path, monkeypatch, content, text
):
    (tmp_path / 'mine.yaml').write_text(content)
    words = ['node', '--ros-args', '--params-file', str(tmp_path / 'mine.yaml')]
    monkeypatch.setattr('sys.argv', words)
    node = make_node(**{'haet': 1.0, 'zzz.y': 1.0})
    with pytest.raises(ParameterError, match=f'unknown parameter {text}'):
        Parameters(node, (('', Oven),))


@pytest.mark.parametrize('given', [(), (0, 1, 2)])
def test_a_list_is_one_of_numbers_whatever_it_holds(make_node, given):
    node = make_node(shape=list(given)) if given else make_node()
    Parameters(node, (('', Oven),))
    assert node.describe_parameter('shape').type == Parameter.Type.DOUBLE_ARRAY.value
    assert list(node.get_parameter('shape').value) == list(given)


@pytest.mark.skipif(
    not hasattr(Node, 'add_pre_set_parameters_callback'), reason='Humble keeps the type given'
)
@pytest.mark.parametrize(
    ('kind', 'value'),
    [(Parameter.Type.BOOL_ARRAY, []), (Parameter.Type.INTEGER_ARRAY, [1, 2, 3])],
)
def test_a_list_stays_one_of_numbers_when_it_is_set(make_node, kind, value):
    node = make_node(shape=[1.0])
    parameters = Parameters(node, (('', Oven),))
    (result,) = node.set_parameters([Parameter('shape', kind, value)])
    assert result.successful
    assert node.describe_parameter('shape').type == Parameter.Type.DOUBLE_ARRAY.value
    assert parameters.get(Oven).shape == tuple(value)
    (refused,) = node.set_parameters([Parameter('shape', value='[0, 0.5]')])
    assert not refused.successful and 'write [0.0, 0.5]' in refused.reason


def test_parameters_that_every_node_has_are_no_strangers(make_node):
    node = make_node(use_sim_time=False)
    assert Parameters(node, (('', Oven),)).get(Oven) == Oven()


def test_a_change_makes_new_settings_or_is_refused_with_the_reason(make_node):
    node = make_node()
    parameters = Parameters(
        node, (('', Oven),), lambda names, _: 'racks are fixed' if 'racks' in names else None
    )
    before = parameters.get(Oven)
    assert node.set_parameters([Parameter('mode', value='grill')])[0].successful
    assert (before.mode, parameters.get(Oven).mode) == ('fan', 'grill')
    (refused,) = node.set_parameters([Parameter('mode', value='cold')])
    assert not refused.successful and "got 'cold'" in refused.reason
    (refused,) = node.set_parameters([Parameter('racks', value=3)])
    assert not refused.successful and refused.reason == 'racks are fixed'
    assert parameters.get(Oven) == Oven(mode='grill')
    assert node.get_parameter('mode').value == 'grill'


def test_other_callbacks_go_on_while_a_service_prepares_what_its_parameters_need(
    context, make_node
):
    node, asker, ticks, wanted = make_node(), make_node(), [], []
    go_on = threading.Event()
    parameters = Parameters(node, (('', Oven),))

    def plan(given):
        wanted.append(given)
        return partial(go_on.wait, 30)

    prepare_in_thread(node, plan)
    node.create_timer(0.01, lambda: ticks.append(1), MutuallyExclusiveCallbackGroup())
    client = asker.create_client(SetParameters, f'/{node.get_name()}/set_parameters')
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node), executor.add_node(asker)

    def spin_until(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            executor.spin_once(timeout_sec=0.05)

    spin_until(client.service_is_ready)
    modes = [Parameter('mode', value=value).to_parameter_msg() for value in ('grill', 'cold')]
    future = client.call_async(SetParameters.Request(parameters=modes))
    spin_until(lambda: wanted)
    before = len(ticks)
    spin_until(lambda: len(ticks) > before + 3)
    assert not future.done()
    assert parameters.get(Oven).mode == 'fan'
    go_on.set()
    spin_until(future.done)
    assert [result.successful for result in future.result().results] == [True, False]
    assert parameters.get(Oven).mode == 'grill'
    assert [[parameter.value for parameter in given] for given in wanted] == [['grill'], ['cold']]
    executor.shutdown()


def test_what_goes_wrong_while_a_service_prepares_is_raised_and_holds_no_other_service_up(
    context, make_node
):
    node = make_node()
    prepare_in_thread(node, lambda given: {}.popitem)
    client = node.create_client(SetParameters, f'/{node.get_name()}/set_parameters')
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    assert client.wait_for_service(30)
    client.call_async(SetParameters.Request(parameters=[Parameter('a').to_parameter_msg()]))
    end = time.monotonic() + 20
    with pytest.raises(KeyError):
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
    executor.shutdown()


@pytest.mark.parametrize(
    'groups',
    [
        PARAMETER_GROUPS,
        (('', PlayerSettings),),
        (('', KittiSettings),),
        (('', SimSettings),),
        (('', BagSettings),),
    ],
)
def test_every_setting_of_the_nodes_has_a_meaning(groups):
    assert all(len(entry.meaning) > 10 for _, entry in entries(groups))


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'sync_slop': -1.0}, 'sync_slop: expected 0.0 to 10.0, got -1.0'),
        ({'sync_queue_size': 0}, 'sync_queue_size: expected 1 to 1000, got 0'),
        ({'min_confidence': float('nan')}, 'min_confidence: expected 0.0 to 1.0, got nan'),
        ({'color_near': 90.0}, 'color_near: expected less than color_far 80.0, got 90.0'),
        ({'depth_encoding': 'mono16'}, "expected 32FC1 or 16UC1, got 'mono16'"),
        ({'T_camera_lidar': (1.0,) * 7 + (0.0,)}, 'T_camera_lidar: expected 7 numbers'),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        NodeSettings(**settings)


# ---------------------------------------------------------------- extrinsics

T = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])
NUMBERS = (0.1, -0.2, 0.3, 0.5, -0.5, 0.5, 0.5)


def test_seven_and_sixteen_numbers_name_the_same_transform():
    np.testing.assert_allclose(matrix_from_numbers(NUMBERS), T, atol=1e-12)
    np.testing.assert_array_equal(matrix_from_numbers(T.ravel()), T)
    longer = (*NUMBERS[:3], *(2 * q for q in NUMBERS[3:]))
    np.testing.assert_allclose(matrix_from_numbers(longer), T, atol=1e-12)
    again = numbers_from_matrix(T)
    np.testing.assert_allclose(matrix_from_numbers(again), T, atol=1e-12)


@pytest.mark.parametrize(
    ('numbers', 'text'),
    [
        ((0.0,) * 7, 'quaternion'),
        ((1.0, 2.0), 'expected 7 numbers .* got 2'),
        ((*np.diag([1.0, 1, -1, 1]).ravel(),), 'expected a rotation'),
        ((*np.diag([2.0, 2, 2, 1]).ravel(),), 'expected a rotation'),
        ((*np.eye(4).ravel()[:-1], 2.0), 'expected 0 0 0 1 in the last row'),
        ((np.nan,) * 7, 'expected finite numbers'),
    ],
)
def test_numbers_that_are_no_rigid_transform_are_refused(numbers, text):
    with pytest.raises(ValueError, match=text):
        matrix_from_numbers(numbers)


def stamped(parent, child, stamp_s, x):
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, stamp_s
    message.transform.translation.x, message.transform.rotation.w = float(x), 1.0
    return message


def test_a_listener_hears_moving_and_latched_transforms(make_node, context):
    node = make_node()
    talker, executor = make_node(), rclpy.executors.SingleThreadedExecutor(context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    extrinsics = talker.create_publisher(TFMessage, '/tf_static', latched)
    extrinsics.publish(encode_transforms([stamped('base', 'lidar', 0, 2.0)]))
    listener = TfListener(node)
    moving = talker.create_publisher(TFMessage, '/tf', 10)
    executor.add_node(node)

    def heard():
        for second in (10, 20):
            moving.publish(encode_transforms([stamped('odom', 'base', second, second)]))
        executor.spin_once(timeout_sec=0.1)
        try:
            return listener.buffer.lookup('odom', 'lidar', 15 * 10**9)
        except TransformError:
            return None

    end = time.monotonic() + 30
    while (T := heard()) is None and time.monotonic() < end:
        pass
    np.testing.assert_allclose(T[:3, 3], [17.0, 0, 0], atol=1e-9)
    listener.close()
    executor.shutdown()


def test_where_tf2_ros_is_installed_its_listener_fills_our_buffer(make_node, monkeypatch):
    class TransformListener:
        """As far as upstream's goes without a message."""

        ended = False

        def __init__(self, buffer, node, *, spin_thread=False, qos=None, static_qos=None):
            self.buffer, self.node = buffer, node
            heard.append(self)

        def unregister(self):
            self.ended = True

    heard = []
    module = types.ModuleType('tf2_ros')
    module.TransformListener = TransformListener
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    node = make_node()
    listener = TfListener(node)
    (upstream,) = heard
    assert upstream.node is node
    upstream.buffer.set_transform_static(stamped('base', 'lidar', 0, 2.0), 'default_authority')
    for second in (10, 20):
        upstream.buffer.set_transform(stamped('odom', 'base', second, second), 'default_authority')
    T = listener.buffer.lookup('odom', 'lidar', 15 * 10**9)
    np.testing.assert_allclose(T[:3, 3], [17.0, 0, 0], atol=1e-9)
    listener.close()
    assert upstream.ended


def test_bytes_that_are_no_transform_are_left_out(make_node, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    listener = TfListener(make_node())
    good = encode_transforms([stamped('a', 'b', 0, 1.0)])
    broken = stamped('a', 'c', 0, 1.0)
    broken.transform.rotation.w = 0.0
    with caplog.at_level(logging.WARNING):
        for data in (good[:-30], b'', encode_transforms([broken]), good):
            listener._subscriptions._take(data, fixed=True)
    assert len(caplog.records) == 3
    assert listener.buffer.lookup('a', 'b', 0)[0, 3] == 1.0
    listener.close()


def test_without_the_message_package_of_tf_the_node_says_what_to_do(make_node, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    with pytest.raises(ValueError, match='expected T_camera_lidar without fixed_frame, or tf2'):
        TfListener(make_node())


# ---------------------------------------------------------------- reports


def test_a_report_covers_its_period_and_keeps_totals():
    counts = Counts()
    reporter = Reporter(counts)
    counts.frames_in, counts.dropped = 10, 1
    for milliseconds in range(1, 10):
        counts.published(milliseconds * 1e-3)
    status = reporter.status('node', 'model', None)
    assert status.message == '10 in, 9 out, 1 dropped; latency 5 ms, p99 9 ms'
    assert status.level == DiagnosticStatus.OK
    counts.frames_in = 12
    counts.fail('points: none of 120 is valid')
    counts.fail('points: none of 7.5 is valid')
    status = reporter.status('node', 'model', None, {'rate_points_hz': 9.5, 'device': 'cpu'})
    assert status.message == 'no frame completed: points: none of 7.5 is valid'
    assert status.level == DiagnosticStatus.ERROR
    values = {item.key: item.value for item in status.values}
    assert (values['frames_in'], values['frames_out']) == ('12', '9')
    assert (values['rate_points_hz'], values['device']) == ('9.5', 'cpu')
    assert values['failed: points: none of # is valid'] == '2'
    counts.published(0.01)
    counts.fail('image: cut off')
    status = reporter.status('node', 'model', None)
    assert status.message.startswith('0 in, 1 out, 0 dropped, 1 failed')
    assert status.level == DiagnosticStatus.WARN
    assert reporter.status('node', 'model', 'no lidar').message == 'no lidar'


def test_a_report_is_news_once_until_something_else_happens():
    counts = Counts()
    reporter = Reporter(counts)

    def news(trouble=None, **more: int) -> bool:
        for name, number in more.items():
            setattr(counts, name, getattr(counts, name) + number)
        reporter.status('n', 'h', trouble)
        return reporter.news

    assert news(frames_in=10, frames_out=10)
    assert not news(frames_in=9, frames_out=8)
    assert news(frames_in=9, frames_out=8, dropped=1)
    assert not news(frames_in=9, frames_out=9)
    for _ in range(2):
        assert news('nothing comes')
        assert not news('nothing comes')
        assert news(frames_in=10, frames_out=10)
        assert not news(frames_in=10, frames_out=10)


def test_frames_that_keep_failing_are_reported_once():
    counts = Counts()
    reporter = Reporter(counts)
    news = []
    for _ in range(3):
        counts.frames_in += 5
        counts.fail('no transform')
        reporter.status('n', 'h', None)
        news.append(reporter.news)
    assert news == [True, False, False]


def test_steps_add_up_to_the_time_of_a_frame():
    steps = Steps()
    began = time.monotonic() - 0.5
    for _ in range(3):
        steps.begin(began)
        time.sleep(0.02)
        steps.end('decode')
        time.sleep(0.04)
        steps.end('network')
    found = steps.percentiles_ms()
    names = ('waiting', 'decode', 'network')
    assert list(found) == [f'{name}_{p}_ms' for name in names for p in ('p50', 'p99')]
    assert found['waiting_p50_ms'] >= 500
    assert found['decode_p50_ms'] >= 20
    assert found['network_p99_ms'] >= found['network_p50_ms'] >= 40


def test_memory_in_use_grows_with_what_is_held():
    before = memory_in_use('cpu')['memory_mb']
    # From the system itself: an allocator may have as much at hand already.
    with mmap.mmap(-1, 40_000_000) as held:
        np.frombuffer(held, np.uint8)[:] = 1
        grown = memory_in_use('cpu')['memory_mb'] - before
    assert grown == pytest.approx(40, rel=0.5)


def test_a_trouble_is_told_at_once_and_then_with_its_count():
    told = []
    throttle = Throttle(told.append, period_s=0.2)
    for number in range(5):
        throttle(f'bad size {number}')
    throttle('other trouble')
    time.sleep(0.25)
    throttle('bad size 9')
    assert told == ['bad size 0', 'other trouble', 'bad size 9 (5 times)']


def test_the_packages_log_reaches_the_nodes_log_at_its_severity():
    seen = []
    names = ('debug', 'info', 'warning', 'error')
    ros = types.SimpleNamespace(
        **{name: lambda text, name=name: seen.append((name, text)) for name in names}
    )
    log = logging.Logger('dmd3c_ros.test')
    log.addHandler(RosLogHandler(ros))
    for name in names:
        getattr(log, name)('%s of all', name)
    assert seen == [(name, f'{name} of all') for name in names]


# ---------------------------------------------------------------- reading and memory


def test_items_are_read_ahead_in_order():
    loaded = []

    def load(key):
        loaded.append(key)
        return key * 10

    items = read_ahead(load, range(8), ahead=3)
    assert next(items) == 0
    assert loaded[:4] == [0, 1, 2, 3]
    assert list(items) == [10, 20, 30, 40, 50, 60, 70]
    assert loaded == list(range(8))


def test_a_file_that_cannot_be_read_is_an_error_in_its_turn():
    def load(key):
        if key == 2:
            raise OSError('broken file')
        return key

    items = read_ahead(load, range(5), ahead=1)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match='broken file'):
        next(items)


def test_endless_keys_are_read_no_further_than_asked():
    loaded = []

    def endless():
        key = 0
        while True:
            yield key
            key += 1

    items = read_ahead(lambda key: loaded.append(key) or key, endless(), ahead=4)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert len(loaded) <= 7


def test_keeping_freed_memory_reports_whether_the_c_library_can():
    assert keep_freed_memory() == sys.platform.startswith('linux')


# ---------------------------------------------------------------- inputs


def reliability(node, topic: str) -> list[str]:
    infos = node.get_subscriptions_info_by_topic(topic)
    return [info.qos_profile.reliability.name for info in infos]


def wait_for(context, nodes, condition, timeout=20.0) -> bool:
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    for node in nodes:
        executor.add_node(node)
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.02)
    executor.shutdown()
    return condition()


def test_subscriptions_are_as_reliable_as_all_publishers_offer(context, make_node):
    node, driver = make_node(), make_node()
    inputs = Inputs(node, NodeSettings(), lambda frame: None)
    assert reliability(node, '/points') == []
    reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    first = driver.create_publisher(PointCloud2, 'points', reliable)

    def offered(name):
        return lambda: reliability(node, '/points') == [name]

    assert wait_for(context, [node, driver], offered('RELIABLE'))
    second = driver.create_publisher(PointCloud2, 'points', best_effort)
    assert wait_for(context, [node, driver], offered('BEST_EFFORT'))
    driver.destroy_publisher(second)
    assert wait_for(context, [node, driver], offered('RELIABLE'))
    inputs.close()
    driver.destroy_publisher(first)
    assert reliability(node, '/points') == []
