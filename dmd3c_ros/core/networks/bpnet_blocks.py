"""Convolutional blocks of BP-Net: residual stages, the fusion U-Net, weight initialization.

Attribute names are those of the released checkpoints. `FOLDS` names the pairs that
`fusion.fold_batch_norms` may fold for inference.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, batch normalization, activation; with `norm=False` a bias instead of norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        activation: nn.Module | None = None,
        norm: bool = True,
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not norm
        )
        layers = OrderedDict(conv=convolution)
        if norm:
            layers['bn'] = nn.BatchNorm2d(out_channels)
        layers['relu'] = nn.ReLU(inplace=True) if activation is None else activation
        self.conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H, W)."""
        return self.conv(x)


class UpConvBlock(nn.Module):
    """Transposed convolution to twice the size, batch normalization, ReLU."""

    FOLDS = (('conv', 'bn'),)

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, 2H, 2W)."""
        return self.relu(self.bn(self.conv(x)))


class DropPath(nn.Module):
    """Stochastic depth: in training, drops its input for a random part of the batch.

    Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016; kept samples are scaled by
    1 / (1 - rate), so that evaluation needs no correction.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


class ResidualBlock(nn.Module):
    """The basic block of ResNet (He et al., CVPR 2016) with stochastic depth."""

    FOLDS = (('conv1', 'bn1'), ('conv2', 'bn2'))

    def __init__(self, in_channels: int, channels: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.drop_path = DropPath(drop_rate)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, C, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.drop_path(self.bn2(self.conv2(x)))
        return self.relu2(x + shortcut)


def residual_stage(
    in_channels: int, channels: int, blocks: int, stride: int, drop_rates: Iterator[float]
) -> nn.Sequential:
    """Chain residual blocks, the first with the stride; each takes the next drop rate."""
    stage = nn.Sequential()
    for number in range(blocks):
        stage.append(
            ResidualBlock(
                channels if number else in_channels,
                channels,
                1 if number else stride,
                next(drop_rates),
            )
        )
    return stage


def drop_rates(highest: float, blocks: int) -> Iterator[float]:
    """Rates of stochastic depth that rise linearly from 0 over the blocks of an encoder."""
    return iter(np.linspace(0.0, highest, blocks).tolist())


class UpMerge(nn.Module):
    """Doubles the size of a coarse map and merges a finer one into it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upf = UpConvBlock(in_channels, out_channels)
        self.conv = ConvBlock(2 * out_channels, out_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, Cin, H/2, W/2), (B, C, H, W) -> (B, C, H, W)."""
        return self.conv(torch.cat([self.upf(coarse), fine], dim=1))


class FusionUNet(nn.Module):
    """The U-Net of the multi-modal fusion, from its own scale down to 1/32 of the image."""

    MAX_CHANNELS = 256
    BLOCKS = 2

    def __init__(self, channels: int, extra_channels: int, depth: int, drop_path: float) -> None:
        super().__init__()
        rates = drop_rates(drop_path, self.BLOCKS * (1 + depth))
        first = nn.Sequential(
            ConvBlock(channels + extra_channels, channels),
            residual_stage(channels, channels, self.BLOCKS, 1, rates),
        )
        self.encoder = nn.ModuleList([first])
        self.decoder = nn.ModuleList()
        for _ in range(depth):
            deeper = min(2 * channels, self.MAX_CHANNELS)
            self.encoder.append(residual_stage(channels, deeper, self.BLOCKS, 2, rates))
            self.decoder.append(UpMerge(deeper, channels))
            channels = deeper

    def forward(self, features: Tensor, extra: Tensor) -> Tensor:
        """(B, C, H, W), (B, E, H, W) -> (B, C, H, W)."""
        x = torch.cat([features, extra.to(features.dtype)], dim=1)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        x = skips.pop()
        for decoder in reversed(self.decoder):
            x = decoder(x, skips.pop())
        return x


def initialize(module: nn.Module) -> None:
    """Draw convolution weights as BP-Net's training starts from: truncated normal, Glorot scale.

    Transposed convolutions keep PyTorch's own initialization, as there.
    """
    if isinstance(module, nn.Conv2d):
        out_channels, in_channels, *kernel = module.weight.shape
        area = math.prod(kernel)
        deviation = math.sqrt(2.0 / (area * (in_channels + out_channels)))
        nn.init.trunc_normal_(module.weight, std=deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
