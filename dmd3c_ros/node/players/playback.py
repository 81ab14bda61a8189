"""What every node that publishes a recording has: a thread that does so in time, and its clock."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock

from dmd3c_ros.messages.stamps import time_message
from dmd3c_ros.node.entrypoint import run
from dmd3c_ros.node.logs import show_package_log
from dmd3c_ros.node.parameters import Groups, Parameters

CLOCK = '/clock'
_CLOCK_DEPTH = 10
_CLOCK_PERIOD_S = 0.01
_POLL_S = 0.05
_REPORT_EVERY_S = 5.0
# Time for the last messages to leave before the process goes.
_LINGER_S = 1.0


PlaybackT = TypeVar('PlaybackT', bound='Playback')


class Playback(Node, ABC):
    """A node that plays something back from its own thread.

    groups: dataclasses of its parameters; settings: the one of them with `rate` (1 is the speed
    of the recording), `publish_clock` and `wait_for_subscribers`. Subclasses create the
    publishers and then start the thread. `failed` is True if playback was aborted.
    """

    def __init__(self, name: str, groups: Groups, settings: type) -> None:
        super().__init__(name)
        show_package_log(self.get_logger())
        self.parameters = Parameters(
            self,
            groups,
            lambda names, _: f'{", ".join(sorted(names))}: a player reads them when it starts',
        )
        self._settings: Any = self.parameters.get(settings)
        self._clock_output = (
            self.create_publisher(Clock, CLOCK, _CLOCK_DEPTH)
            if self._settings.publish_clock
            else None
        )
        self.failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='playback', daemon=True)

    @property
    def playing(self) -> bool:
        """False once playback is over."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End playback."""
        self._stop.set()
        self._thread.join()

    @abstractmethod
    def _play(self) -> None:
        """Publish everything in time; OSError and ValueError for what cannot be read."""

    def _begin(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._play()
        except (OSError, ValueError) as error:
            self.failed = True
            self.get_logger().error(f'playback stopped: {error}')
        except BaseException:
            # A signal may end the context while a message is being published.
            if self.context.ok():
                self.failed = True
                raise

    # ---------------------------------------------------------------- for `_play`

    def _wait_for_subscribers(self, outputs: Iterable[Publisher]) -> bool:
        """False when playback ends before there are enough."""
        outputs, reported = list(outputs), -_REPORT_EVERY_S
        expected = self._settings.wait_for_subscribers
        while not self._stop.is_set():
            missing = [o.topic_name for o in outputs if o.get_subscription_count() < expected]
            if not missing:
                return True
            if time.monotonic() - reported > _REPORT_EVERY_S:
                self.get_logger().info(f'waiting for subscribers of {", ".join(missing)}')
                reported = time.monotonic()
            self._stop.wait(_POLL_S)
        return False

    def _sleep_until(self, due: float, stamp_ns: int) -> bool:
        """Wait for a message's time, telling the time meanwhile; False when playback ends.

        due: of time.monotonic, s. stamp_ns: the recorded time then.
        """
        while not self._stop.is_set():
            left = due - time.monotonic()
            if self._clock_output is not None:
                now_ns = stamp_ns - max(0, int(left * self._settings.rate * 1e9))
                self._clock_output.publish(Clock(clock=time_message(now_ns)))
            if left <= 0:
                return True
            self._stop.wait(min(left, _CLOCK_PERIOD_S) if self._clock_output else left)
        return False

    def _linger(self) -> bool:
        """Let the last messages leave; False when playback ends meanwhile."""
        return not self._stop.wait(_LINGER_S)


def play(name: str, make: Callable[[], PlaybackT], args: Sequence[str] | None) -> int:
    """Run a player to the end, or until it is interrupted; returns 1 if it fails."""

    def spin(player: PlaybackT) -> int:
        while player.playing:
            rclpy.spin_once(player, timeout_sec=_POLL_S)
        return int(player.failed)

    return run(name, make, spin, args)
