"""Inputs and one training step for the parity tests of networks, drawn from nothing but a seed."""

from typing import NamedTuple

import torch
from parity import centred, uniform


class Scene(NamedTuple):
    """image (B, 3, H, W) normalized; sparse, truth (B, 1, H, W) m, 0 = unknown; K (B, 3, 3)."""

    image: torch.Tensor
    sparse: torch.Tensor
    truth: torch.Tensor
    K: torch.Tensor

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        return self.image, self.sparse, self.K


def scene(
    batch: int,
    height: int,
    width: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    near: float = 3.0,
    span: float = 5.0,
    share: float = 0.3,
) -> Scene:
    """Ground that recedes from `near` to `near + span` metres, with waves and roughness of 1 m.

    share: of pixels with a measurement. The truth is 1 m off, at 30 % of the pixels.
    """
    rows = torch.arange(height, dtype=torch.float64).view(-1, 1) / height
    cols = torch.arange(width, dtype=torch.float64) / width
    shape = (batch, 1, height, width)
    depth = near + span * (1 - rows) ** 2 + torch.sin(9 * cols) + uniform('depth', shape, seed)
    truth = depth + centred('truth', shape, seed)
    focal = float(width)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Scene(
        # All in float32 first: each precision gets the very same numbers.
        centred('image', (batch, 3, height, width), seed).float().to(dtype),
        (depth * (uniform('known', shape, seed) < share)).float().to(dtype),
        (truth * (uniform('supervised', shape, seed) < 0.3)).float().to(dtype),
        K.expand(batch, 3, 3).to(dtype),
    )


def supervision(predictions: tuple[torch.Tensor, ...], truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute plus mean squared error where truth is known, earlier ones 0.8 less each."""
    known, loss = truth > 0, torch.zeros((), dtype=truth.dtype)
    for index, prediction in enumerate(reversed(predictions)):
        error = (truth - prediction)[known]
        loss = loss + 0.8**index * (error.abs().mean() + error.square().mean())
    return loss
