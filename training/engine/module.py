"""The Lightning module: one network and its averaged copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dmd3c_ros.core import networks
from dmd3c_ros.core.weights.checkpoint import load_weights
from dmd3c_ros.evaluation.metrics import depth_metrics
from training.data.samples import Samples
from training.engine.images import validation_image
from training.engine.loaders import NumberSampler, ResumableLoader, SampleLoader
from training.engine.schedule import make_optimizer, make_scheduler
from training.engine.settings import TrainConfig
from training.losses.objectives import in_metres
from training.losses.recipes import LossTerms
from training.settings import from_dict

SCORES = ('rmse_mm', 'mae_mm', 'irmse_per_km', 'imae_per_km', 'rel')
_PATIENCE = 50  # iterations; stochastic depth leaves blocks out of single ones
POINT_SCORES = ('points_rmse_mm', 'points_mae_mm')  # at LiDAR points that were kept from the input


class Training(pl.LightningModule):
    """One network, its averaged copy, and how they are trained and validated.

    Here that is depth completion. Another task has other methods ``build_network``,
    ``build_objective``, ``open_data``, ``loss`` and ``validation_step``, and names in ``scores``
    what it appends to ``_scores``; ``watched`` is the one of them whose least value marks the best
    weights.
    """

    scores = SCORES + POINT_SCORES
    watched = 'rmse_mm'

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.seed)
        self.network = self.build_network()
        self.network.convention = config.convention.applied(self.network.convention)
        self.network.to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
        ).requires_grad_(False)
        if config.compile:
            self.network.compile()
        self._objective = self.build_objective()
        self._samples: Samples | None = None
        self._scores: list[dict[str, float]] = []
        self._unreached = [n for n, p in self.network.named_parameters() if p.requires_grad]
        self._backward_passes = 0

    def build_network(self) -> nn.Module:
        """The network that the configuration names, with the weights that it begins from."""
        network = networks.build(self.config.network)
        if self.config.initial_weights:
            load_weights(network, self.config.initial_weights)
        return network

    def build_objective(self) -> Callable[..., LossTerms]:
        """What ``loss`` asks; where it is a module, it may have parameters of its own."""
        return self.config.loss.build()

    def open_data(self) -> Samples:
        """The samples that the configuration names."""
        return self.config.data.open(self.config.seed, self.network.convention)

    def trained(self) -> list[nn.Parameter]:
        """The parameters to optimize."""
        return list(self.network.parameters())

    def setup(self, stage: str) -> None:
        self._samples = self.open_data()
        world = self.trainer.world_size
        parts = world * self.config.accumulate
        if self.config.batch % parts:
            raise ValueError(
                f'batch: expected a multiple of {parts}, the {world} processes times accumulate, '
                f'got {self.config.batch}'
            )
        held_out = len(self._samples.held_out)
        if held_out < world:
            raise ValueError(
                f'validation: expected an image for each of the {world} processes, got {held_out}'
            )

    def train_dataloader(self) -> DataLoader:
        c, trainer = self.config, self.trainer
        world = trainer.world_size
        sampler = NumberSampler(
            trainer.global_step, c.iterations, c.batch, trainer.global_rank, world
        )
        return ResumableLoader(
            self._samples,
            c.batch // world // c.accumulate,
            skip=c.skip_unreadable,
            sampler=sampler,
            num_workers=c.workers,
            prefetch_factor=4 if c.workers else None,
            pin_memory=self.device.type == 'cuda',
        )

    def val_dataloader(self) -> DataLoader:
        held_out = self._samples.held_out
        trainer = self.trainer
        numbers = range(trainer.global_rank, len(held_out), trainer.world_size)
        return SampleLoader(held_out, 1, sampler=numbers)

    def configure_optimizers(self) -> dict:
        optimizer = make_optimizer(self.config, self.trained())
        scheduler = make_scheduler(self.config, optimizer)
        if scheduler is None:
            return {'optimizer': optimizer}
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
        part = self.global_step * self.config.accumulate + index % self.config.accumulate
        step = part * self.trainer.world_size + self.global_rank
        torch.manual_seed((self.config.seed << 40) + step)
        loss, terms = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f'iteration {self.global_step}: expected a finite loss, got {loss.item()}; terms: '
                f'{ {name: term.item() for name, term in terms.items()} }'
            )
        self._log_losses({'loss': loss.detach(), **terms})
        self.log('train/learning_rate', self.optimizers().param_groups[0]['lr'])
        return loss

    def _log_losses(self, values: Mapping[str, Tensor]) -> None:
        """Means over all processes, each of which sees a part of the batch, in one exchange."""
        stacked = torch.stack([value.float() for value in values.values()])
        means = self.trainer.strategy.reduce(stacked, reduce_op='mean')
        for name, mean in zip(values, means, strict=True):
            self.log(f'train/{name}', mean, prog_bar=name == 'loss')

    def loss(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """The loss of a batch."""
        batch = pad(batch, self.network.convention.size_multiple)
        output = self.complete(self.network, batch)
        # Outside autocast, in which CUDA refuses the cross entropy of the confidence.
        with torch.autocast(self.device.type, enabled=False):
            return self._objective(output, batch)

    def complete(self, network: nn.Module, batch: Mapping[str, Tensor]) -> networks.NetworkOutput:
        """Prediction of the network, or its average, for a batch, in m."""
        scale = self.network.convention.depth_scale
        image = batch['image'].contiguous(memory_format=torch.channels_last)
        output = network(image, batch['sparse'] * scale, batch['K'])
        with torch.autocast(self.device.type, enabled=False):
            return in_metres(output, scale)

    def on_after_backward(self) -> None:
        """Check that the loss reaches every parameter; otherwise some would stay random."""
        if not self._unreached:
            return
        parameters = dict(self.network.named_parameters())
        self._unreached = [name for name in self._unreached if parameters[name].grad is None]
        self._backward_passes += 1
        if self._unreached and self._backward_passes == _PATIENCE:
            raise ValueError(
                f'loss: expected gradients for every parameter of {self.config.network}, got '
                f'none for {len(self._unreached)} of them, such as {self._unreached[0]}; where '
                'they make earlier predictions, loss.earlier supervises these'
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.network)

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        """The averaged weights on one whole image."""
        padded = pad(batch, self.network.convention.size_multiple)
        depth = self.complete(self.average.module, padded).depth
        height, width = batch['depth'].shape[-2:]
        depth = depth[0, 0, :height, :width].float().cpu().numpy()
        truth = batch['depth'][0, 0].cpu().numpy()
        truth = truth * (truth < self.config.max_depth)
        self._scores.append(_scores(depth, truth, SCORES))
        if 'sweep' in batch:
            sweep, sparse = (batch[name][0, 0].cpu().numpy() > 0 for name in ('sweep', 'sparse'))
            self._scores[-1] |= _scores(depth, truth * (sweep & ~sparse), POINT_SCORES)
        if self.global_rank == 0 and index < self.config.validation_images:
            for logger in self.loggers:
                image = validation_image(batch, depth, self.network.convention)
                logger.experiment.add_image(
                    f'validation/{index}', image, self.global_step, dataformats='HWC'
                )

    def on_validation_epoch_end(self) -> None:
        names = self.scores
        rows = [[row.get(name, np.nan) for name in names] for row in self._scores]
        rows = torch.tensor(rows, device=self.device).reshape(-1, len(names))
        # Processes may hold different numbers of images: sums are shared, not means.
        sums = torch.stack([rows.nansum(0), rows.isfinite().sum(0)])
        total, count = self.all_gather(sums).reshape(-1, 2, len(names)).sum(0)
        self._scores = []
        if not count[0]:
            raise ValueError('validation: expected ground truth in an image, got none in any')
        for name, value, images in zip(names, total / count, count, strict=True):
            if images:
                # Already equal in all processes, but Lightning asks for it.
                shown = name == self.watched
                self.log(f'validation/{name}', value, prog_bar=shown, sync_dist=True)
        self._set_norm()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint['config'] = self.config.content()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        content, old = self.config.content(), _completed(type(self.config), checkpoint['config'])
        differing = [key for key in content if content[key] != old.get(key)]
        if differing:
            raise ValueError(
                f'{self.config.out} holds a run with other settings of {", ".join(differing)}; '
                'use another folder, or initial_weights to start from its result'
            )


def _completed(kind: type[TrainConfig], content: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier run with the defaults of settings that have come since."""
    try:
        return from_dict(kind, {**content, 'out': ''}).content()
    except ValueError:
        return content


def _scores(depth: np.ndarray, truth: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Errors of one image under these names, in the order of SCORES; none without truth."""
    metrics = depth_metrics(depth, truth, missing='ignore')
    if metrics is None:
        return {}
    return {name: getattr(metrics, score) for name, score in zip(names, SCORES, strict=False)}


def pad(batch: Mapping[str, Tensor], multiple: int) -> dict[str, Tensor]:
    """The batch enlarged to the right and below, to sizes a network takes.

    The padding has the colours of the border, no points, and no ground truth.
    """
    height, width = batch['image'].shape[-2:]
    border = (0, -width % multiple, 0, -height % multiple)
    if not any(border):
        return dict(batch)
    unknown = {'disparity': float('nan')}
    return {
        name: F.pad(values, border, value=unknown.get(name, 0.0))
        if values.ndim == 4 and name != 'image'
        else values
        for name, values in batch.items()
    } | {'image': F.pad(batch['image'], border, mode='replicate')}
