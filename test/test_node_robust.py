"""completion_node in a process of its own, treated badly: transitions, exchanges, signals."""

import os
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import rclpy
import ros_graph
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.signals import SignalHandlerOptions
from ros_graph import NodeProcess, Probe, lasting, parameters
from sensor_msgs.msg import Image

from dmd3c_ros import completion_node
from dmd3c_ros.messages.images import depth_from_image
from dmd3c_ros.node.inputs import FrameSet

MODULE = 'dmd3c_ros.completion_node'
STUCK = """
import sys, time
import rclpy
from rclpy.node import Node
from dmd3c_ros.node.entrypoint import run

class Stuck(Node):
    def close(self):
        print('closing', flush=True)
        time.sleep(100)

def spin(node):
    node.create_timer(0.2, lambda: print('spinning', flush=True))
    rclpy.spin(node)
    return 1

sys.exit(run('stuck', lambda: Stuck('stuck'), spin))
"""
# The second signal comes at each line of Python that the first one's handler runs, in turn.
TWO_SIGNALS = """
import faulthandler, signal, sys
from dmd3c_ros.node.entrypoint import _interruptible

faulthandler.dump_traceback_later(30, exit=True)

def lines_with_a_signal_at(moment):
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += 1
        if count == moment:
            signal.raise_signal(signal.SIGINT)
        return trace

    with _interruptible(None):
        sys.settrace(trace)
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            pass
        sys.settrace(None)
    return count

moment = 1
while lines_with_a_signal_at(moment) >= moment:
    moment += 1
print(moment)
"""
DEPTH = {'depth_registered/image_rect': Image}
TRUE_DEPTH = ros_graph.WALL_M + ros_graph.OFFSET_M
ARGUMENTS = parameters(
    model='nearest', report_period=0.2, lazy='false', T_camera_lidar=ros_graph.T_CAMERA_LIDAR
)
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
# state -> transition -> state, as ROS 2 designs managed nodes.
GRAPH = {
    State.PRIMARY_STATE_UNCONFIGURED: {CONFIGURE: State.PRIMARY_STATE_INACTIVE},
    State.PRIMARY_STATE_INACTIVE: {
        CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
        ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    },
    State.PRIMARY_STATE_ACTIVE: {DEACTIVATE: State.PRIMARY_STATE_INACTIVE},
}
SHUTDOWNS = {
    State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    State.PRIMARY_STATE_ACTIVE: Transition.TRANSITION_ACTIVE_SHUTDOWN,
}


@pytest.fixture(scope='module')
def node(folder):
    with lasting(NodeProcess(MODULE, folder, *ARGUMENTS)) as process:
        yield process


class Services:
    """The node's services, with clients that are made once."""

    def __init__(self, probe: Probe, node: str = 'completion_node') -> None:
        self._probe = probe
        self._clients = {
            kind: probe.node.create_client(kind, f'/{node}/{name}')
            for kind, name in (
                (ChangeState, 'change_state'),
                (GetState, 'get_state'),
                (SetParametersAtomically, 'set_parameters_atomically'),
            )
        }

    def call(self, kind, request):
        client = self._clients[kind]
        assert self._probe.wait(client.service_is_ready)
        future = client.call_async(request)
        assert self._probe.wait(future.done), f'{client.srv_name} does not answer'
        return future.result()

    def change(self, transition: int) -> bool:
        return self.call(
            ChangeState, ChangeState.Request(transition=Transition(id=transition))
        ).success

    def state(self) -> int:
        return self.call(GetState, GetState.Request()).current_state.id

    def begin_to_set(self, **values: str):
        """Future of setting texts, all or none of them."""
        text = ParameterType.PARAMETER_STRING
        parameters = [
            Parameter(name=name, value=ParameterValue(type=text, string_value=value))
            for name, value in values.items()
        ]
        client = self._clients[SetParametersAtomically]
        assert self._probe.wait(client.service_is_ready)
        return client.call_async(SetParametersAtomically.Request(parameters=parameters))


def threads_of(process: NodeProcess) -> int:
    return len(list(Path(f'/proc/{process.pid}/task').iterdir()))


def resident_mb(process: NodeProcess) -> float:
    return int(Path(f'/proc/{process.pid}/statm').read_text().split()[1]) * 4096 / 1e6


def subscribes(probe: Probe, node: str) -> bool:
    subscriptions = probe.node.get_subscriptions_info_by_topic('points')
    return node in [subscription.node_name for subscription in subscriptions]


def depth_of(outputs: dict) -> np.ndarray:
    return depth_from_image(outputs['depth_registered/image_rect'])


# ---------------------------------------------------------------- transitions


def test_transitions_in_any_order_do_what_they_may_and_release_everything(node, probe):
    services = Services(probe)
    np.testing.assert_allclose(depth_of(probe.complete(DEPTH)), TRUE_DEPTH, rtol=1e-5)
    assert services.change(DEACTIVATE) and services.change(CLEANUP)
    # Threads of libraries start with the first frame and stay: counted from here on.
    before = threads_of(node)
    memory = resident_mb(node)
    state, rng = State.PRIMARY_STATE_UNCONFIGURED, random.Random(1)
    for _ in range(100):
        transition = rng.choice([CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE])
        allowed = GRAPH[state].get(transition)
        assert services.change(transition) == (allowed is not None)
        state = allowed or state
        assert services.state() == state
        if state == State.PRIMARY_STATE_ACTIVE:
            probe.publish()
    for transition in (DEACTIVATE, CLEANUP):
        if transition in GRAPH[state]:
            assert services.change(transition)
            state = GRAPH[state][transition]
    assert state == State.PRIMARY_STATE_UNCONFIGURED
    assert threads_of(node) == before
    assert probe.wait(
        lambda: not any(p.get_subscription_count() for p in probe.publishers.values())
    )
    assert probe.wait(lambda: not any(map(probe.node.count_publishers, DEPTH)))
    assert resident_mb(node) < memory + 20
    assert services.change(CONFIGURE) and services.change(ACTIVATE)
    np.testing.assert_allclose(depth_of(probe.complete(DEPTH)), TRUE_DEPTH, rtol=1e-5)


@pytest.mark.parametrize('state', SHUTDOWNS)
def test_a_node_that_was_shut_down_holds_nothing_and_ends_on_a_signal(folder, probe, state):
    process = NodeProcess(
        MODULE, folder, *ARGUMENTS, '-p', 'autostart:=false', '-r', '__node:=other'
    )
    services = Services(probe, 'other')
    try:
        for transition in (CONFIGURE, ACTIVATE)[: state - 1]:
            assert services.change(transition)
        assert services.state() == state
        active = state == State.PRIMARY_STATE_ACTIVE
        assert probe.wait(lambda: subscribes(probe, 'other') == active)
        assert services.change(SHUTDOWNS[state])
        assert services.state() == State.PRIMARY_STATE_FINALIZED
        assert not services.change(CONFIGURE)
        assert probe.wait(lambda: not subscribes(probe, 'other'))
        assert process.running
    finally:
        status = process.stop()
    assert status == 0, process.log
    assert 'Traceback' not in process.log


# ---------------------------------------------------------------- the model


def test_the_model_is_exchanged_while_frames_go_on(node, probe):
    services = Services(probe)
    np.testing.assert_allclose(depth_of(probe.complete(DEPTH)), TRUE_DEPTH, rtol=1e-5)
    outputs = probe.received['depth_registered/image_rect']
    for model in ('light', 'interpolation', 'nearest'):
        change, seen, published = services.begin_to_set(model=model), len(outputs), 0
        while not change.done():
            probe.publish()
            published += 1
            assert probe.wait(lambda count=seen + published: len(outputs) >= count)
        result = change.result().result
        assert result.successful, result.reason
        assert services.state() == State.PRIMARY_STATE_ACTIVE
        assert depth_of(probe.complete(DEPTH)).any()
    np.testing.assert_allclose(depth_of(probe.complete(DEPTH)), TRUE_DEPTH, rtol=1e-5)


def test_a_model_that_cannot_be_loaded_is_refused_and_the_old_one_goes_on(node, probe):
    services = Services(probe)
    for values, reason in (
        ({'weights': '/no/such/file.pth', 'model': 'light'}, 'no/such/file.pth'),
        ({'model': 'bpnet'}, 'no weights come with the package'),
        ({'model': 'light', 'device': 'cuda:97'}, 'cuda:97 is not available'),
        ({'model': 'darkness'}, 'expected one of auto'),
        ({'max_depth': 'deep'}, 'type'),
    ):
        change = services.begin_to_set(**values)
        assert probe.wait(change.done)
        assert not change.result().result.successful
        assert reason in change.result().result.reason
    np.testing.assert_allclose(depth_of(probe.complete(DEPTH)), TRUE_DEPTH, rtol=1e-5)


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ('number', 'moment'),
    [(signal.SIGINT, 'active: light'), (signal.SIGTERM, 'model light on cpu')],
)
def test_a_signal_ends_the_node_at_once_though_another_one_follows(folder, number, moment):
    process = NodeProcess(MODULE, folder, *ARGUMENTS, '-p', 'model:=light', '-r', '__node:=other')
    end = time.monotonic() + ros_graph.PATIENCE_S
    while moment not in process.log:
        assert time.monotonic() < end, process.log
        time.sleep(0.005)
    os.kill(process.pid, number)
    time.sleep(0.01)
    assert process.stop(number) == 0, process.log
    assert 'Traceback' not in process.log


def test_a_node_that_does_not_close_in_time_ends_all_the_same(folder):
    process = subprocess.Popen(
        [sys.executable, '-c', STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'spinning\n'
    process.send_signal(signal.SIGTERM)
    while process.stdout.readline() != 'closing\n':
        assert process.poll() is None
    # As from launch and from the terminal.
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert 'Traceback' not in log


def test_a_signal_amid_the_handling_of_another_one_stops_nothing():
    command = [sys.executable, '-c', TWO_SIGNALS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 2


@pytest.fixture
def node_here(folder, monkeypatch):
    """A node in the tests' own process, on the context of all, not configured yet."""
    monkeypatch.setattr(completion_node, 'show_package_log', lambda logger: None)
    words = ['--ros-args', *ARGUMENTS, '-r', '__node:=here']
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    node = completion_node.CompletionNode()
    yield node
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_period_of_reports_that_is_set_before_configuring_counts_for_silence_too(
    node_here, monkeypatch
):
    told_s = []
    logger = types.SimpleNamespace(
        info=lambda text: None, warning=lambda text: told_s.append(time.monotonic())
    )
    monkeypatch.setattr(node_here, 'get_logger', lambda: logger)
    (result,) = node_here.set_parameters([rclpy.Parameter('report_period', value=0.4)])
    assert result.successful and node_here.autostart()
    end = time.monotonic() + ros_graph.PATIENCE_S
    while len(told_s) < 2 and time.monotonic() < end:
        rclpy.spin_once(node_here, timeout_sec=0.1)
    # At once and then with every sixth report.
    assert told_s[1] - told_s[0] > 6 * 0.4 - 0.1


def test_a_context_that_ends_at_any_moment_is_no_fault_of_a_frame(node_here, monkeypatch):
    node = node_here
    assert node.autostart()
    # As a signal does, before anybody closes the node.
    rclpy.shutdown()
    frame = FrameSet(ros_graph.make_image(), ros_graph.camera_info(), ros_graph.wall(), 0.0)
    node._complete(frame)
    monkeypatch.setattr(node._outputs, 'subscribed', lambda: frozenset(DEPTH))
    node._complete(frame)
    assert node._counts.failed == 0


def test_all_threads_of_the_node_are_as_nice_as_asked(folder):
    # Not the tests' own, of which it sets the niceness too.
    process = NodeProcess(MODULE, folder, *ARGUMENTS, *parameters(niceness=7), own_session=True)
    end = time.monotonic() + ros_graph.PATIENCE_S
    while 'active: nearest' not in process.log and time.monotonic() < end:
        time.sleep(0.05)
    session = Path(f'/proc/{process.pid}/autogroup')
    assert not session.exists() or session.read_text().endswith('nice 7\n')
    tasks = [path.read_text() for path in Path(f'/proc/{process.pid}/task').glob('*/stat')]
    assert process.stop() == 0, process.log
    # Of proc_pid_stat(5), the 19th field; the second one may hold spaces.
    assert {int(text.rpartition(')')[2].split()[16]) for text in tasks} == {7}
    assert len(tasks) > 5


def test_a_niceness_that_is_not_allowed_is_told_and_the_node_goes_on(node_here, monkeypatch):
    told, refused = [], PermissionError(13, 'Permission denied')
    logger = types.SimpleNamespace(info=lambda text: None, warning=told.append)
    monkeypatch.setattr(node_here, 'get_logger', lambda: logger)
    monkeypatch.setattr(completion_node, 'set_niceness', lambda niceness: throw(refused))
    (result,) = node_here.set_parameters([rclpy.Parameter('niceness', value=-10)])
    assert result.successful and node_here.autostart()
    assert told[0].startswith('niceness -10: Permission denied; it takes the capability')


def throw(error):
    raise error
