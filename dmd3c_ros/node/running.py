"""The main function that all nodes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
import rclpy.logging
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

NodeT = TypeVar('NodeT', bound=Node)


def run(
    name: str,
    make: Callable[[], NodeT],
    spin: Callable[[NodeT], int],
    args: Sequence[str] | None = None,
) -> int:
    """Make a node, spin it until it is done or interrupted, close it; returns the exit status.

    What it cannot start with (a parameter, a missing file or package) is logged in one line.
    """
    rclpy.init(args=args)
    node = None
    try:
        try:
            node = make()
        except (ValueError, OSError, ImportError) as error:
            rclpy.logging.get_logger(name).fatal(str(error))
            return 1
        return spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except RuntimeError:
        # A signal that comes while rclpy prepares to wait ends the context under its hands.
        if rclpy.ok():
            raise
        return 0
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
