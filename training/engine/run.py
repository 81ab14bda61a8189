"""The training engine of both stages: one run of a network on numbered samples, with Lightning.

A run is a pure function of its configuration: step k sees the samples k * batch ... (k + 1) *
batch, wherever it runs, and random numbers are drawn from the seed, the step and the process. So
a run that was killed goes on from its last checkpoint as if nothing had happened, and more
processes see the same batches in smaller parts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler

from dmd3c_ros.core import networks
from dmd3c_ros.core.weights.checkpoint import load_weights
from dmd3c_ros.evaluation.metrics import depth_metrics
from training.data.samples import DataConfig, Samples
from training.engine.checkpoints import AtomicIO, Checkpoints
from training.engine.images import validation_picture
from training.losses.objectives import ObjectiveConfig, in_metres

log = logging.getLogger(__name__)

SCHEDULES = ('onecycle', 'constant')
PRECISIONS = ('32-true', 'bf16-mixed')
SCORES = ('rmse_mm', 'mae_mm', 'irmse_per_km', 'imae_per_km', 'rel')
_PATIENCE = 50  # iterations; stochastic depth leaves blocks out of single ones
POINT_SCORES = ('points_rmse_mm', 'points_mae_mm')  # at LiDAR points that were kept from the input


@dataclass(frozen=True)
class TrainConfig:
    """One run; the defaults are the paper's settings of stage 1 (section 4.2 of DMD3C).

    out: folder of checkpoints, weights and the TensorBoard log.
    network: a name of ``dmd3c_ros.core.networks``; initial_weights: file to begin from, empty for
        random weights.
    iterations, batch: length of the run; the batch is that of all processes together. stop_at: end
        early, at this iteration, with the learning rate that the whole run would have; 0: never.
    schedule: 'onecycle', which the paper names for stage 2 alone, or 'constant'.
    learning_rate: its peak, or what stays constant. warm_up: share of the run that OneCycle rises
        for. The paper gives neither; 1e-3 and 0.1 are BP-Net's, the rest is PyTorch's default.
    clip_norm: largest norm of the gradient. ema_decay: of the averaged weights, which are the
        result.
    precision: '32-true' or 'bf16-mixed'; the paper does not say. freeze_norm: keep the statistics
        of batch normalization as they are, as for small batches of fine-tuning. sync_norm: share
        them between GPUs.
    max_depth: deeper ground truth does not count in validation, m.
    validate_every, checkpoint_every, log_every: iterations. pictures: of each validation.
    workers: loader processes of each training process. accelerator, devices, nodes: as Lightning's
        Trainer takes them; 0 devices are all. Under torchrun its processes count instead.
    """

    out: str
    data: DataConfig
    loss: ObjectiveConfig
    network: str = 'bpnet'
    initial_weights: str = ''
    seed: int = 0
    iterations: int = 600_000
    stop_at: int = 0
    batch: int = 16
    learning_rate: float = 1e-3
    schedule: str = 'onecycle'
    warm_up: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 0.1
    ema_decay: float = 0.9999
    precision: str = 'bf16-mixed'
    freeze_norm: bool = False
    sync_norm: bool = True
    max_depth: float = 100.0
    validate_every: int = 5000
    checkpoint_every: int = 1000
    log_every: int = 50
    pictures: int = 4
    workers: int = 4
    accelerator: str = 'auto'
    devices: int = 0
    nodes: int = 1

    def __post_init__(self) -> None:
        for name, names in (
            ('network', networks.names()),
            ('schedule', SCHEDULES),
            ('precision', PRECISIONS),
        ):
            if getattr(self, name) not in names:
                raise ValueError(f'{name}: expected one of {names}, got {getattr(self, name)!r}')
        counts = (
            'iterations',
            'batch',
            'validate_every',
            'checkpoint_every',
            'log_every',
            'nodes',
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: expected at least 1, got {getattr(self, name)}')
        if not 0 <= self.stop_at <= self.iterations:
            raise ValueError(
                f'stop_at: expected 0 to {self.iterations} iterations, got {self.stop_at}'
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f'ema_decay: expected 0 to below 1, got {self.ema_decay}')
        if not self.learning_rate > 0:
            raise ValueError(f'learning_rate: expected above 0, got {self.learning_rate}')

    def content(self) -> dict:
        """What decides about the result: all but where, how fast and how talkative a run is."""
        content = asdict(self)
        for name in (
            'out',
            'stop_at',
            'workers',
            'accelerator',
            'devices',
            'nodes',
            'checkpoint_every',
            'log_every',
            'pictures',
        ):
            del content[name]
        return content


class NumberSampler(Sampler):
    """Numbers of one process's samples from a step on, as long as the whole run."""

    def __init__(self, first_step: int, steps: int, batch: int, rank: int, world: int) -> None:
        self._first, self._steps, self._batch = first_step, steps, batch
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        # Of the whole run, whatever is left of it: Lightning counts from its beginning.
        return self._steps * (self._batch // self._world)

    def __iter__(self) -> Iterator[int]:
        numbers = range(self._first * self._batch, self._steps * self._batch)
        return iter(numbers[self._rank :: self._world])


class ResumableLoader(DataLoader):
    """A loader whose sampler already begins at the right place; this tells Lightning so."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The place is that of the trainer, which made the sampler."""


class Training(pl.LightningModule):
    """One network, its averaged copy, and how they are trained and validated."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.seed)
        self.network = networks.build(config.network)
        if config.initial_weights:
            load_weights(self.network, config.initial_weights)
        self.network.to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
        ).requires_grad_(False)
        self._objective = config.loss.build()
        self._samples: Samples | None = None
        self._scores: list[dict[str, float]] = []
        self._unreached = [n for n, p in self.network.named_parameters() if p.requires_grad]
        self._backward_passes = 0

    def setup(self, stage: str) -> None:
        convention = self.network.convention
        self._samples = self.config.data.open(self.config.seed, convention)
        world = self.trainer.world_size
        if self.config.batch % world:
            raise ValueError(
                f'batch: expected a multiple of the {world} processes, got {self.config.batch}'
            )

    def train_dataloader(self) -> DataLoader:
        c, trainer = self.config, self.trainer
        world = trainer.world_size
        sampler = NumberSampler(
            trainer.global_step, c.iterations, c.batch, trainer.global_rank, world
        )
        return ResumableLoader(
            self._samples,
            c.batch // world,
            sampler=sampler,
            num_workers=c.workers,
            prefetch_factor=4 if c.workers else None,
            pin_memory=self.device.type == 'cuda',
        )

    def val_dataloader(self) -> DataLoader:
        held_out = self._samples.held_out
        trainer = self.trainer
        numbers = range(trainer.global_rank, len(held_out), trainer.world_size)
        return DataLoader(held_out, 1, sampler=numbers)

    def configure_optimizers(self) -> dict:
        c = self.config
        optimizer = torch.optim.AdamW(
            self.network.parameters(), c.learning_rate, weight_decay=c.weight_decay
        )
        if c.schedule == 'constant':
            return {'optimizer': optimizer}
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, c.learning_rate, c.iterations, pct_start=c.warm_up
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'},
        }

    def on_train_start(self) -> None:
        self._set_norm()

    def _set_norm(self) -> None:
        if not self.config.freeze_norm:
            return
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:
        # Drop path and random windows draw from here: nothing else needs to be kept for a resume.
        step = self.global_step * self.trainer.world_size + self.global_rank
        torch.manual_seed((self.config.seed << 40) + step)
        output = self._complete(self.network, batch)
        # Outside autocast, in which CUDA refuses the cross entropy of the confidence.
        with torch.autocast(self.device.type, enabled=False):
            loss, terms = self._objective(output, batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f'iteration {self.global_step}: expected a finite loss, got {loss.item()}; terms: '
                f'{ {name: term.item() for name, term in terms.items()} }'
            )
        self.log('train/loss', loss, prog_bar=True)
        self.log_dict({f'train/{name}': term for name, term in terms.items()})
        self.log('train/learning_rate', self.optimizers().param_groups[0]['lr'])
        return loss

    def _complete(self, network: nn.Module, batch: Mapping[str, Tensor]) -> networks.NetworkOutput:
        scale = self.network.convention.depth_scale
        image = batch['image'].contiguous(memory_format=torch.channels_last)
        output = network(image, batch['sparse'] * scale, batch['K'])
        with torch.autocast(self.device.type, enabled=False):
            return in_metres(output, scale)

    def on_after_backward(self) -> None:
        """See that the loss reaches every parameter: what it does not reach would stay random."""
        if not self._unreached:
            return
        parameters = dict(self.network.named_parameters())
        self._unreached = [name for name in self._unreached if parameters[name].grad is None]
        self._backward_passes += 1
        if self._unreached and self._backward_passes == _PATIENCE:
            raise ValueError(
                f'loss: expected it to reach every parameter of {self.config.network}, got no '
                f'gradient at {len(self._unreached)} of them, such as {self._unreached[0]}; where '
                'they make earlier predictions, loss.earlier supervises these'
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.network)

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        """The averaged weights on one whole picture."""
        padded = pad(batch, self.network.convention.size_multiple)
        depth = self._complete(self.average.module, padded).depth
        height, width = batch['depth'].shape[-2:]
        depth = depth[0, 0, :height, :width].float().cpu().numpy()
        truth = batch['depth'][0, 0].cpu().numpy()
        truth = truth * (truth < self.config.max_depth)
        self._scores.append(_scores(depth, truth, SCORES))
        if 'sweep' in batch:
            sweep, sparse = (batch[name][0, 0].cpu().numpy() > 0 for name in ('sweep', 'sparse'))
            self._scores[-1] |= _scores(depth, truth * (sweep & ~sparse), POINT_SCORES)
        if self.global_rank == 0 and index < self.config.pictures:
            for logger in self.loggers:
                picture = validation_picture(batch, depth, self.network.convention)
                logger.experiment.add_image(
                    f'validation/{index}', picture, self.global_step, dataformats='HWC'
                )

    def on_validation_epoch_end(self) -> None:
        names = SCORES + POINT_SCORES
        rows = [[row.get(name, np.nan) for name in names] for row in self._scores]
        rows = torch.tensor(rows, device=self.device).reshape(-1, len(names))
        # Processes may hold different numbers of pictures: sums are shared, not means.
        sums = torch.stack([rows.nansum(0), rows.isfinite().sum(0)])
        total, count = self.all_gather(sums).reshape(-1, 2, len(names)).sum(0)
        self._scores = []
        if not count[0]:
            raise ValueError('validation: expected ground truth in a picture, got none in any')
        for name, value, pictures in zip(names, total / count, count, strict=True):
            if pictures:
                # Equal in all processes already; Lightning wants to hear it.
                shown = name == 'rmse_mm'
                self.log(f'validation/{name}', value, prog_bar=shown, sync_dist=True)
        self._set_norm()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['config'] = self.config.content()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        content, old = self.config.content(), checkpoint['config']
        differing = [key for key in content if content[key] != old.get(key)]
        if differing:
            raise ValueError(
                f'{self.config.out} holds a run with other settings of {", ".join(differing)}; '
                'use another folder, or initial_weights to begin from its result'
            )


def _scores(depth: np.ndarray, truth: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Errors of one picture under these names, in the order of SCORES; none without truth."""
    metrics = depth_metrics(depth, truth, missing='ignore')
    if metrics is None:
        return {}
    return {name: getattr(metrics, score) for name, score in zip(names, SCORES, strict=False)}


def pad(batch: Mapping[str, Tensor], multiple: int) -> dict[str, Tensor]:
    """The batch with its inputs enlarged to the right and below, to sizes a network takes."""
    height, width = batch['image'].shape[-2:]
    border = (0, -width % multiple, 0, -height % multiple)
    return {
        **batch,
        'image': F.pad(batch['image'], border, mode='replicate'),
        'sparse': F.pad(batch['sparse'], border),
    }


def train(config: TrainConfig, callbacks: tuple[pl.Callback, ...] = ()) -> Path:
    """Train to the end, going on from ``out/last.ckpt`` where there is one.

    Under torchrun each process calls this. Returns the file of the averaged weights. Raises
    FileNotFoundError for missing data, ValueError for a folder of another run.
    """
    out = Path(config.out)
    last = out / 'last.ckpt'
    checkpoints = Checkpoints(out, config.checkpoint_every)
    task = Training(config)
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        **_processes(config),
        precision=config.precision,
        max_steps=config.stop_at or config.iterations,
        max_epochs=1,
        gradient_clip_val=config.clip_norm,
        val_check_interval=min(config.validate_every, config.stop_at or config.iterations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every,
        logger=TensorBoardLogger(out, name='', version='tensorboard'),
        callbacks=[checkpoints, *callbacks],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        sync_batchnorm=config.sync_norm and torch.cuda.is_available(),
        plugins=[AtomicIO()],
    )
    trainer.fit(task, ckpt_path=last if last.is_file() else None)
    return out / 'weights.pth'


def _processes(config: TrainConfig) -> dict[str, Any]:
    """The trainer's arguments about processes; those of torchrun count before the settings."""
    here = int(os.environ.get('LOCAL_WORLD_SIZE', '0'))
    if here:
        devices, nodes = here, int(os.environ['WORLD_SIZE']) // here
    else:
        gpus = 0 if config.accelerator == 'cpu' else torch.cuda.device_count()
        devices, nodes = config.devices or max(gpus, 1), config.nodes
    several = devices * nodes > 1
    return {
        'devices': devices,
        'num_nodes': nodes,
        # Stochastic depth leaves blocks of LRRU without a gradient in some iterations.
        'strategy': 'ddp_find_unused_parameters_true' if several else 'auto',
    }
