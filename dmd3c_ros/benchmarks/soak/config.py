"""Settings and results of a soak test."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

_MARKS = (0.1, 0.5, 1.0)
_MB = 1e6


@dataclass(frozen=True)
class SoakConfig:
    """Faults are fractions of the frames before which they happen.

    frames: good frames, each of which must be answered. seed: of the order of faults. model:
    what completes. patience_s: longest wait for an answer. garbage: sets, or single messages, with
    absurd fields. stamps: messages with absurd stamps. jump: the clock goes back, to the start or
    anywhere. restart: the publishers go and come, as reliable or as best-effort ones. burst: sets
    faster than they can be completed. slow: a subscriber comes that never takes its messages.
    """

    frames: int = 20_000
    seed: int = 0
    model: str = 'nearest'
    patience_s: float = 20.0
    garbage: float = 0.1
    stamps: float = 0.02
    jump: float = 0.01
    restart: float = 0.002
    burst: float = 0.01
    slow: float = 0.002

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f'frames: expected 1 or more, got {self.frames}')


class Sample(NamedTuple):
    """The node's process after some frames: resident memory, threads, open files."""

    frames: int
    resident_bytes: int
    threads: int
    files: int


@dataclass
class SoakReport:
    """answered: valid frames that were answered with the right depth. resent: those that a
    best-effort publisher had to send again. faults: number of each kind.
    """

    frames: int = 0
    answered: int = 0
    resent: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def at(self, fraction: float) -> Sample:
        """The process after this fraction of the frames."""
        return min(self.samples, key=lambda sample: abs(sample.frames - fraction * self.frames))

    def growth_bytes(self) -> int:
        """Memory at the end less that after the tenth part, when every path has been gone."""
        return self.at(1.0).resident_bytes - self.at(_MARKS[0]).resident_bytes

    def to_dict(self) -> dict:
        """Everything as plain values."""
        return asdict(self) | {'samples': [sample._asdict() for sample in self.samples]}

    def to_text(self) -> str:
        """The report for a person."""
        faults = ', '.join(f'{count} {kind}' for kind, count in sorted(self.faults.items()))
        lines = [
            f'{self.answered} of {self.frames} frames answered, {self.resent} sent again, in '
            f'{self.seconds:.0f} s',
            f'faults: {faults}',
        ]
        for fraction in _MARKS:
            sample = self.at(fraction)
            lines.append(
                f'after {sample.frames} frames: {sample.resident_bytes / _MB:.1f} MB, '
                f'{sample.threads} threads, {sample.files} files'
            )
        return '\n'.join(lines)
