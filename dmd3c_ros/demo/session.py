"""One demonstration from start to end: two processes, a recorder, results."""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from rich.progress import Progress

from dmd3c_ros.demo.config import DemoConfig, DemoError
from dmd3c_ros.demo.evaluation import Summary
from dmd3c_ros.demo.processes import Child
from dmd3c_ros.demo.recorder import Recorder, Recording
from dmd3c_ros.demo.results import Completion, write_results
from dmd3c_ros.demo.sources import Source, source_of
from dmd3c_ros.node.threads import ENVIRONMENT

_log = logging.getLogger(__name__)
_POLL_S = 0.1
# The output of each process is kept anyway.
_NO_LOG_FILES = ('--disable-external-lib-logs',)
# Above these Linux hands ports out to clients (ROS 2, "The ROS_DOMAIN_ID").
_DOMAINS = range(1, 102)


def run(config: DemoConfig, progress: Progress) -> Summary:
    """Play, complete, record and report into `config.out`; DemoError says what went wrong."""
    source = source_of(config)
    with _environment(), _terminable():
        recording, completion = _record(config, source, progress)
    if not recording.times['depth']:
        raise DemoError(f'no depth came out; see {config.out / "logs"}')
    return write_results(config, source, recording, completion, progress)


def _record(
    config: DemoConfig, source: Source, progress: Progress
) -> tuple[Recording, Completion]:
    logs = config.out / 'logs'
    node = Child(
        'dmd3c_ros.completion_node',
        _ros_arguments(
            {
                'T_camera_lidar': source.T_camera_lidar.ravel().tolist(),
                'warm_up_width': source.image_size[0],
                'warm_up_height': source.image_size[1],
                'report_period': 1.0,
                **config.completion,
            }
        ),
        logs / 'completion_node.log',
    )
    player = Child(
        source.module,
        # The node's subscriptions and the recorder's.
        _ros_arguments({**source.parameters, 'wait_for_subscribers': 2}),
        logs / 'player.log',
    )
    with _ros_context() as context, Recorder(context) as recorder:
        with node:
            _wait_until_ready(config, node, recorder, progress)
            with player:
                _watch(config, source, (node, player), recorder, progress)
        _log.debug('node ended with exit code %s', node.exit_code)
    model, _, device = recorder.hardware.partition(' on ')
    return recorder.recording, Completion(model, device)


def _wait_until_ready(
    config: DemoConfig, node: Child, recorder: Recorder, progress: Progress
) -> None:
    task = progress.add_task('starting the node', total=None)
    deadline = monotonic() + config.start_timeout_s
    # The node subscribes once the player publishes; its diagnostics say that it is active.
    while not recorder.hardware:
        _check_alive(node)
        if monotonic() > deadline:
            raise DemoError(
                f'the node was not ready within {config.start_timeout_s:.0f} s:\n{node.log_tail()}'
            )
        sleep(_POLL_S)
    progress.remove_task(task)


def _watch(
    config: DemoConfig,
    source: Source,
    children: tuple[Child, Child],
    recorder: Recorder,
    progress: Progress,
) -> None:
    """Follow the drive until its outputs are complete or nothing comes any more."""
    node, player = children
    task = progress.add_task('preparing the drive', total=source.n_frames)
    deadline = monotonic() + config.render_timeout_s
    while not recorder.count('image'):
        _check_alive(node)
        _check_alive(player)
        if monotonic() > deadline:
            raise DemoError(
                f'the player sent nothing within {config.render_timeout_s:.0f} s:\n'
                f'{player.log_tail()}'
            )
        sleep(_POLL_S)
    progress.update(task, description='completing the drive')
    while monotonic() - recorder.last_arrival_s < config.silence_s:
        _check_alive(node)
        player.check()
        progress.update(task, completed=min(recorder.count('depth'), source.n_frames))
        if recorder.count('cloud') >= source.n_frames and recorder.hardware:
            break
        sleep(_POLL_S)


def _check_alive(child: Child) -> None:
    child.check()
    if child.exit_code is not None:
        raise DemoError(f'{child.name} ended too early:\n{child.log_tail()}')


def _ros_arguments(parameters: Mapping[str, object]) -> list[str]:
    """Command line of a node with parameters; JSON is YAML, which ROS parses values as."""
    arguments = ['--ros-args', *_NO_LOG_FILES]
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={json.dumps(value)}']
    return arguments


@contextlib.contextmanager
def _ros_context() -> Iterator[Context]:
    context = Context()
    rclpy.init(
        args=['--ros-args', *_NO_LOG_FILES],
        context=context,
        # Ctrl-C shall raise KeyboardInterrupt here, which ends the children in order.
        signal_handler_options=SignalHandlerOptions.NO,
    )
    try:
        yield context
    finally:
        rclpy.shutdown(context=context)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """A graph apart from others on this machine, with room for large messages in shared memory."""
    profile = str(_fastdds_profile())
    changes = {
        'ROS_DOMAIN_ID': str(_free_domain()),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        # The name before and since Fast DDS 3.
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,
        'FASTDDS_DEFAULT_PROFILES_FILE': profile,
        **ENVIRONMENT,
    }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_domain() -> int:
    """A domain without a participant on this machine: nobody holds the first one's port.

    DDSI-RTPS 2.2, 9.6.1.1: unicast discovery of participant 0 is at 7400 + 250 * domain + 10.
    """
    # Two demonstrations that start at the same moment begin to look at different places.
    offset = os.getpid() % len(_DOMAINS)
    for domain in (*_DOMAINS[offset:], *_DOMAINS[:offset]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise DemoError(f'every ROS domain from {_DOMAINS[0]} to {_DOMAINS[-1]} is in use')


def _fastdds_profile() -> Path:
    """config/fastdds.xml of a checkout, of a colcon install space or of a pip installation."""
    prefixes = [sys.prefix, *os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)]
    folders = [Path(__file__).resolve().parents[2]]
    folders += [Path(prefix) / 'share' / 'dmd3c_ros' for prefix in prefixes if prefix]
    for folder in folders:
        if (folder / 'config' / 'fastdds.xml').is_file():
            return folder / 'config' / 'fastdds.xml'
    raise DemoError(f'config/fastdds.xml is in none of {", ".join(map(str, folders))}')


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the blocks, and so end the children, as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
