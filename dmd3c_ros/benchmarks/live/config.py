"""Settings and results of a live benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STEPS = ('waiting', 'decode', 'rectify', 'project', 'filter', 'network', 'publish')


@dataclass(frozen=True)
class LiveConfig:
    """How the node is fed.

    rate_hz: sets of an image, its CameraInfo and a sweep per second. frames: measured sets per
    turn, after some warm-up sets until the node answers in time. size: height and width of the
    image, pixels. lines, columns: of the LiDAR, all around. load: other processes that load the
    CPU at normal priority. turns: number of runs of every case, interleaved, so that other load
    on the machine affects all of them.
    """

    rate_hz: float = 10.0
    frames: int = 100
    size: tuple[int, int] = (352, 1216)
    lines: int = 64
    columns: int = 1800
    load: int = 0
    turns: int = 1

    def __post_init__(self) -> None:
        for name in ('rate_hz', 'frames', 'lines', 'columns', 'turns'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: expected more than 0, got {getattr(self, name)}')
        if self.load < 0:
            raise ValueError(f'load: expected 0 or more, got {self.load}')
        if min(self.size) < 32:
            raise ValueError(f'size: expected 32 pixels or more a side; got {self.size}')


@dataclass(frozen=True)
class LiveCase:
    """A node: its parameters, and the checkout that it is of, None for this one."""

    parameters: dict[str, Any]
    tree: Path | None = None

    @property
    def label(self) -> str:
        """For a table."""
        parts = [f'{key} {value}' for key, value in self.parameters.items()]
        return ', '.join([*parts, *([str(self.tree)] if self.tree else [])]) or 'as it is'


@dataclass
class LiveResult:
    """Results of a case; times in ms.

    sent: sets. depth_ms, cloud_ms: from before a set is handed to DDS until its depth and cloud
    are received. lost: numbers of the sets that either did not come of, each in its turn.
    busy_ms: CPU time of the node per set sent. steps: in the node, '<step>_p50_ms' and
    '<step>_p99_ms' of each.
    model: what completed.
    """

    label: str
    model: str = ''
    sent: int = 0
    depth_ms: list[float] = field(default_factory=list)
    cloud_ms: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Sets whose depth and cloud came back."""
        return self.sent - len(self.lost)

    @property
    def dropped(self) -> int:
        """Sets without an answer."""
        return len(self.lost)

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 and maximum of the latency of depth and cloud; NaN without any."""
        found = {}
        for name in ('depth', 'cloud'):
            times = getattr(self, f'{name}_ms') or [float('nan')]
            for percent in (50, 90, 99, 100):
                found[f'{name}_p{percent}_ms'] = float(np.percentile(times, percent))
        return found

    def step(self, name: str) -> float:
        """Median over the turns of a value of `steps`, NaN where no turn has it."""
        values = [turn[name] for turn in self.steps if name in turn]
        return float(np.median(values)) if values else float('nan')

    def to_dict(self) -> dict:
        """Everything as plain values."""
        return {
            **asdict(self),
            **self.percentiles(),
            'answered': self.answered,
            'dropped': self.dropped,
        }
