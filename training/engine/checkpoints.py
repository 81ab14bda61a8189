"""Files of a run: its whole state, and the averaged weights alone."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from dmd3c_ros.core.networks import CompletionNetwork
from dmd3c_ros.core.weights.conventions import STATED
from dmd3c_ros.io.atomic import atomic_write

log = logging.getLogger(__name__)


def save(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint whole or not at all; an OSError, such as of a full disk, names it."""
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # PyTorch closes its archive even where a write failed, and then only says that its
            # size is wrong.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


class AtomicIO(CheckpointIO):
    """Checkpoints that are written completely or not at all.

    A kill or a full disk while saving leaves the previous one unchanged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        save(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location='cpu', weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoints(pl.Callback):
    """Writes into a folder:

    last.ckpt: everything needed to resume, at intervals and at the end.
    weights.pth: the averaged weights, as ``dmd3c_ros`` loads them, after each validation and at
        the end, which need not be one.
    best.pth: those with the lowest validation score so far, of the score that the module watches.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._best = float('inf')
        self._seen = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._seen = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        return {'best': self._best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = state['best']

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: object
    ) -> None:
        # At the last iteration too, and not after it: a run that is made longer must not find its
        # only epoch ended.
        step = trainer.global_step
        # Not between the parts of an accumulated batch, whose gradients no checkpoint holds.
        if step == self._seen:
            return
        self._seen = step
        if step % self._every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self._folder / 'last.ckpt')

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        score = float(trainer.callback_metrics[f'validation/{module.watched}'])
        better = score < self._best
        self._best = min(score, self._best)
        if not trainer.is_global_zero:
            return
        log.info('iteration %d: validation %s %.4g', trainer.global_step, module.watched, score)
        for name in ('weights.pth', 'best.pth') if better else ('weights.pth',):
            self._save_weights(module, name)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._save_weights(module, 'weights.pth')

    def _save_weights(self, module: pl.LightningModule, name: str) -> None:
        content = weights_content(module.average.module, module.config.network)
        save(content, self._folder / name)


def weights_content(network: CompletionNetwork, name: str) -> dict[str, Any]:
    """Contents of a weights file: the parameters and their input convention.

    Without the convention a reader would have to guess it from the names of file and folder
    (``dmd3c_ros.core.weights.conventions``), which for BP-Net decides whether depth counts in m
    or in tenths of it.
    """
    return {
        'net': network.state_dict(),
        'network': name,
        STATED: asdict(network.convention),
    }
