"""What the node tells about itself: counts, latencies, and each trouble once in a while."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

_KEPT_LATENCIES = 1000
_REPEAT_S = 5.0


class Counts:
    """Frames since the start, and the latencies of the last ones.

    frames_in: synchronized sets. frames_out: completed and published. dropped: replaced by a
    newer set before their turn. failed: could not be used. no_transform: those of them for which
    TF had no transform. unwanted: nobody subscribed.
    Latency runs from the arrival of the later input to the publication of the last output, s.
    """

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.dropped = self.failed = self.unwanted = 0
        self.no_transform = 0
        self._latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def published(self, latency_s: float) -> None:
        """Count a frame that went out."""
        self.frames_out += 1
        self._latencies.append(latency_s)

    def as_dict(self) -> dict[str, float]:
        """All counts, and latency_p50_ms and latency_p99_ms once there are any."""
        numbers = {
            name: getattr(self, name)
            for name in (
                'frames_in',
                'frames_out',
                'dropped',
                'failed',
                'no_transform',
                'unwanted',
            )
        }
        if self._latencies:
            p50, p99 = np.percentile(list(self._latencies), [50, 99]) * 1e3
            numbers |= {'latency_p50_ms': float(p50), 'latency_p99_ms': float(p99)}
        return numbers


class Reporter:
    """Turns counts into a line of the log and a diagnostic status, each covering one period."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._before = counts.as_dict()

    def status(self, name: str, hardware_id: str, trouble: str | None) -> DiagnosticStatus:
        """The period since the last call; `trouble` makes it a warning."""
        now = self._counts.as_dict()
        fresh = {key: now[key] - self._before[key] for key in self._before if 'latency' not in key}
        self._before = now
        status = DiagnosticStatus(name=name, hardware_id=hardware_id)
        bad = trouble or fresh['failed']
        status.level = DiagnosticStatus.WARN if bad else DiagnosticStatus.OK
        status.message = trouble or _sentence(fresh, now)
        status.values = [KeyValue(key=key, value=f'{value:.6g}') for key, value in now.items()]
        return status


def _sentence(fresh: dict[str, float], now: dict[str, float]) -> str:
    parts = [f'{fresh["frames_in"]} in, {fresh["frames_out"]} out, {fresh["dropped"]} dropped']
    parts += [f'{fresh[key]} {key}' for key in ('failed', 'unwanted') if fresh[key]]
    text = ', '.join(parts)
    if fresh['frames_out'] and 'latency_p50_ms' in now:
        text += f'; latency {now["latency_p50_ms"]:.0f} ms, p99 {now["latency_p99_ms"]:.0f} ms'
    return text


class Throttle:
    """Passes a message on at once and then, while it repeats, every few seconds with a count.

    Messages that differ in their numbers alone count as the same.
    """

    def __init__(self, log: Callable[[str], None], period_s: float = _REPEAT_S) -> None:
        self._log = log
        self._period_s = period_s
        self._kinds: dict[str, tuple[float, int]] = {}

    def __call__(self, text: str) -> None:
        kind = re.sub(r'\d+', '#', text)
        now = time.monotonic()
        last, held_back = self._kinds.get(kind, (-self._period_s, 0))
        if now - last < self._period_s:
            self._kinds[kind] = (last, held_back + 1)
            return
        self._kinds[kind] = (now, 0)
        self._log(f'{text} ({held_back + 1} times)' if held_back else text)
