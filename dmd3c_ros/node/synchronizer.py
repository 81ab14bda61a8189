"""The synchronizer of the node's inputs."""

from __future__ import annotations

from typing import Any

from message_filters import ApproximateTimeSynchronizer
from rclpy.logging import get_logger
from rclpy.time import Time

_REPEAT_S = 5.0


class Synchronizer(ApproximateTimeSynchronizer):
    """ApproximateTimeSynchronizer whose full queues drop what arrived first.

    The original drops the oldest stamp. When the clock jumps back (a bag is restarted), or after
    stamps in the far future, that is always the new message: a queue full of messages without
    partners, such as every third image of a fast camera, would accept no more.
    """

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        """Take a message of one input; the callbacks get the set that it completes.

        A message stamped before 1970, which no ROS clock shows, is dropped with a warning.
        """
        if msg.header.stamp.sec < 0:
            get_logger('synchronizer').warning(
                f'{type(msg).__name__} dropped: expected a stamp from 1970 on, '
                f'got {msg.header.stamp.sec} s',
                throttle_duration_sec=_REPEAT_S,
            )
            return
        with self.lock:
            my_queue.pop(Time.from_msg(msg.header.stamp).nanoseconds, None)
            while len(my_queue) >= self.queue_size:
                del my_queue[next(iter(my_queue))]
        super().add(msg, my_queue, my_queue_index)
