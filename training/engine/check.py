"""A dry run: all data are read and a few iterations are made, before days are spent."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from training.engine.module import Training
from training.engine.settings import TrainConfig

log = logging.getLogger(__name__)

_ITERATIONS = 3
_NAMED_AT_MOST = 5
# Network, average and two moments of AdamW; one such file is written while the last one is there.
# Beside them lie weights.pth and best.pth.
_COPIES = 2 * 4 + 2


class Estimate(NamedTuple):
    """samples: read; seconds: of one iteration here; days: of the run at this rate; gigabytes: of
    its checkpoints."""

    samples: int
    seconds: float
    days: float
    gigabytes: float


def check(config: TrainConfig) -> Estimate:
    """Read all data of a run and run some iterations; nothing is written.

    Raises ValueError that counts and names unreadable samples, or if the disk is too small, and
    whatever the run itself would raise before or in its first iterations.
    """
    task = Training(config)
    samples = config.data.open(config.seed, task.network.convention)
    read = _read_all(samples.stored, config.workers)
    seconds = _seconds_per_iteration(task, config)
    numbers = sum(tensor.nbytes for tensor in task.network.state_dict().values())
    estimate = Estimate(
        read, seconds, seconds * config.iterations / 86400, _COPIES * numbers / 1e9
    )
    free = shutil.disk_usage(_existing(Path(config.out))).free / 1e9
    log.info('%d samples read without errors', estimate.samples)
    log.info(
        '%.2f s per iteration on this machine in one process: %.1f days for %d iterations',
        estimate.seconds,
        estimate.days,
        config.iterations,
    )
    log.info('%.1f GB of checkpoints, %.1f GB free', estimate.gigabytes, free)
    if free < estimate.gigabytes:
        raise ValueError(
            f'{config.out}: expected {estimate.gigabytes:.1f} GB for checkpoints, '
            f'{free:.1f} GB are free'
        )
    return estimate


def _read_all(stored: Dataset, workers: int) -> int:
    loader = DataLoader(_Readable(stored), batch_size=None, num_workers=workers)
    faults = [fault for fault in track(loader, 'samples', total=len(stored)) if fault]
    for fault in faults:
        log.warning('%s', fault)
    if faults:
        more = ', ...' if len(faults) > _NAMED_AT_MOST else ''
        raise ValueError(
            f'{len(faults)} of {len(stored)} samples could not be read: '
            + '; '.join(faults[:_NAMED_AT_MOST])
            + more
        )
    return len(stored)


class _Readable(Dataset):
    """Why each sample does not read, empty where it does: a worker passes on no more than that."""

    def __init__(self, stored: Dataset) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> str:
        try:
            self._stored[index]
        except (OSError, ValueError) as error:
            return str(error)
        return ''


class _Clock(pl.Callback):
    """Time at the end of each iteration."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())


def _seconds_per_iteration(task: Training, config: TrainConfig) -> float:
    clock = _Clock()
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,
        max_steps=_ITERATIONS,
        max_epochs=1,
        gradient_clip_val=config.clip_norm,
        accumulate_grad_batches=config.accumulate,
        limit_val_batches=0,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task)
    # The first one starts the loader and warms the device up.
    parts = len(clock.times) - config.accumulate
    if parts < 1:
        return 0.0
    return (clock.times[-1] - clock.times[config.accumulate - 1]) / parts * config.accumulate


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.absolute().parent)
