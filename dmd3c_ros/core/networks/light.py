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
_REACH_LEVELS = 5
_LOGIT_RANGE = 30.0
_SLOPE_GAIN = 40.0  # slopes of inverse depth are some percent a cell
_GAIN = 4.0  # brings differences of log depth, mostly below 0.3, near unit variance


class LightNet(CompletionNetwork):
    """Light completion network (9.6 GFLOP at 352x1216, 1.6 M parameters).

    channels: of the stages at 1/2, 1/4, 1/8, 1/16 and 1/32 resolution.
    blocks: residual blocks in the encoder's last four stages.
    """

    convention = Convention(size_multiple=32, point_distance=8.0)

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 64, 96, 128),
        blocks: tuple[int, ...] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.stem = _conv(30, channels[0])
        self.encoder = nn.ModuleList(
            nn.Sequential(_conv(a, b, stride=2), *(_Residual(b) for _ in range(n)))
            for (a, b), n in zip(pairwise(channels), blocks, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.decoder = nn.ModuleList(
            [_conv(channels[0], channels[0]), *(_Residual(c) for c in channels[1:-1])]
        )
        # At 1/4: correction, one set of weights a propagation step, upsampling to 1/2.
        self.coarse_head = nn.Conv2d(channels[1], 1 + 9 * len(PROPAGATION_DILATIONS) + 4 * 10, 1)
        # At 1/2: correction, upsampling to full resolution, trust.
        self.fine_head = nn.Conv2d(channels[0], 1 + 4 * 6 + 4, 1)
        # Begin at the prior: no correction, equal weights, and half trust everywhere.
        for head in (self.coarse_head, self.fine_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; confidence is P(relative error < 5 %)."""
        device = image.device.type
        lower = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            prior = _Prior(sparse.float())
            x = torch.cat([_unshuffle(image.float()), prior.features, _rays(prior, K)], 1)
        # Cast before the change of layout, which then moves fewer bytes.
        x = x if lower is None else x.to(lower)
        coarse, fine = self._trunk(x.contiguous(memory_format=torch.channels_last))
        with torch.autocast(device, enabled=False):
            return _select(coarse.float(), fine.float(), prior)

    def _trunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skips = [self.stem(x)]
        for stage in self.encoder:
            skips.append(stage(skips[-1]))
        decoded = [skips.pop()]
        for lateral, block in zip(reversed(self.lateral), reversed(self.decoder), strict=True):
            skip = skips.pop()
            up = F.interpolate(lateral(decoded[-1]), size=skip.shape[-2:], mode='bilinear')
            decoded.append(block(up + skip))
        return _planar(self.coarse_head, decoded[-2]), _planar(self.fine_head, decoded[-1])


class _Prior:
    """Dense log depth from the sparse points alone, in float32.

    sparse: (B, 1, H, W). Log depths are relative to ``mean`` (B, 1, 1, 1), the image's mean.
    own, known: (B, 4, H/2, W/2), measured log depth and its mask, four sub-pixels as channels.
    half, half_known: (B, 1, H/2, W/2), the dense prior and where a cell holds a measurement.
    quarter: (B, 1, H/4, W/4), the dense prior. features: (B, c, H/2, W/2), what the network sees.
    """

    def __init__(self, sparse: Tensor) -> None:
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
        self.quarter = -fit.planes[0].value.log() - inverse_mean
        size = self.own.shape[-2:]
        planes = refine(fit.planes[0])
        value = torch.minimum(torch.maximum(planes.value, fit.low), fit.high)
        smooth = -value.log() - inverse_mean
        share = self.known.mean(1, keepdim=True)
        self.half_known = (share > 0).float()
        measured = self.own.mean(1, keepdim=True) / share.clamp(min=0.25)
        self.half = smooth + (measured - smooth) * self.half_known
        coarse = -fit.planes[1].value.log() - inverse_mean
        coarse = F.interpolate(coarse, size=size, mode='bilinear')
        # The nearest surface around: where it differs, an occlusion is close.
        near = -F.max_pool2d(-self.quarter, (7, 5), (2, 2), (3, 2))
        near = F.interpolate(near, size=size, mode='nearest')
        support = F.interpolate(torch.log1p(fit.support), size=size, mode='bilinear')
        features = [
            coarse,
            (self.half - coarse) * _GAIN,
            (self.half - near) * _GAIN,
            ((self.own - coarse) * _GAIN).clamp(-4, 4) * self.known,
            self.known,
            _reach(self.half_known),
            (planes.slope_x / value * _SLOPE_GAIN).clamp(-4, 4),
            (planes.slope_y / value * _SLOPE_GAIN).clamp(-4, 4),
            ((self.half - smooth) * _GAIN).clamp(-4, 4),
            support,
        ]
        self.features = torch.cat(features, 1)


def _reach(known: Tensor) -> Tensor:
    """How far the nearest measurement is, (B, 1, h, w): 1 in a measured cell, less with every
    level of a pyramid of cells that holds none."""
    masks = [known]
    for _ in range(_REACH_LEVELS - 1):
        masks.append(F.max_pool2d(masks[-1], 2))
    reach = masks[-1]
    for mask in reversed(masks[:-1]):
        reach = F.interpolate(reach, scale_factor=2, mode='nearest') * 0.7
        reach = torch.maximum(reach, mask)
    return reach


def _rays(prior: _Prior, K: Tensor) -> Tensor:
    """(B, 2, H/2, W/2): slopes x/z and y/z of each cell's viewing ray."""
    height, width = prior.half.shape[-2:]
    K = K.float()
    # A cell's centre lies between its two pixels: 2 i + 0.5.
    u = torch.arange(width, device=K.device) * 2 + 0.5
    v = torch.arange(height, device=K.device) * 2 + 0.5
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
        log_depth = (near * affinity.softmax(1)).sum(1, keepdim=True)
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
    logits: (B, 4 * (len(offsets) + 1), h, w). Returns (B, 1, 2 h, 2 w).
    """
    # Softmax written out: a tenth of the memory traffic. Its range keeps every sum finite.
    weights = logits.clamp(-_LOGIT_RANGE, _LOGIT_RANGE).exp().unflatten(1, (4, len(offsets) + 1))
    total = weights[:, :, -1] * known
    fine = total * own
    near = _neighbours(log_depth, offsets, 1)
    for k in range(len(offsets)):
        total = total + weights[:, :, k]
        fine = torch.addcmul(fine, weights[:, :, k], near[:, k, None])
    return _shuffle(fine / total)


def _neighbours(x: Tensor, offsets: Offsets, dilation: int) -> Tensor:
    """(B, n, h, w): the cells at ``offsets`` (0 to 2, times dilation), borders repeated."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [dilation] * 4, mode='replicate')
    return torch.cat(
        [
            padded[..., i * dilation : i * dilation + height, j * dilation : j * dilation + width]
            for i, j in offsets
        ],
        1,
    )


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


def _planar(head: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of channels-last features whose result lies plane by plane.

    The selection reads plane by plane; written so at once, the result need not be rearranged,
    which took as long as the selection itself.
    """
    batch, _, height, width = x.shape
    weight = head.weight.flatten(1).expand(batch, -1, -1)
    bias = head.bias[:, None].expand(batch, -1, 1)
    return torch.baddbmm(bias, weight, x.flatten(2)).unflatten(2, (height, width))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)
