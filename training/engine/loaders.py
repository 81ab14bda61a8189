"""Which samples a process sees, from which step on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from training.data.guard import Guarded, checked, collate


class NumberSampler(Sampler):
    """Numbers of one process's samples from a step on, as long as the whole run."""

    def __init__(self, first_step: int, steps: int, batch: int, rank: int, world: int) -> None:
        self._first, self._steps, self._batch = first_step, steps, batch
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        # Of the whole run, however much is left: Lightning counts from its start.
        return self._steps * (self._batch // self._world)

    def __iter__(self) -> Iterator[int]:
        numbers = range(self._first * self._batch, self._steps * self._batch)
        return iter(numbers[self._rank :: self._world])


class SampleLoader(DataLoader):
    """A loader that ends at a sample that does not read with one line that names it."""

    def __init__(self, samples: Dataset, batch: int, skip: bool = False, **settings: Any) -> None:
        super().__init__(Guarded(samples, skip), batch, collate_fn=collate, **settings)

    def __iter__(self) -> Iterator[Any]:
        return map(checked, super().__iter__())


class ResumableLoader(SampleLoader):
    """A loader whose sampler already starts at the right place, as declared to Lightning."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The place is that of the trainer, which made the sampler."""
