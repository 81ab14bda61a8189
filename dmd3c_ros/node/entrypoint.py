"""The main function that all nodes share."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import rclpy
import rclpy.logging
from rclpy.exceptions import NameValidationException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

NodeT = TypeVar('NodeT', bound=Node)

# A thread inside a network cannot be interrupted; launch kills a node that takes 5 s to end.
_CLOSING_S = 3.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Errors at start that are logged in one line.
_START_ERRORS = (ValueError, OSError, ImportError, NameValidationException)
# Messages of rcl about arguments and parameter files -> remedies.
_REMEDIES = {
    'Sequence should be of same type': 'ROS does not accept lists that mix integers and floats: '
    'write [0.0, 0.5] instead of [0, 0.5]',
    'Cannot have a value before ros__parameters': 'expected ros__parameters (with two '
    'underscores) below the node name, and the parameters below that',
    'Sequences cannot be key': 'a parameter cannot be a list of lists: '
    'write a matrix as one list of numbers, row by row',
    'No value at line': "a parameter has no value: remove it, or write '' for an empty string",
    'Error parsing a event': 'this is not valid YAML: check indentation and quotes',
    'Error opening YAML file': 'check the path and the read permission',
    'parse log level': 'expected debug, info, warn, error or fatal',
    'parse remap rule': 'expected FROM:=TO, both valid ROS names',
    'ROS_DOMAIN_ID': 'expected an integer from 0 to 232 in the environment',
}


def run(
    name: str,
    make: Callable[[], NodeT],
    spin: Callable[[NodeT], int],
    args: Sequence[str] | None = None,
    closing_s: float | None = _CLOSING_S,
) -> int:
    """Make a node, spin it until it is done or interrupted, close it; returns the exit status.

    Errors at start (an argument, a parameter, a missing file or package) are logged in one
    line.
    Both signals interrupt it in every state, and are ignored from then on: the process must end
    after this. If closing takes longer than `closing_s`, because a frame or a model is still being
    processed, the process exits without it; None waits.
    """
    with _interruptible(closing_s) as closing:
        node = None
        try:
            try:
                rclpy.init(args=args)
            except RuntimeError as error:
                return _refuse(name, _explained(error))
            try:
                node = make()
            except _START_ERRORS as error:
                return _refuse(name, str(error))
            return spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            return 0
        except RuntimeError:
            # A signal that comes while rclpy prepares to wait ends the context under its hands.
            if rclpy.ok():
                raise
            return 0
        finally:
            with closing():
                if node is not None:
                    node.close()
                    node.destroy_node()
                rclpy.try_shutdown()


@contextmanager
def _interruptible(
    closing_s: float | None,
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Makes the first of both signals a KeyboardInterrupt, and gives the context to close in.

    Launch and the terminal both send a signal, and the second one would break off the closing.
    """
    # Not an Event: a handler that interrupts another one, or `closing`, would block at its lock.
    ending = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    @contextmanager
    def closing() -> Iterator[None]:
        nonlocal ending
        ending = True
        status = 0 if sys.exc_info()[0] is None else 1
        patience = threading.Timer(closing_s or 0, _leave, (status,))
        patience.daemon = True
        if closing_s is not None:
            patience.start()
        try:
            yield
        finally:
            patience.cancel()

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield closing
    finally:
        # Python drops its own handlers before the process is gone, but not this one.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _refuse(name: str, reason: str) -> int:
    rclpy.logging.get_logger(name).fatal(reason)
    return 1


def _explained(error: RuntimeError) -> str:
    """The message of rcl without its source lines, and a remedy."""
    # The exception for unknown ROS arguments is private, and only holds their list.
    if type(error).__name__ == 'UnknownROSArgsError':
        return f'unknown ROS arguments: {error}; put your own arguments before --ros-args'
    text = re.sub(r', at \S+:\d+', '', str(error))
    hints = [hint for words, hint in _REMEDIES.items() if words in text]
    return '; '.join([text, *hints[:1]])


def _leave(status: int) -> None:
    # Not by a logger: what hangs may hold its lock.
    os.write(2, b'closing takes too long: the process ends without waiting for its threads\n')
    os._exit(status)
