"""LightNet: depth completion for machines without a GPU.

A residual U-Net at half resolution that never regresses a depth from nothing. It corrects a dense
prior, planes fitted to the sparse points (``core.ops.planes``), and then only *selects*: every
pixel is a convex combination of depths near it, its own measurement among them. Selection keeps
edges sharp, where regression blends the two sides. All depths are logarithmic and relative to the
image's mean, so that the network is invariant to scale: a room and a street look alike to it.

Convex upsampling follows RAFT (Teed and Deng, ECCV 2020, section 3.3); affinity propagation
follows CSPN (Cheng et al., ECCV 2018), here with softmax weights and shrinking dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.ops.planes import fit_planes, refine

from .base import CompletionNetwork, Convention, NetworkOutput

PROPAGATION_DILATIONS = (3, 1)
_CROSS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))  # a cell and its four direct neighbours
Offsets = tuple[tuple[int, int], ...]
_SQUARE = tuple((i, j) for i in range(3) for j in range(3))
# Of the upsampling, in the heads' channels: the first, and the number of candidates, the cells
# around and the pixel's own measurement.
_COARSE_LOGITS = 1 + len(_SQUARE) * len(PROPAGATION_DILATIONS), len(_SQUARE) + 1
_FINE_LOGITS = 1, len(_CROSS) + 1
_LOGIT_RANGE = 30.0
_SLOPE_GAIN = 20.0  # slopes of inverse depth are some percent a cell
_GAIN = 4.0  # brings differences of log depth, mostly below 0.3, near unit variance


class LightNet(CompletionNetwork):
    """Light completion network (5 GFLOP at 352x1216, 1.0 M parameters).

    channels: of the stages at 1/2, 1/4, 1/8, 1/16 and 1/32 resolution.
    blocks: residual blocks in the encoder's last three stages.
    """

    convention = Convention(size_multiple=32, point_distance=8.0)

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 48, 96, 128),
        blocks: tuple[int, ...] = (1, 2, 1),
    ) -> None:
        super().__init__()
        half, quarter, *rest = channels
        self.image_stem = _conv_norm(3, half, kernel=4, stride=2)
        self.depth_stem = _conv_norm(_Prior.HALF_FEATURES, half)
        self.quarter = _conv_norm(half, quarter, stride=2)
        # Smooth maps tell the same at a quarter of the resolution.
        self.quarter_prior = nn.Conv2d(_Prior.QUARTER_FEATURES, quarter, 1)
        self.encoder = nn.ModuleList([_conv(quarter, quarter)])
        for (a, b), count in zip(pairwise([quarter, *rest]), blocks, strict=True):
            self.encoder.append(
                nn.Sequential(_conv(a, b, stride=2), *(_Residual(b) for _ in range(count)))
            )
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.decoder = nn.ModuleList(_conv(c, c) for c in channels[:-1])
        # At 1/4: correction, one set of weights a propagation step, upsampling to 1/2.
        start, candidates = _COARSE_LOGITS
        self.coarse_head = nn.Conv2d(quarter, start + 4 * candidates, 1)
        # At 1/2: correction, upsampling to full resolution, trust.
        start, candidates = _FINE_LOGITS
        self.fine_head = nn.Conv2d(half, start + 4 * candidates + 4, 1)
        # Begin at the prior: no correction, equal weights, and half trust everywhere.
        for head in (self.coarse_head, self.fine_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; confidence is P(relative error < 5 %)."""
        device = image.device.type
        with torch.autocast(device, enabled=False):
            prior = _Prior(sparse.float(), K.float())
        coarse, fine = self._trunk(image, prior.half_features, prior.quarter_features)
        with torch.autocast(device, enabled=False):
            return _select(coarse.float(), fine.float(), prior)

    def _trunk(self, image: Tensor, half: Tensor, quarter: Tensor) -> tuple[Tensor, Tensor]:
        layout = torch.channels_last
        image, half, quarter = (x.contiguous(memory_format=layout) for x in (image, half, quarter))
        skips = [F.relu(self.image_stem(image) + self.depth_stem(half), inplace=True)]
        x = F.relu(self.quarter(skips[0]) + self.quarter_prior(quarter), inplace=True)
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        decoded = [skips.pop()]
        for lateral, block in zip(reversed(self.lateral), reversed(self.decoder), strict=True):
            skip = skips.pop()
            up = F.interpolate(lateral(decoded[-1]), size=skip.shape[-2:], mode='bilinear')
            decoded.append(block(up + skip))
        return (
            _planar(self.coarse_head, decoded[-2], *_COARSE_LOGITS),
            _planar(self.fine_head, decoded[-1], *_FINE_LOGITS),
        )


class _Prior:
    """Dense log depth from the sparse points alone, in float32.

    sparse: (B, 1, H, W). K: (B, 3, 3). Log depths are relative to ``mean`` (B, 1, 1, 1), the
    image's mean. own, known: (B, 4, H/2, W/2), measured log depth and its mask, four sub-pixels as
    channels. half, half_known: (B, 1, H/2, W/2), the dense prior and where a cell holds a
    measurement. quarter: (B, 1, H/4, W/4), the dense prior. half_features, quarter_features:
    (B, c, H/2, W/2) and (B, c, H/4, W/4), what the network sees.
    """

    HALF_FEATURES = 4
    QUARTER_FEATURES = 8

    def __init__(self, sparse: Tensor, K: Tensor) -> None:
        fit = fit_planes(sparse)
        sparse = _unshuffle(sparse)
        measured = sparse > 0
        self.known = measured.float()
        log = torch.where(measured, sparse, 1.0).log()
        # With no point at all the mean depth is taken as 1 m: a defined, finite output.
        count = self.known.sum((1, 2, 3), keepdim=True)
        self.mean = log.sum((1, 2, 3), keepdim=True) / count.clamp(min=1)
        self.own = (log - self.mean) * self.known
        inverse_mean = fit.mean.log() + self.mean
        self.quarter = -fit.fine.value.log() - inverse_mean
        planes = refine(fit.fine)
        value = torch.minimum(torch.maximum(planes.value, fit.low), fit.high)
        smooth = -value.log() - inverse_mean
        fraction = self.known.mean(1, keepdim=True)
        self.half_known = (fraction > 0).float()
        measured = self.own.mean(1, keepdim=True) / fraction.clamp(min=0.25)
        relief = (measured - smooth) * self.half_known
        self.half = smooth + relief
        quarter_size, half_size = self.quarter.shape[-2:], smooth.shape[-2:]
        coarse = -fit.coarse.value.log() - inverse_mean
        coarse = F.interpolate(coarse, size=quarter_size, mode='bilinear')
        # The nearest surface around: where it differs, an occlusion is close.
        near = -F.max_pool2d(-self.quarter, (7, 5), (2, 2), (3, 2))
        above = F.interpolate(near, size=half_size, mode='nearest')
        near = F.interpolate(near, size=quarter_size, mode='nearest')
        self.half_features = torch.cat(
            [
                smooth,
                (self.half - above) * _GAIN,
                (relief * _GAIN).clamp(-4, 4),
                self.half_known,
            ],
            1,
        )
        slopes = torch.cat([fit.fine.slope_x, fit.fine.slope_y], 1) / fit.fine.value
        self.quarter_features = torch.cat(
            [
                self.quarter,
                (self.quarter - coarse) * _GAIN,
                (self.quarter - near) * _GAIN,
                (slopes * _SLOPE_GAIN).clamp(-4, 4),
                torch.log1p(fit.support),
                _rays(K, *quarter_size),
            ],
            1,
        )


def _rays(K: Tensor, height: int, width: int) -> Tensor:
    """(B, 2, height, width): slopes x/z and y/z of the viewing rays of cells of 4 pixels."""
    # A cell's centre lies between its pixels: 4 i + 1.5.
    u = torch.arange(width, device=K.device) * 4 + 1.5
    v = torch.arange(height, device=K.device) * 4 + 1.5
    x = (u[None] - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (v[None] - K[:, 1, 2, None]) / K[:, 1, 1, None]
    x = x[:, None, None, :].expand(-1, 1, height, -1)
    y = y[:, None, :, None].expand(-1, 1, -1, width)
    return torch.cat([x, y], 1)


def _select(coarse: Tensor, fine: Tensor, prior: _Prior) -> NetworkOutput:
    """Turn the heads' channels into depth: correct the prior, propagate, upsample twice."""
    steps = len(PROPAGATION_DILATIONS)
    correction, *affinities, upsampling = coarse.split([1, *[9] * steps, 40], 1)
    log_depth = prior.quarter + correction
    for affinity, dilation in zip(affinities, PROPAGATION_DILATIONS, strict=True):
        near = _neighbours(log_depth, _SQUARE, dilation)
        log_depth = _blend(near, affinity)
    outputs = [log_depth]
    own = _unshuffle(prior.half)
    known = _unshuffle(prior.half_known)
    log_depth = _upsample(log_depth, own, known, upsampling, _SQUARE)
    correction, upsampling, trust = fine.split([1, 24, 4], 1)
    log_depth = log_depth + correction
    outputs.append(log_depth)
    outputs.append(_upsample(log_depth, prior.own, prior.known, upsampling, _CROSS))
    pyramid = tuple(torch.exp(x + prior.mean) for x in outputs)
    confidence = torch.sigmoid(_shuffle(trust))
    return NetworkOutput(pyramid[-1], confidence, pyramid)


def _upsample(
    log_depth: Tensor, own: Tensor, known: Tensor, logits: Tensor, offsets: Offsets
) -> Tensor:
    """Double the resolution: each sub-pixel selects among its neighbours and its own measurement.

    log_depth: (B, 1, h, w); own, known: (B, 4, h, w), the measurements of the four sub-pixels;
    logits: (B, (len(offsets) + 1) * 4, h, w), as ``_planar`` orders them. Returns
    (B, 1, 2 h, 2 w).
    """
    return _shuffle(_blend([*_neighbours(log_depth, offsets, 1), own], logits, known))


def _blend(values: Sequence[Tensor], logits: Tensor, known: Tensor | float = 1.0) -> Tensor:
    """(B, c, h, w): mean of n values (B, 1 or c, h, w), weighted by the softmax of their logits.

    logits: (B, n * c, h, w), value by value. known: mask of the last value.
    """
    # Softmax written out: a tenth of the memory traffic. Its range keeps every sum finite.
    weights = logits.clamp(-_LOGIT_RANGE, _LOGIT_RANGE).exp()
    *weights, last = weights.split(logits.shape[1] // len(values), 1)
    total = last * known
    blended = total * values[-1]
    for weight, value in zip(weights, values[:-1], strict=True):
        total = total + weight
        blended = torch.addcmul(blended, weight, value)
    return blended / total


def _neighbours(x: Tensor, offsets: Offsets, dilation: int) -> list[Tensor]:
    """Maps like x (B, 1, h, w), of the cells at ``offsets`` (0 to 2, times dilation) from each.

    Borders are repeated.
    """
    height, width = x.shape[-2:]
    # F.pad(mode='replicate') says the same, but Inductor of PyTorch 2.13 fails on it.
    top, bottom = (row.expand(-1, -1, dilation, -1) for row in (x[:, :, :1], x[:, :, -1:]))
    padded = torch.cat([top, x, bottom], 2)
    left, right = (
        column.expand(-1, -1, -1, dilation) for column in (padded[..., :1], padded[..., -1:])
    )
    padded = torch.cat([left, padded, right], 3)
    return [
        padded[..., i * dilation : i * dilation + height, j * dilation : j * dilation + width]
        for i, j in offsets
    ]


def _unshuffle(x: Tensor) -> Tensor:
    """F.pixel_unshuffle(x, 2), (B, 4 c, H/2, W/2), in a third of its time on a CPU."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(batch, 4 * channels, height // 2, width // 2)


def _shuffle(x: Tensor) -> Tensor:
    """F.pixel_shuffle(x, 2) of (B, 4, h, w): (B, 1, 2 h, 2 w)."""
    batch, _, height, width = x.shape
    rows = x.reshape(batch, 2, 2, height, width).permute(0, 3, 1, 4, 2)
    return rows.reshape(batch, 1, 2 * height, 2 * width)


def _planar(head: nn.Conv2d, x: Tensor, start: int, candidates: int) -> Tensor:
    """A 1x1 convolution of channels-last features whose result lies plane by plane.

    The selection reads plane by plane; written so at once, the result need not be rearranged,
    which took as long as the selection itself. The logits from channel ``start`` on come candidate
    by candidate, four sub-pixels each; the head's weights hold them sub-pixel by sub-pixel.
    """
    batch, _, height, width = x.shape
    weight = _by_candidate(head.weight.flatten(1), start, candidates).expand(batch, -1, -1)
    bias = _by_candidate(head.bias[:, None], start, candidates).expand(batch, -1, 1)
    return torch.baddbmm(bias, weight, x.flatten(2)).unflatten(2, (height, width))


def _by_candidate(rows: Tensor, start: int, candidates: int) -> Tensor:
    before, logits, after = rows.tensor_split((start, start + 4 * candidates))
    return torch.cat([before, logits.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1), after])


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False), nn.BatchNorm2d(outputs)
    )


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(inputs, outputs, stride=stride), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)
