"""Unreadable samples: reported in one line, or skipped if a run is configured so.

An exception in a loader's process reaches the trainer as text with a traceback inside, whatever
it was. So an unreadable sample is passed on as a value, and raised where it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import Dataset, default_collate

log = logging.getLogger(__name__)

SUBSTITUTES = 10
"""Samples tried in place of one; where all fail, more than a few files are damaged."""
_STRIDE = 2**36  # beyond the numbers of any run, so that no sample comes twice because of it


class Unreadable(NamedTuple):
    """A sample that does not read, and why."""

    reason: str


class Guarded(Dataset):
    """Samples by number, and ``Unreadable`` for one that raises OSError or ValueError.

    skip: take another sample in its place, the same one in every run, and say so in the log.
    """

    def __init__(self, samples: Dataset, skip: bool = False) -> None:
        self._samples, self._skip = samples, skip

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> dict[str, Tensor] | Unreadable:
        for attempt in range(SUBSTITUTES + 1 if self._skip else 1):
            try:
                return self._samples[number + attempt * _STRIDE]
            except (OSError, ValueError) as error:
                reason = str(error)
                if self._skip:
                    log.warning('sample %d skipped: %s', number, reason)
        return Unreadable(reason)


def collate(samples: Sequence[dict[str, Tensor] | Unreadable]) -> Any:
    """A batch, or the first sample of it that does not read."""
    bad = next((sample for sample in samples if isinstance(sample, Unreadable)), None)
    return default_collate(samples) if bad is None else bad


def checked(batch: Any) -> Any:
    """The batch. Raises ValueError for one that does not read."""
    if isinstance(batch, Unreadable):
        raise ValueError(batch.reason)
    return batch
