"""Depth Anything V2: DINOv2 and the decoder of dense prediction transformers.

Yang et al., "Depth Anything V2", NeurIPS 2024; the decoder is that of Ranftl et al., "Vision
Transformers for Dense Prediction", ICCV 2021. Parameters bear the names of the released files;
``transformers_names`` translates them to and from those of the transformers library.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Convention
from .base import MonoNetwork, MonoOutput
from .dinov2 import PATCH, Dinov2


@dataclass(frozen=True)
class DepthAnythingConfig:
    """Shape of a network.

    width, depth, heads, grid: of the encoder. taken: the blocks whose tokens the decoder sees.
    channels: of these tokens, rearranged at 1/4, 1/8, 1/16 and 1/32 or so. fused: channels of the
    decoder. last: channels before the depth.
    """

    width: int
    depth: int
    heads: int
    taken: tuple[int, ...]
    channels: tuple[int, int, int, int]
    fused: int
    last: int = 32
    grid: int = 37
    expansion: int = 4


CONFIGS = {
    'small': DepthAnythingConfig(384, 12, 6, (2, 5, 8, 11), (48, 96, 192, 384), 64),
    'base': DepthAnythingConfig(768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768), 128),
    'large': DepthAnythingConfig(1024, 24, 16, (4, 11, 17, 23), (256, 512, 1024, 1024), 256),
}


class DepthAnything(MonoNetwork):
    """Relative inverse depth at the image's size, 0 or more."""

    convention = Convention(size_multiple=PATCH)
    zero_is_far = True

    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_channels = (config.width,) * len(config.taken)
        self.pretrained = Dinov2(
            config.width, config.depth, config.heads, config.grid, config.expansion
        )
        self.depth_head = _Decoder(config)

    @classmethod
    def named(cls, size: str) -> DepthAnything:
        """The released network of that size."""
        return cls(CONFIGS[size])

    def forward(self, image: Tensor) -> MonoOutput:
        rows, columns = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        tokens = self.pretrained(image, self.config.taken)
        features = tuple(t.transpose(1, 2).unflatten(2, (rows, columns)) for t in tokens)
        return MonoOutput(self.depth_head(features, image.shape[-2:]), features)


class _Decoder(nn.Module):
    def __init__(self, config: DepthAnythingConfig) -> None:
        super().__init__()
        a, b, c, d = config.channels
        self.projects = nn.ModuleList(nn.Conv2d(config.width, n, 1) for n in config.channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, a, 4, 4),
                nn.ConvTranspose2d(b, b, 2, 2),
                nn.Identity(),
                nn.Conv2d(d, d, 3, 2, 1),
            ]
        )
        self.scratch = scratch = nn.Module()
        for number, n in enumerate((a, b, c, d), 1):
            setattr(scratch, f'layer{number}_rn', nn.Conv2d(n, config.fused, 3, 1, 1, bias=False))
            setattr(scratch, f'refinenet{number}', _Fusion(config.fused))
        # The coarsest level is taken as it is: this unit has weights in the files, but no use.
        scratch.refinenet4.resConfUnit1.requires_grad_(False)
        scratch.output_conv1 = nn.Conv2d(config.fused, config.fused // 2, 3, 1, 1)
        scratch.output_conv2 = nn.Sequential(
            nn.Conv2d(config.fused // 2, config.last, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(config.last, 1, 1),
            nn.ReLU(),
        )

    def forward(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        levels = [
            getattr(self.scratch, f'layer{i + 1}_rn')(resize(project(feature)))
            for i, (project, resize, feature) in enumerate(
                zip(self.projects, self.resize_layers, features, strict=True)
            )
        ]
        x = None
        for number in (4, 3, 2, 1):
            # Each level comes to the size of the next finer one, the last to twice its own.
            level = levels[number - 1]
            finer = levels[number - 2].shape[-2:] if number > 1 else _doubled(level)
            x = getattr(self.scratch, f'refinenet{number}')(x, level, finer)
        x = _enlarged(self.scratch.output_conv1(x), size)
        return self.scratch.output_conv2(x)


class _Fusion(nn.Module):
    """Coarser features, if any, and the refined features of this level, at the size ``finer``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        self.resConfUnit1 = _Residual(channels)
        self.resConfUnit2 = _Residual(channels)

    def forward(self, coarser: Tensor | None, level: Tensor, finer: tuple[int, int]) -> Tensor:
        x = level if coarser is None else coarser + self.resConfUnit1(level)
        return self.out_conv(_enlarged(self.resConfUnit2(x), finer))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def _doubled(x: Tensor) -> tuple[int, int]:
    return 2 * x.shape[-2], 2 * x.shape[-1]


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=True)
