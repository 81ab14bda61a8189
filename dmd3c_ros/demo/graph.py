"""A ROS graph of one's own: its environment, its context, the command lines of its nodes."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions

from dmd3c_ros.node.threads import ENVIRONMENT

from .config import DemoError

# The output of each process is kept anyway.
_NO_LOG_FILES = ('--disable-external-lib-logs',)
# Above these Linux hands ports out to clients (ROS 2, "The ROS_DOMAIN_ID").
_DOMAINS = range(1, 102)


def ros_arguments(parameters: Mapping[str, object]) -> list[str]:
    """Command line of a node with parameters; JSON is YAML, which ROS parses values as."""
    arguments = ['--ros-args', *_NO_LOG_FILES]
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={json.dumps(value)}']
    return arguments


@contextlib.contextmanager
def ros_context() -> Iterator[Context]:
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
def own_graph() -> Iterator[None]:
    """A ROS graph isolated from others on this machine, with shared memory for large messages."""
    profile = str(_fastdds_profile())
    changes = {
        'ROS_DOMAIN_ID': str(free_domain()),
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


def free_domain() -> int:
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
    raise DemoError(f'expected config/fastdds.xml in one of {", ".join(map(str, folders))}')


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the blocks, and so end the children, as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
