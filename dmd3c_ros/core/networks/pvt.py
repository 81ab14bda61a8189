"""Encoder of CompletionFormer: a pyramid of joint convolutional-attention blocks.

Zhang et al., "CompletionFormer: Depth Completion with Convolutions and Vision Transformers",
CVPR 2023, Sec. 3.2, on the Pyramid Vision Transformer (Wang et al., ICCV 2021): each block runs
spatial-reduction attention and a convolutional block (CBAM) side by side and merges both.
Two residual stages (those of ResNet-34) come first.

The module tree carries the names of the authors' released checkpoints.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cbam import CbamBlock

DIMENSIONS = (64, 128, 320, 512)
_DEPTHS = (3, 4, 6, 3)
_HEADS = (1, 2, 5, 8)
_HIDDEN_RATIOS = (8, 8, 4, 4)
_REDUCTIONS = (8, 4, 2, 1)
# Sides of the square grids of positions that stages 1 to 4 learn. The last one keeps one more
# entry, the class token's of an image classifier, which is read from a checkpoint and not used.
_GRID_SIDES = (112, 28, 14, 7)
_DROP_PATH = 0.1  # of the last block; it rises linearly from 0


class ResNetBlock(nn.Module):
    """Residual block of ResNet-34 (He et al., CVPR 2016, Fig. 5 left)."""

    FOLDS = (('conv1', 'bn1'), ('conv2', 'bn2'))

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class DropPath(nn.Module):
    """Stochastic depth: drops the branch of a whole sample with the given probability."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (kept / keep)


class Mlp(nn.Module):
    def __init__(self, dimension: int, ratio: int):
        super().__init__()
        self.fc1 = nn.Linear(dimension, dimension * ratio)
        self.fc2 = nn.Linear(dimension * ratio, dimension)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Multi-head attention to a map whose sides are reduced by a strided convolution (PVT)."""

    def __init__(self, dimension: int, heads: int, reduction: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dimension, dimension)
        self.kv = nn.Linear(dimension, 2 * dimension)
        self.proj = nn.Linear(dimension, dimension)
        self.reduction = reduction
        if reduction > 1:
            self.sr = nn.Conv2d(dimension, dimension, reduction, reduction)
            self.norm = nn.LayerNorm(dimension)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """x: (B, height * width, C) tokens, normalized."""
        query = self._split(self.q(x))
        if self.reduction > 1:
            x = self.norm(_to_tokens(self.sr(_to_map(x, height, width))))
        key, value = self.kv(x).chunk(2, dim=-1)
        out = F.scaled_dot_product_attention(query, self._split(key), self._split(value))
        return self.proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class JointBlock(nn.Module):
    """Attention and convolution side by side (CompletionFormer, Fig. 2d)."""

    def __init__(self, stage: int, drop_path: float):
        super().__init__()
        dimension = DIMENSIONS[stage]
        self.norm1 = nn.LayerNorm(dimension, eps=1e-6)
        self.attn = Attention(dimension, _HEADS[stage], _REDUCTIONS[stage])
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dimension, eps=1e-6)
        self.mlp = Mlp(dimension, _HIDDEN_RATIOS[stage])
        self.resblock = CbamBlock(dimension)
        self.concat_conv = nn.Conv2d(2 * dimension, dimension, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W)."""
        height, width = x.shape[-2:]
        tokens = _to_tokens(x)
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), height, width))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        joined = (_to_map(tokens, height, width), self.resblock(x))
        return self.concat_conv(torch.cat(joined, dim=1))


class PatchEmbedding(nn.Module):
    """Halves the size: one token for each 2 x 2 pixels."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, 2, 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor, position: Tensor, side: int) -> Tensor:
        """Return (B, C, H // 2, W // 2), with the learned positions added.

        position: (1, side^2 or more, C); the grid is resampled to the size of the map.
        """
        x = self.proj(x)
        height, width = x.shape[-2:]
        grid = _to_map(position[:, position.shape[1] - side * side :], side, side)
        if (height, width) != (side, side):
            grid = F.interpolate(grid, size=(height, width), mode='bilinear')
        return _to_map(self.norm(_to_tokens(x)), height, width) + grid


class JointPyramid(nn.Module):
    """(B, 64, H, W) -> features of 64, 128, 64, 128, 320, 512 channels.

    Their sizes are 1, 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's.
    """

    def __init__(self):
        super().__init__()
        self.embed_layer1 = nn.Sequential(*(ResNetBlock(64, 64) for _ in range(3)))
        self.embed_layer2 = nn.Sequential(
            ResNetBlock(64, 128, stride=2), *(ResNetBlock(128, 128) for _ in range(3))
        )
        rates = np.linspace(0.0, _DROP_PATH, sum(_DEPTHS)).tolist()
        inputs = 128
        for stage, dimension in enumerate(DIMENSIONS):
            last = stage == len(DIMENSIONS) - 1
            position = torch.empty(1, _GRID_SIDES[stage] ** 2 + int(last), dimension)
            nn.init.trunc_normal_(position, std=0.02)
            blocks = nn.ModuleList(JointBlock(stage, rates.pop(0)) for _ in range(_DEPTHS[stage]))
            setattr(self, f'patch_embed{stage + 1}', PatchEmbedding(inputs, dimension))
            setattr(self, f'pos_embed{stage + 1}', nn.Parameter(position))
            setattr(self, f'block{stage + 1}', blocks)
            inputs = dimension
        self.apply(_initialize)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.embed_layer1(x)]
        features.append(self.embed_layer2(features[-1]))
        for stage, side in enumerate(_GRID_SIDES, start=1):
            position = getattr(self, f'pos_embed{stage}')
            x = getattr(self, f'patch_embed{stage}')(features[-1], position, side)
            for block in getattr(self, f'block{stage}'):
                x = block(x)
            features.append(x)
        return features


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, H W, C) -> (B, C, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))
