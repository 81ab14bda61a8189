"""Non-local spatial propagation of an initial depth map.

Park et al., "Non-Local Spatial Propagation Network for Depth Completion", ECCV 2020, as
CompletionFormer uses it: every pixel learns eight neighbours anywhere, with affinities that are
weighed by the confidence found there and normalized (tanh-gamma-abs-sum, Sec. 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmd3c_ros.core.ops.deform import NEIGHBOURS_3X3, propagate, sample, sampling_grid

_NEIGHBOURS = len(NEIGHBOURS_3X3)
# The confidence of a neighbour is read at the pixel plus its offset, without its tap's step:
# so do the released weights of CompletionFormer expect it.
_UNMOVED = ((0, 0),) * _NEIGHBOURS


class NonLocalPropagation(nn.Module):
    """Propagates depth along learned, confidence-weighted, non-local affinities.

    steps: number of propagations. gamma: initial affinity scale over the neighbour count.
    """

    def __init__(self, steps: int = 6, gamma: float = 0.5):
        super().__init__()
        self.steps = steps
        self.conv_offset_aff = nn.Conv2d(_NEIGHBOURS, 3 * _NEIGHBOURS, 3, padding=1)
        nn.init.zeros_(self.conv_offset_aff.weight)
        nn.init.zeros_(self.conv_offset_aff.bias)
        self.aff_scale_const = nn.Parameter(torch.full((1,), gamma * _NEIGHBOURS))
        # Kernel and bias of the sampling convolutions: constants that checkpoints hold.
        self.w = nn.Parameter(torch.ones(1, 1, 3, 3), requires_grad=False)
        self.b = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.w_conf = nn.Parameter(torch.ones(1, 1, 1, 1), requires_grad=False)

    def forward(self, depth: Tensor, guidance: Tensor, confidence: Tensor) -> Tensor:
        """Return the propagated depth.

        depth, confidence (0..1): (B, 1, H, W); guidance: (B, 8, H, W).
        """
        offset, affinity = (
            self.conv_offset_aff(guidance)
            .to(depth.dtype)
            .split((2 * _NEIGHBOURS, _NEIGHBOURS), dim=1)
        )
        weight = self._normalized(affinity, offset.detach(), confidence)
        weight = weight * self.w.to(weight.dtype).view(1, -1, 1, 1)
        grid = sampling_grid(offset)
        for _ in range(self.steps):
            depth = propagate(depth, weight, grid) + self.b
        return depth

    def _normalized(self, affinity: Tensor, offset: Tensor, confidence: Tensor) -> Tensor:
        """Affinities (B, 9, H, W) that add up to one, their absolute values to one at most."""
        found = sample(confidence, sampling_grid(offset, _UNMOVED))
        affinity = torch.tanh(affinity / 100.0) / (self.aff_scale_const + 1e-8)
        affinity = affinity * (found * self.w_conf.view(1) + self.b)
        affinity = affinity / (affinity.abs().sum(dim=1, keepdim=True) + 1e-4).clamp_min(1.0)
        centre = 1.0 - affinity.sum(dim=1, keepdim=True)
        half = _NEIGHBOURS // 2
        return torch.cat((affinity[:, :half], centre, affinity[:, half:]), dim=1)
