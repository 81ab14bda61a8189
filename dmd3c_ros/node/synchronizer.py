"""The synchronizer of the node's inputs."""

from __future__ import annotations

from typing import Any

from message_filters import ApproximateTimeSynchronizer
from rclpy.time import Time


class Synchronizer(ApproximateTimeSynchronizer):
    """ApproximateTimeSynchronizer whose full queues give up what came first.

    The original gives up what is stamped first. When the clock jumps back (a bag starts anew), or
    after some stamps of the far future, that is each newcomer: a queue that holds messages
    without partners, such as every third image of a quick camera, would take none any more.
    """

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        """Take a message of one input; its callbacks get the set that it completes."""
        with self.lock:
            my_queue.pop(Time.from_msg(msg.header.stamp).nanoseconds, None)
            while len(my_queue) >= self.queue_size:
                del my_queue[next(iter(my_queue))]
        super().add(msg, my_queue, my_queue_index)
