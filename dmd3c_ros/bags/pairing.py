"""Which messages belong together: the node's synchronizer, for recorded messages.

Decides as the node's does, `dmd3c_ros.node.synchronizer`, when the messages come in the order in
which they were recorded.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

T = TypeVar('T')
_BAR = 40


class Synchronizer(Generic[T]):
    """Takes messages of several inputs one by one and returns sets with one of each.

    slop_s: maximum difference of stamps within a set, s. queue_size: messages of each input that
    wait for their partners; if there are more, the earliest is dropped.
    """

    def __init__(self, inputs: int, queue_size: int, slop_s: float) -> None:
        self._queues: list[dict[int, T]] = [{} for _ in range(inputs)]
        self._queue_size = queue_size
        self._slop_ns = round(slop_s * 1e9)

    def add(self, index: int, stamp_ns: int, message: T) -> tuple[T, ...] | None:
        """The set that this message of input `index` completes, or None."""
        queue = self._queues[index]
        queue.pop(stamp_ns, None)
        queue[stamp_ns] = message
        if len(queue) > self._queue_size:
            del queue[next(iter(queue))]
        candidates = [
            [stamp_ns] if i == index else self._near(other, stamp_ns)
            for i, other in enumerate(self._queues)
        ]
        for stamps in itertools.product(*candidates):
            if max(stamps) - min(stamps) < self._slop_ns:
                return tuple(q.pop(s) for q, s in zip(self._queues, stamps, strict=True))
        return None

    def _near(self, queue: dict[int, T], stamp_ns: int) -> list[int]:
        near = [stamp for stamp in queue if abs(stamp - stamp_ns) <= self._slop_ns]
        return sorted(near, key=lambda stamp: abs(stamp - stamp_ns))


@dataclass
class PairingReport:
    """What happened to the messages of each input.

    names: the inputs' topics, that of the images first. stamps: header stamps of each input, ns.
    gaps_s: stamp of sweep minus stamp of image, for each set. lidar_clock_offset_s: offset
    already added to the stamps of the sweeps. completed: frames written.
    bad: messages that cannot be parsed, by reason. drops: frames that were paired but not written,
    by reason.
    """

    names: tuple[str, ...]
    slop_s: float
    stamps: list[list[int]] = field(default_factory=list)
    paired: list[set[int]] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    lidar_clock_offset_s: float = 0.0
    completed: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.stamps = [[] for _ in self.names]
        self.paired = [set() for _ in self.names]

    def add_set(self, stamps_ns: Sequence[int]) -> None:
        """Count a set, by the stamps of its messages."""
        for known, stamp in zip(self.paired, stamps_ns, strict=True):
            known.add(stamp)
        self.gaps_s.append((stamps_ns[-1] - stamps_ns[0]) * 1e-9)

    @property
    def sets(self) -> int:
        """How many sets there were."""
        return len(self.gaps_s)

    def unpaired(self) -> Counter[str]:
        """Images that found no partners, by reason."""
        reasons: Counter[str] = Counter()
        others = [
            (name, sorted(s)) for name, s in zip(self.names[1:], self.stamps[1:], strict=True)
        ]
        for stamp in self.stamps[0]:
            if stamp not in self.paired[0]:
                reasons[self._reason(stamp, others)] += 1
        return reasons

    def _reason(self, stamp: int, others: list[tuple[str, list[int]]]) -> str:
        for name, stamps in others:
            gap = _nearest_gap_s(stamp, stamps)
            if gap is None:
                return f'nothing on {name}'
            if abs(gap) >= self.slop_s:
                return f'no message on {name} within {self.slop_s:g} s'
        return 'another image used its partner, or the queue overflowed'

    def to_dict(self) -> dict:
        """Everything as plain values, for a JSON file."""
        counts, edges = histogram(self.gaps_s)
        far_counts, far_edges = histogram(self.nearest_s())
        return {
            'slop_s': self.slop_s,
            'inputs': {
                name: {'messages': len(stamps), 'paired': len(paired)}
                for name, stamps, paired in zip(self.names, self.stamps, self.paired, strict=True)
            },
            'sets': len(self.gaps_s),
            'completed': self.completed,
            'bad_messages': dict(self.bad),
            'unpaired_images': dict(self.unpaired()),
            'dropped_frames': dict(self.drops),
            'gap_histogram': {'edges_s': edges.tolist(), 'counts': counts.tolist()},
            'nearest_histogram': {'edges_s': far_edges.tolist(), 'counts': far_counts.tolist()},
        }

    def to_text(self) -> str:
        """The report for a person."""
        lines = [f'{len(self.gaps_s)} sets, {self.completed} frames completed']
        for name, stamps, paired in zip(self.names, self.stamps, self.paired, strict=True):
            lines.append(f'  {name}: {len(paired)} of {len(stamps)} messages paired')
        for reasons, what in (
            (self.bad, 'messages skipped'),
            (self.unpaired(), 'images unpaired'),
            (self.drops, 'frames dropped'),
        ):
            lines += [f'  {number} {what}: {reason}' for reason, number in reasons.most_common()]
        if self.gaps_s:
            lines += bars('stamp of sweep minus stamp of image', self.gaps_s)
        nearest = self.nearest_s()
        if nearest:
            what = 'stamp of closest sweep minus stamp of image, unpaired images'
            lines += bars(what, nearest)
            lines.append(f'  {self._advice(nearest)}')
        return '\n'.join(lines)

    def nearest_s(self) -> list[float]:
        """Stamp of the closest sweep minus that of the image, for each unpaired image, s."""
        sweeps = sorted(self.stamps[-1])
        unpaired = [stamp for stamp in self.stamps[0] if stamp not in self.paired[0]]
        return [_nearest_gap_s(stamp, sweeps) for stamp in unpaired] if sweeps else []

    def _advice(self, nearest: list[float]) -> str:
        """Advice for unpaired images."""
        images, sweeps, offset = self.stamps[0], self.stamps[-1], self.lidar_clock_offset_s
        if min(images) > max(sweeps) or min(sweeps) > max(images):
            between = (min(sweeps) - min(images)) * 1e-9
            return (
                'the stamps of sweeps and images do not overlap: the clocks differ by about '
                f'{between:.3f} s; use one clock or --lidar-clock-offset '
                f'{offset - between:.3f}'
            )
        middle = float(np.median(nearest))
        if abs(middle) >= self.slop_s and np.ptp(np.percentile(nearest, [10, 90])) < self.slop_s:
            return (
                f'they are always {middle:.3f} s apart: if this is due to the clocks and not the '
                f'trigger, set --lidar-clock-offset {offset - middle:.3f}'
            )
        return 'a larger --sync-slop would pair them, with more motion in between'


def histogram(gaps_s: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of ten bins over the differences; of one where all are the same."""
    gaps = np.array(gaps_s)
    if not gaps.size:
        return np.zeros(0, int), np.zeros(0)
    if np.ptp(gaps) < 1e-6:
        return np.array([gaps.size]), np.array([gaps.min(), gaps.max()])
    return np.histogram(gaps, bins=10)


def bars(title: str, gaps_s: Sequence[float]) -> list[str]:
    """The histogram of differences as lines of text, in ms."""
    counts, edges = histogram(gaps_s)
    lines = [f'  {title}:']
    for number, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = '#' * -(-int(number) * _BAR // int(counts.max()))
        lines.append(f'  {low * 1e3:8.1f} to {high * 1e3:6.1f} ms {number:6d} {bar}')
    return lines


def _nearest_gap_s(stamp: int, stamps: list[int]) -> float | None:
    """From a stamp to the nearest of some that are sorted, s; None without any."""
    place = bisect_left(stamps, stamp)
    near = stamps[max(0, place - 1) : place + 1]
    return min((other - stamp for other in near), key=abs) * 1e-9 if near else None
