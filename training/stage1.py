"""Stage 1, pre-training: ``python -m training.stage1 --config config/stage1_bpnet.yaml``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m training.stage1 --config FILE``.
"""

from __future__ import annotations

from collections.abc import Sequence

from .command_line import run_command
from .engine import TrainConfig, train


def main(arguments: Sequence[str] | None = None, description: str | None = __doc__) -> None:
    """Command line of both stages."""
    run_command(TrainConfig, train, arguments, description)


if __name__ == '__main__':
    main()
