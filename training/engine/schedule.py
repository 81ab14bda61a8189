"""The optimizer, and how its learning rate changes over a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from training.engine.settings import TrainConfig

_MARGIN = 1e-6  # of an iteration


def make_optimizer(config: TrainConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW with the weight decay of the configuration."""
    groups: list[dict[str, Any]] = [{'params': list(parameters)}]
    if not config.decay_vectors:
        # Biases, and the scales and shifts of normalization.
        vectors = [p for p in parameters if p.ndim == 1]
        groups = [
            {'params': [p for p in parameters if p.ndim != 1]},
            {'params': vectors, 'weight_decay': 0.0},
        ]
    return torch.optim.AdamW(
        groups, config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def make_scheduler(config: TrainConfig, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
    """What is stepped once an iteration; None where the rate stays constant."""
    if config.schedule == 'constant':
        return None
    if config.schedule == 'steps':
        return LambdaLR(optimizer, steps(config))
    return _OneCycle(optimizer, config)


def steps(config: TrainConfig) -> Callable[[int], float]:
    """Factor of the learning rate at an iteration: a linear rise, then a cut at each milestone."""
    rise = config.warm_up * config.iterations
    milestones = [fraction * config.iterations for fraction in config.milestones]

    def fraction(iteration: int) -> float:
        if iteration < rise:
            return (iteration + 1) / (rise + 1)
        return config.step_factor ** sum(iteration >= milestone for milestone in milestones)

    return fraction


class _OneCycle(OneCycleLR):
    """PyTorch's, with the noise that BP-Net's authors add to the rate."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig) -> None:
        self._noise, self._seed = config.rate_noise, config.seed
        rise = config.warm_up * config.iterations
        # A rise of one iteration exactly is a division by zero in PyTorch.
        rise += _MARGIN * (abs(rise - 1) < _MARGIN)
        super().__init__(
            optimizer,
            config.learning_rate,
            config.iterations,
            pct_start=rise / config.iterations,
            div_factor=config.div_factor,
            final_div_factor=config.final_div_factor,
            base_momentum=config.momentum_min,
            max_momentum=config.momentum_max,
        )

    def get_lr(self) -> list[float]:
        rates = super().get_lr()
        if not self._noise:
            return rates
        # From the iteration alone, so that a resumed run draws the same as an uninterrupted one.
        generator = torch.Generator().manual_seed((self._seed << 40) + self.last_epoch)
        factor = 1 + self._noise * (2 * torch.rand(1, generator=generator).item() - 1)
        return [rate * factor for rate in rates]
