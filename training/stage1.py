"""Stage 1, pre-training: ``python -m training.stage1 --config config/stage1_bpnet.yaml``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m training.stage1 --config FILE``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from .config import load
from .engine import TrainConfig, train


def main(arguments: Sequence[str] | None = None, description: str | None = __doc__) -> None:
    """Command line of both stages."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--config', required=True, help='YAML file of a TrainConfig')
    parser.add_argument(
        '--set', nargs='*', default=[], metavar='KEY=VALUE', help='change settings'
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    # Lightning's notices repeat at every checkpoint.
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    try:
        train(load(TrainConfig, args.config, args.set))
    except (ValueError, OSError) as error:
        raise SystemExit(f'{parser.prog}: {error}') from error


if __name__ == '__main__':
    main()
