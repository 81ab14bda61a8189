"""Stage 2, metric fine-tuning: ``python -m training.stage2 --config FILE``.

``training/config/stage2_bpnet.yaml`` and its neighbours are examples. The engine is that of
stage 1; what differs (labelled data, the recipe of losses, the weights to begin from, 300K
iterations) is in the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.command_line import run_command
from training.engine.check import check
from training.engine.run import train
from training.engine.settings import TrainConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_command('stage2', TrainConfig, train, arguments, __doc__, check)


if __name__ == '__main__':
    main()
