"""A node of this process whose callbacks run in the background."""

from __future__ import annotations

import contextlib
import threading

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class SpinningNode:
    """The node `_node`, whose callbacks run in a separate thread within the block."""

    def __init__(self, name: str, context: Context) -> None:
        self._node = Node(name, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def __enter__(self) -> SpinningNode:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
