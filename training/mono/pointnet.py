"""PointNet (Qi et al., CVPR 2017), which geometric distillation looks at position maps with."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class PointFeatures(NamedTuple):
    """points: (B, c, N), of each point; whole: (B, C), of all of them."""

    points: Tensor
    whole: Tensor


class PointNet(nn.Module):
    """Points (B, 3, N) -> features, which do not depend on the points' order.

    transforms: also learn, from the points, a matrix for their coordinates and one for their
    features, the paper's two T-Nets, which begin as the identity. There is no batch norm: it would
    mix teacher and student, and a batch may be one image.
    """

    def __init__(
        self, point_width: int = 64, whole_width: int = 1024, transforms: bool = True
    ) -> None:
        super().__init__()
        self.coordinates = _Transform(3) if transforms else None
        self.features = _Transform(point_width) if transforms else None
        self.first = _layers(3, point_width, point_width)
        self.second = _layers(point_width, 2 * point_width, whole_width)

    def forward(self, points: Tensor) -> PointFeatures:
        if self.coordinates is not None:
            points = self.coordinates(points) @ points
        x = self.first(points)
        if self.features is not None:
            x = self.features(x) @ x
        return PointFeatures(x, self.second(x).amax(2))


class _Transform(nn.Module):
    """A matrix (B, n, n) from points (B, n, N); the identity plus what is learned."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self.points = _layers(size, 64, 256)
        self.whole = nn.Linear(256, size * size)
        nn.init.zeros_(self.whole.weight)
        nn.init.zeros_(self.whole.bias)

    def forward(self, points: Tensor) -> Tensor:
        change = self.whole(self.points(points).amax(2)).unflatten(1, (self._size, self._size))
        return change + torch.eye(self._size, dtype=points.dtype, device=points.device)


def _layers(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv1d(inputs, outputs, 1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity='relu')
    return nn.Sequential(*layers)
