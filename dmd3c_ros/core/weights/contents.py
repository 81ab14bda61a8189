"""Contents of a checkpoint file, whatever program wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Contents of a checkpoint file.

    state: parameters and buffers by name, on the CPU, free of wrappers and prefixes.
    wrappers: the keys and prefixes that were around them, outermost first.
    facts: other entries of the file, such as ``epoch``, including optimizer states and the like.
    """

    path: Path
    state: dict[str, Tensor]
    wrappers: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
