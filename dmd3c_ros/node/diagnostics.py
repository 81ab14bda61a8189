"""What the node reports: counts, latencies, and each problem once in a while."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from dmd3c_ros.core.completer import DepthCompleter

from .inputs import InputReport

_KEPT_TIMES = 1000
_KEPT_CAUSES = 20
_REPEAT_S = 5.0
_MOST_KINDS = 100


class Counts:
    """Frames since the start, and the latencies of the last ones.

    frames_in: synchronized sets. frames_out: completed and published. dropped: replaced by a
    newer set before their turn. failed: could not be used; `causes` counts them by reason and
    `last_cause` is the newest. no_transform: those of them for which TF had no transform.
    unwanted: without a subscriber. steps: durations of the processing steps of a frame.
    Latency runs from the arrival of the later input to the publication of the last output, s.
    """

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.dropped = self.failed = self.unwanted = 0
        self.no_transform = 0
        self.causes: Counter[str] = Counter()
        self.last_cause = ''
        self.steps = Steps()
        self._latencies: deque[float] = deque(maxlen=_KEPT_TIMES)

    def published(self, latency_s: float) -> None:
        """Count a frame that went out."""
        self.frames_out += 1
        self._latencies.append(latency_s)

    def fail(self, reason: str) -> None:
        """Count a frame that could not be used; reasons that differ in numbers alone are one."""
        self.failed += 1
        self.last_cause = reason
        kind = _kind(reason)
        if kind in self.causes or len(self.causes) < _KEPT_CAUSES:
            self.causes[kind] += 1

    def as_dict(self) -> dict[str, float]:
        """All counts, and latency_p50_ms and latency_p99_ms once there are any."""
        numbers = {
            name: getattr(self, name)
            for name in (
                *('frames_in', 'frames_out', 'dropped'),
                *('failed', 'no_transform', 'unwanted'),
            )
        }
        if self._latencies:
            p50, p99 = np.percentile(list(self._latencies), [50, 99]) * 1e3
            numbers |= {'latency_p50_ms': float(p50), 'latency_p99_ms': float(p99)}
        return numbers


class Steps:
    """How long each step of a frame takes, over the last frames."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}
        self._since = 0.0

    def begin(self, waiting_since: float) -> None:
        """A frame has its turn, after it waited since a time of time.monotonic, s."""
        self._since = waiting_since
        self.end('waiting')

    def end(self, step: str) -> None:
        """A step is done, and the next one begins."""
        now = time.monotonic()
        self._times.setdefault(step, deque(maxlen=_KEPT_TIMES)).append(now - self._since)
        self._since = now

    def percentiles_ms(self) -> dict[str, float]:
        """Median and 99th percentile of each step, in the order of the steps."""
        found = {}
        for step, times in list(self._times.items()):
            p50, p99 = np.percentile(list(times), [50, 99]) * 1e3
            found |= {f'{step}_p50_ms': float(p50), f'{step}_p99_ms': float(p99)}
        return found


class Reporter:
    """Turns counts into a diagnostic status and a line for the log, each covering one period.

    line: the last period's counts and latency; reasons are logged when they arise. news: whether
    this differs, apart from the numbers, from all reports since the start or since the last
    trouble began.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self.line, self.news, self._troubled = '', False, False
        self._reported: set[tuple[bool, ...]] = set()
        self._before = counts.as_dict()
        self._last = time.monotonic()

    def status(
        self,
        name: str,
        hardware_id: str,
        trouble: str | None,
        details: Mapping[str, object] | None = None,
    ) -> DiagnosticStatus:
        """The period since the last call; `trouble` makes it a warning, no frame but failed ones
        an error. details: what else is known, into the values.
        """
        now, counts = self._counts.as_dict(), self._counts
        fresh = {key: now[key] - self._before[key] for key in self._before if 'latency' not in key}
        period = max(time.monotonic() - self._last, 1e-3)
        self._before, self._last = now, self._last + period
        status = DiagnosticStatus(name=name, hardware_id=hardware_id, level=DiagnosticStatus.OK)
        if trouble or fresh['failed']:
            status.level = DiagnosticStatus.WARN
        if fresh['failed'] and not fresh['frames_out']:
            status.level = DiagnosticStatus.ERROR
            trouble = trouble or f'no frame completed: {counts.last_cause}'
        self.line = _sentence(fresh, now)
        if trouble and not self._troubled:
            self._reported.clear()
        self._troubled = bool(trouble)
        happens = (self._troubled, *(number > 0 for number in fresh.values()))
        self.news = happens not in self._reported
        self._reported.add(happens)
        status.message = trouble or self.line
        values = {
            **now,
            'rate_out_hz': fresh['frames_out'] / period,
            **(details or {}),
            **counts.steps.percentiles_ms(),
            **{f'failed: {cause}': number for cause, number in counts.causes.copy().items()},
        }
        status.values = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
        return status


def details_of(inputs: InputReport, completer: DepthCompleter) -> dict[str, object]:
    """Values of the status: inputs, their time differences, and the model in use."""
    details: dict[str, object] = {
        'inputs': 'not subscribed: no output has a subscriber' if inputs.idle else 'subscribed'
    }
    details |= {f'rate_{topic}_hz': rate for topic, rate in inputs.rates_hz.items()}
    if inputs.residuals_s:
        residuals_ms = np.array(inputs.residuals_s) * 1e3
        details['pairing_residual_median_ms'] = float(np.median(residuals_ms))
        details['pairing_residual_largest_ms'] = float(np.abs(residuals_ms).max())
    return details | {
        'model': completer.name,
        'device': completer.device,
        'precision': completer.precision,
        'backend': completer.backend,
        'inference_scale': completer.config.inference_scale,
    }


def _text(value: object) -> str:
    return f'{value:.6g}' if isinstance(value, (int, float)) else str(value)


def _kind(text: str) -> str:
    """The text without its numbers."""
    return re.sub(r'\d+(\.\d+)?', '#', text)


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
        kind = _kind(text)
        now = time.monotonic()
        last, held_back = self._kinds.get(kind, (-self._period_s, 0))
        if now - last < self._period_s:
            self._kinds[kind] = (last, held_back + 1)
            return
        if len(self._kinds) >= _MOST_KINDS:
            # Some texts quote what came: they must not pile up.
            self._kinds = {k: v for k, v in self._kinds.items() if now - v[0] < self._period_s}
        self._kinds[kind] = (now, 0)
        self._log(f'{text} ({held_back + 1} times)' if held_back else text)
