"""Frames in time: a smaller scale while the machine is too slow, and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

# The scale falls by a quarter of an octave a level, as the completer's own choice does, and the
# work by its square at most.
_LEVEL = 2.0**-0.25
_MOST_LEVELS = 8
# Number of frames that decide: few to reduce the scale, more to raise it again.
_FEW, _MANY, _MOST = 5, 20, 320
# The next ones have waited for a frame of the scale before.
_IGNORED = 3
# Fraction of the time that frames may take at the scale that is chosen.
_AIM = 0.85


class Pace:
    """Chooses the largest scale at which frames come within a time.

    limit: of the next frame's scale, 1 while all is well. A scale that proved too large is tried
    again after twice as many frames each time, so that the size of the images does not go to and
    fro.
    """

    def __init__(self, ready: Callable[[float], bool] = lambda limit: True) -> None:
        """ready: whether frames run at this limit of their scale without delay, or else have it
        prepared; a larger scale waits for that.
        """
        self._ready = ready
        self._reset()

    def _reset(self) -> None:
        self.limit = 1.0
        self._level, self._ignored = 0, 0
        self._patience = _MANY
        self._raised = False
        self._recent: deque[float] = deque(maxlen=_MOST)

    def finished(self, latency_s: float, max_latency_s: float) -> None:
        """A frame took `latency_s` from the arrival of its inputs on; 0 for no limit."""
        if max_latency_s <= 0:
            self._reset()
            return
        if self._ignored:
            self._ignored -= 1
            return
        self._recent.append(latency_s)
        recent = list(self._recent)
        if len(recent) >= _FEW and np.median(recent[-_FEW:]) > max_latency_s:
            self._fall(float(np.median(recent[-_FEW:])) / max_latency_s)
        elif len(recent) >= self._patience and self._level:
            usual = np.percentile(recent[-self._patience :], 90)
            larger = self._level - 1
            if usual < _AIM * max_latency_s * _LEVEL**2 and self._ready(_limit(larger)):
                self._go_to(larger)
                self._raised = True
        elif len(recent) >= self._patience:
            # All is well at the full scale.
            self._patience, self._raised = _MANY, False

    def _fall(self, excess: float) -> None:
        if self._raised:
            self._patience = min(2 * self._patience, _MOST)
        levels = math.ceil(math.log(excess / _AIM) / -math.log(_LEVEL**2) - 1e-9)
        self._go_to(self._level + max(1, levels))
        self._raised = False

    def _go_to(self, level: int) -> None:
        self._level = min(level, _MOST_LEVELS)
        self.limit = _limit(self._level)
        self._ignored = _IGNORED
        self._recent.clear()


def _limit(level: int) -> float:
    return 2.0 ** (-level / 4)
