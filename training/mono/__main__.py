"""Distil a monocular network: ``python -m training.mono --config FILE``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m training.mono --config FILE``. The
result is ``weights.pth``, the averaged weights, which stage 1 (``training.generate``), two-stage
completion and ``dmd3c evaluate-mono`` take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.command_line import run_command
from training.engine.run import train

from .module import Distillation
from .settings import MonoConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""

    def act(config: MonoConfig) -> Path:
        return train(config, kind=Distillation)

    run_command('mono', MonoConfig, act, arguments, __doc__)


if __name__ == '__main__':
    main()
