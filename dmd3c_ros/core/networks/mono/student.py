"""The light student of label-free distillation: Topformer and a decoder that fuses its scales.

Gao et al., "Robust Lightweight Depth Estimation Model via Data-free Distillation", ICASSP 2024.
The paper names its decoder a multi-layer feature fusion module (FFM) and shows no more of it. Here
a module is as in LeReS (Yin et al., CVPR 2021), the teacher of that paper: a residual convolution
of the encoder's features, the coarser ones added, another residual convolution, twice the
resolution. It works on one narrow width at every scale, set by the encoder's size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Convention
from .base import MonoNetwork, MonoOutput
from .topformer import CONFIGS, Topformer

WIDTHS = {'tiny': 32, 'small': 48, 'base': 64}
"""Channels of the decoder; the paper gives none."""


class Student(MonoNetwork):
    """Relative inverse depth at the image's size.

    size: of the encoder, 'tiny', 'small' or 'base'. width: channels of the decoder.
    """

    convention = Convention(size_multiple=32)

    def __init__(self, size: str, width: int) -> None:
        super().__init__()
        self.backbone = Topformer(CONFIGS[size])
        self.feature_channels = self.backbone.channels
        self.lateral = nn.ModuleList(_conv(c, width, 1) for c in self.feature_channels)
        self.fuse = nn.ModuleList(_Fusion(width) for _ in self.feature_channels)
        self.head = nn.Sequential(_conv(width, width // 2, 3), nn.Conv2d(width // 2, 1, 1))

    @classmethod
    def named(cls, size: str) -> Student:
        """The student of that size."""
        return cls(size, WIDTHS[size])

    def forward(self, image: Tensor) -> MonoOutput:
        features = self.backbone(image)
        coarser = None
        for index in reversed(range(len(features))):
            x = self.lateral[index](features[index])
            coarser = self.fuse[index](x, coarser)
        # From 1/2 to the whole size: the values alone, which costs a tenth of the features.
        disparity = self.head(coarser).float()
        disparity = F.interpolate(disparity, size=image.shape[-2:], mode='bilinear')
        return MonoOutput(disparity, features)


class _Fusion(nn.Module):
    """Feature fusion: the finer features refined, the coarser added, refined, and enlarged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = _Residual(channels)
        self.after = _Residual(channels)

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.before(x)
        if coarser is not None:
            if coarser.shape[-2:] != x.shape[-2:]:
                coarser = F.interpolate(coarser, size=x.shape[-2:], mode='bilinear')
            x = x + coarser
        return F.interpolate(self.after(x), scale_factor=2, mode='bilinear')


class _Residual(nn.Module):
    """A residual convolution, separable: 3x3 for each channel, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.mix(self.spatial(x)))


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
