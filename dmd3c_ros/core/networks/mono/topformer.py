"""Token pyramid transformer, the student's encoder.

Zhang et al., "TopFormer: Token Pyramid Transformer for Mobile Semantic Segmentation", CVPR 2022.
A pyramid of inverted residuals gives tokens at 1/4, 1/8, 1/16 and 1/32; pooled to 1/64 and joined,
they attend to each other in one small transformer, whose semantics are injected back into the
tokens of each scale. Parameters bear the names of the released ImageNet and ADE20K weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stage = tuple[int, int, int, int]  # kernel, expansion, channels, stride


@dataclass(frozen=True)
class TopformerConfig:
    """Shape of an encoder.

    stages: of the pyramid, one inverted residual each. taken: the stages whose tokens count, one
    a scale. injected: channels of the tokens at 1/8, 1/16 and 1/32 after injection. heads: of the
    attention. depth: number of transformer blocks. key: channels of a query or key.
    """

    stages: tuple[Stage, ...]
    taken: tuple[int, ...]
    injected: int
    heads: int
    depth: int = 4
    key: int = 16
    drop_path: float = 0.1

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the tokens at 1/4, 1/8, 1/16 and 1/32."""
        return tuple(self.stages[i][2] for i in self.taken)


def _pyramid(channels: tuple[int, int, int, int], last: int) -> tuple[Stage, ...]:
    """The authors' stages: two a scale, ``last`` of them at 1/32."""
    a, b, c, d = channels
    return (
        (3, 1, 16, 1),
        (3, 4, a, 2),
        (3, 3, a, 1),
        (5, 3, b, 2),
        (5, 3, b, 1),
        (3, 3, c, 2),
        (3, 3, c, 1),
        (5, 6, d, 2),
        (5, 6, d, 1),
        (3, 6, d, 1),
    )[: 7 + last]


CONFIGS = {
    'tiny': TopformerConfig(_pyramid((16, 32, 64, 96), 2), (2, 4, 6, 8), 128, 4),
    'small': TopformerConfig(_pyramid((24, 48, 96, 128), 3), (2, 4, 6, 9), 192, 6),
    'base': TopformerConfig(_pyramid((32, 64, 128, 160), 3), (2, 4, 6, 9), 256, 8),
}


class Topformer(nn.Module):
    """Images (B, 3, H, W) -> tokens at 1/4, 1/8, 1/16 and 1/32; the last three injected."""

    def __init__(self, config: TopformerConfig) -> None:
        super().__init__()
        self.channels = (config.channels[0], *[config.injected] * 3)
        self._split = list(config.channels)
        self.tpm = _TokenPyramid(config)
        self.trans = _Transformer(sum(config.channels), config)
        # The finest scale gets no injection; the authors' list has a place for it all the same.
        self.SIM = nn.ModuleList(
            nn.Identity() if i == 0 else _Injection(c, config.injected)
            for i, c in enumerate(config.channels)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        tokens = self.tpm(image)
        height, width = tokens[-1].shape[-2:]
        size = (height + 1) // 2, (width + 1) // 2
        pooled = torch.cat([F.adaptive_avg_pool2d(t, size) for t in tokens], 1)
        semantics = self.trans(pooled).split(self._split, 1)
        pairs = zip(self.SIM[1:], tokens[1:], semantics[1:], strict=True)
        return (tokens[0], *(inject(t, s) for inject, t, s in pairs))


class _ConvNorm(nn.Sequential):
    """Convolution and batch norm under the authors' names ``c`` and ``bn``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
        self.add_module('c', conv)
        self.add_module('bn', nn.BatchNorm2d(outputs))


class _InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., CVPR 2018), with ReLU."""

    def __init__(self, inputs: int, stage: Stage) -> None:
        super().__init__()
        kernel, expansion, outputs, stride = stage
        hidden = inputs * expansion
        self._identity = stride == 1 and inputs == outputs
        widen = [_ConvNorm(inputs, hidden), nn.ReLU()] if expansion != 1 else []
        self.conv = nn.Sequential(
            *widen,
            _ConvNorm(hidden, hidden, kernel, stride, groups=hidden),
            nn.ReLU(),
            _ConvNorm(hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self._identity else self.conv(x)


class _TokenPyramid(nn.Module):
    def __init__(self, config: TopformerConfig) -> None:
        super().__init__()
        self._taken = set(config.taken)
        self.stem = nn.Sequential(_ConvNorm(3, 16, 3, 2), nn.ReLU())
        inputs = 16
        for index, stage in enumerate(config.stages):
            self.add_module(f'layer{index + 1}', _InvertedResidual(inputs, stage))
            inputs = stage[2]
        self._count = len(config.stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, tokens = self.stem(image), []
        for index in range(self._count):
            x = getattr(self, f'layer{index + 1}')(x)
            if index in self._taken:
                tokens.append(x)
        return tokens


class _Attention(nn.Module):
    """Attention of all pooled tokens to each other; as released, products are not scaled."""

    def __init__(self, channels: int, key: int, heads: int) -> None:
        super().__init__()
        self._heads, self._key, self._value = heads, key, 2 * key
        self.to_q = _ConvNorm(channels, key * heads)
        self.to_k = _ConvNorm(channels, key * heads)
        self.to_v = _ConvNorm(channels, self._value * heads)
        self.proj = nn.Sequential(nn.ReLU6(), _ConvNorm(self._value * heads, channels))
        nn.init.zeros_(self.proj[1].bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q, k, v = (
            to(x).view(batch, self._heads, size, height * width).transpose(2, 3)
            for to, size in (
                (self.to_q, self._key),
                (self.to_k, self._key),
                (self.to_v, self._value),
            )
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.proj(out.transpose(2, 3).reshape(batch, -1, height, width))


class _FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.fc1 = _ConvNorm(channels, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.act = nn.ReLU6()
        self.fc2 = _ConvNorm(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.dwconv(self.fc1(x))))


class _Block(nn.Module):
    def __init__(self, channels: int, config: TopformerConfig, drop: float) -> None:
        super().__init__()
        self.attn = _Attention(channels, config.key, config.heads)
        self.mlp = _FeedForward(channels)
        self._drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self.attn(x))
        return x + self._dropped(self.mlp(x))

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth (Huang et al., ECCV 2016), drawn for each image."""
        if not self.training or not self._drop:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self._drop
        return x * kept.to(x.dtype) / (1 - self._drop)


class _Transformer(nn.Module):
    def __init__(self, channels: int, config: TopformerConfig) -> None:
        super().__init__()
        drops = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.transformer_blocks = nn.ModuleList(_Block(channels, config, d) for d in drops)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.transformer_blocks:
            x = block(x)
        return x


class _NamedConv(nn.Module):
    """Pointwise convolution and batch norm under the names ``conv`` and ``bn``."""

    FOLDS = (('conv', 'bn'),)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class _Injection(nn.Module):
    """Global semantics into local tokens: local * gate + semantics."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.local_embedding = _NamedConv(inputs, outputs)
        self.global_embedding = _NamedConv(inputs, outputs)
        self.global_act = _NamedConv(inputs, outputs)

    def forward(self, local: Tensor, semantics: Tensor) -> Tensor:
        size = local.shape[-2:]
        gate = F.interpolate(F.hardsigmoid(self.global_act(semantics)), size=size, mode='bilinear')
        added = F.interpolate(self.global_embedding(semantics), size=size, mode='bilinear')
        return self.local_embedding(local) * gate + added
