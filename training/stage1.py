"""Stage 1, pre-training: ``python -m training.stage1 --config FILE``.

``training/config/stage1_bpnet.yaml`` and its neighbours are such files. On several GPUs or
machines: ``torchrun --nproc-per-node 4 -m training.stage1 --config FILE``.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.command_line import run_command
from training.engine.check import check
from training.engine.run import train
from training.engine.settings import TrainConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_command('stage1', TrainConfig, train, arguments, __doc__, check)


if __name__ == '__main__':
    main()
