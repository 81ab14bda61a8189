"""LightNet: depth completion for machines without a GPU.

A residual U-Net at half resolution that never regresses a depth from nothing. It corrects a dense
prior, planes fitted to the sparse points (``core.ops.planes``), and then only *selects*: every
pixel is a convex combination of depths near it, its own measurement among them. Selection keeps
edges sharp, where regression blends the two sides. What the points around say against the result,
at 1/4 and at full resolution, corrects it. All depths are logarithmic and relative to the image's
mean, so that the network is invariant to scale: a room and a street look alike to it.

Convex upsampling follows RAFT (Teed and Deng, ECCV 2020, section 3.3); affinity propagation
follows CSPN (Cheng et al., ECCV 2018), here with softmax weights and shrinking dilation; residuals
are spread by normalized convolution (Knutsson and Westin, CVPR 1993) on a pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.ops.planes import fit_planes, refined_value

from .base import CompletionNetwork, Convention, NetworkOutput

PROPAGATION_DILATIONS = (3, 1)
_CROSS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))  # a cell and its four direct neighbours
Offsets = tuple[tuple[int, int], ...]
_SQUARE = tuple((i, j) for i in range(3) for j in range(3))
# Candidates of each upsampling: the cells around, and the pixel's own measurement.
_COARSE_CANDIDATES, _FINE_CANDIDATES = len(_SQUARE) + 1, len(_CROSS) + 1
_LOGIT_RANGE = 80.0
_SLOPE_GAIN = 20.0  # slopes of inverse depth are some percent a cell
_UNTRUSTED = -4.0  # logit of a guide that nothing has been learned of
_RESIDUAL_LEVELS = 4  # residuals are spread from 1/4 to 1/32 resolution
_RESIDUAL_OUTLIER = 0.03  # residual of log depth with a quarter of the weight: another surface
_RESIDUAL_PRIOR = 0.1  # weight of the level above; a point alone in its window has as much
_GAIN = 4.0  # brings differences of log depth, mostly below 0.3, near unit variance


class LightNet(CompletionNetwork):
    """Light completion network (5 GFLOP at 352x1216, 1.0 M parameters).

    channels: of the stages at 1/2, 1/4, 1/8, 1/16 and 1/32 resolution.
    blocks: residual blocks in the encoder's last three stages.
    guided: whether it takes a dense guide as well, such as aligned monocular depth. It begins as
        the network without one, whose weights it also loads.
    """

    convention = Convention(
        size_multiple=32,
        point_distance=12.0,
        blurred_below=7.0,
        contrast=(6.0, 6.0, 6.0),
        drops_enclosed=True,
    )

    def __init__(
        self,
        channels: tuple[int, ...] = (16, 32, 48, 96, 128),
        blocks: tuple[int, ...] = (1, 2, 1),
        guided: bool = False,
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
        propagation = len(PROPAGATION_DILATIONS) * len(_SQUARE)
        self.coarse_head = nn.Conv2d(quarter, 1 + propagation + 4 * _COARSE_CANDIDATES, 1)
        # At 1/2: correction, upsampling to full resolution, trust.
        self.fine_head = nn.Conv2d(half, 1 + 4 * _FINE_CANDIDATES + 4, 1)
        # Begin at the prior: no correction, equal weights, and half trust everywhere.
        for head in (self.coarse_head, self.fine_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.guided = guided
        if guided:
            self.guide_stem = nn.Conv2d(_Guide.HALF_FEATURES, half, 3, padding=1, bias=False)
            self.quarter_guide = nn.Conv2d(_Guide.QUARTER_FEATURES, quarter, 1, bias=False)
            self.coarse_guide_head = nn.Conv2d(quarter, 1 + 4, 1)
            self.fine_guide_head = nn.Conv2d(half, 4, 1)
            for head in (self.coarse_guide_head, self.fine_guide_head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)
                nn.init.constant_(head.bias[-4:], _UNTRUSTED)
            for stem in (self.guide_stem, self.quarter_guide):
                nn.init.zeros_(stem.weight)

    def forward(
        self, image: Tensor, sparse: Tensor, K: Tensor, guide: Tensor | None = None
    ) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; confidence is P(relative error < 5 %).

        guide: what a guided network takes; None: unknown everywhere.
        """
        device = image.device.type
        with torch.autocast(device, enabled=False):
            prior = _Prior(sparse.float(), K.float())
            hint = None
            if self.guided:
                guide = torch.zeros_like(sparse) if guide is None else guide
                hint = _Guide(guide.float(), prior)
        quarter, half = self._trunk(image, prior, hint)
        coarse, fine = self._coarse_maps(quarter), self._fine_maps(half)
        with torch.autocast(device, enabled=False):
            return _select(prior, hint, [x.float() for x in coarse], [x.float() for x in fine])

    def _trunk(self, image: Tensor, prior: _Prior, guide: _Guide | None) -> tuple[Tensor, Tensor]:
        """Features at 1/4 and at 1/2 resolution."""
        half = self.depth_stem(_last(prior.half_features))
        quarter = self.quarter_prior(_last(prior.quarter_features))
        if guide is not None:
            half = half + self.guide_stem(_last(guide.half_features))
            quarter = quarter + self.quarter_guide(_last(guide.quarter_features))
        skips = [F.relu(self.image_stem(_last(image)) + half, inplace=True)]
        x = F.relu(self.quarter(skips[0]) + quarter, inplace=True)
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        decoded = [skips.pop()]
        for lateral, block in zip(reversed(self.lateral), reversed(self.decoder), strict=True):
            skip = skips.pop()
            up = F.interpolate(lateral(decoded[-1]), size=skip.shape[-2:], mode='bilinear')
            decoded.append(block(up + skip))
        return decoded[-2], decoded[-1]

    def _coarse_maps(self, features: Tensor) -> list[Tensor]:
        """What the heads at 1/4 say: correction, logits of each propagation step and of the
        upsampling, and with a guide its gate."""
        steps = len(PROPAGATION_DILATIONS)
        correction, *affinities, upsampling = _rows(self.coarse_head).split(
            [1, *[len(_SQUARE)] * steps, 4 * _COARSE_CANDIDATES]
        )
        gate, guided = [], []
        if self.guided:
            *gate, guided = _rows(self.coarse_guide_head).split([1, 4])
            guided = [guided]
        upsampling = _by_candidate(upsampling, _COARSE_CANDIDATES)
        relative = [
            *(_relative(rows, 1) for rows in affinities),
            _relative(torch.cat([upsampling, *guided]), 4),
        ]
        return _planes([correction, *relative, *gate], features)

    def _fine_maps(self, features: Tensor) -> list[Tensor]:
        """What the heads at 1/2 say: correction, logits of the upsampling, and trust."""
        correction, upsampling, trust = _rows(self.fine_head).split([1, 4 * _FINE_CANDIDATES, 4])
        guided = [_rows(self.fine_guide_head)] if self.guided else []
        upsampling = torch.cat([_by_candidate(upsampling, _FINE_CANDIDATES), *guided])
        return _planes([correction, _relative(upsampling, 4), trust], features)


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
        self.known = sparse.sign()
        log = (sparse + (1 - self.known)).log()
        # With no point at all the mean depth is taken as 1 m: a defined, finite output.
        count = self.known.sum((1, 2, 3), keepdim=True)
        self.mean = log.sum((1, 2, 3), keepdim=True) / count.clamp(min=1)
        self.own = (log - self.mean) * self.known
        inverse_mean = fit.mean.log() + self.mean
        self.quarter = -fit.fine.value.log() - inverse_mean
        value = torch.minimum(torch.maximum(refined_value(fit.fine), fit.low), fit.high)
        smooth = -value.log() - inverse_mean
        fraction = self.known.mean(1, keepdim=True)
        self.half_known = (fraction > 0).float()
        measured = self.own.mean(1, keepdim=True) / fraction.clamp(min=0.25)
        relief = (measured - smooth) * self.half_known
        self.half = smooth + relief
        quarter_size, half_size = self.quarter.shape[-2:], smooth.shape[-2:]
        coarse = _doubled(-fit.coarse.value.log() - inverse_mean)
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


class _Guide:
    """Dense log depth of another source, relative to the prior's mean, and where it is known.

    depth: (B, 1, H, W), 0 = unknown. fine, half: (B, 4, H/2, W/2) and (B, 4, H/4, W/4), four
    sub-pixels as channels, at full and at half resolution; fine_known, half_known: their masks.
    step: (B, 1, H/4, W/4), from the prior to the guide. half_features, quarter_features: as the
    prior's.
    """

    HALF_FEATURES = 2
    QUARTER_FEATURES = 3

    def __init__(self, depth: Tensor, prior: _Prior) -> None:
        depth = _unshuffle(depth)
        known = depth > 0
        self.fine_known = known.float()
        self.fine = (torch.where(known, depth, 1.0).log() - prior.mean) * self.fine_known
        half, half_known = self.fine.mean(1, keepdim=True), self.fine_known.amin(1, keepdim=True)
        self.half, self.half_known = _unshuffle(half), _unshuffle(half_known)
        quarter = self.half.mean(1, keepdim=True)
        known = self.half_known.amin(1, keepdim=True)
        self.step = (quarter - prior.quarter) * known
        above = F.interpolate(quarter, size=half.shape[-2:], mode='bilinear')
        differences = torch.cat([half - prior.half, half - above], 1)
        self.half_features = (differences * _GAIN).clamp(-4, 4) * half_known
        self.quarter_features = torch.cat(
            [(self.step * _GAIN).clamp(-4, 4), quarter * known, known], 1
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


def _select(
    prior: _Prior, guide: _Guide | None, coarse: list[Tensor], fine: list[Tensor]
) -> NetworkOutput:
    """Turn what the heads say into depth: correct the prior, propagate, upsample twice."""
    correction, *affinities = coarse
    log_depth = prior.quarter + correction
    halves = [(_unshuffle(prior.half), _unshuffle(prior.half_known))]
    pixels = [(prior.own, prior.known)]
    if guide is not None:
        log_depth = log_depth + affinities.pop() * guide.step
        halves.append((guide.half, guide.half_known))
        pixels.append((guide.fine, guide.fine_known))
    coarse_logits = affinities.pop()
    correction, fine_logits, trust = fine
    for affinity, dilation in zip(affinities, PROPAGATION_DILATIONS, strict=True):
        near = _neighbours(log_depth, _SQUARE, dilation)
        log_depth = _blend([(value, None) for value in near], affinity)
    log_depth = log_depth + _spread_residuals(_doubled(log_depth), prior)
    outputs = [log_depth]
    log_depth = _shuffle(_upsample(log_depth, halves, coarse_logits, _SQUARE)) + correction
    outputs.append(log_depth)
    log_depth = _upsample(log_depth, pixels, fine_logits, _CROSS)
    outputs.append(_shuffle(log_depth + _doubled(_spread_residuals(log_depth, prior))))
    pyramid = tuple(torch.exp(x + prior.mean) for x in outputs)
    confidence = torch.sigmoid(_shuffle(trust))
    return NetworkOutput(pyramid[-1], confidence, pyramid)


def _spread_residuals(log_depth: Tensor, prior: _Prior) -> Tensor:
    """What points around each cell of 4 pixels have more than log_depth on average.

    log_depth: (B, 1 or 4, H/2, W/2), of cells of 2 pixels or of their sub-pixels. Returns
    (B, 1, H/4, W/4). Each level of the pyramid is the mean of its own points and of the level
    above, which counts as one point: near points decide, many even out their noise, and far from
    all of them nothing changes.
    """
    residual = (prior.own - log_depth) * prior.known
    weight = prior.known / (1 + (residual / _RESIDUAL_OUTLIER) ** 2) ** 2
    maps = [x.sum(1, keepdim=True) for x in (weight, weight * residual)]
    levels = []
    for _ in range(_RESIDUAL_LEVELS):
        # Overlapping windows: what is spread hardly depends on where the image begins.
        maps = [F.avg_pool2d(x, 4, 2, 1) * 4 for x in maps]
        levels.append([F.avg_pool2d(x, 3, 1, 1) for x in maps])
    weight, total = levels.pop()
    above = total / (weight + _RESIDUAL_PRIOR)
    for weight, total in reversed(levels):
        above = (total + _RESIDUAL_PRIOR * _doubled(above)) / (weight + _RESIDUAL_PRIOR)
    return above


def _doubled(x: Tensor) -> Tensor:
    """(B, 1, h, w) at twice the resolution, (B, 1, 2 h, 2 w), interpolated linearly.

    F.interpolate says the same, but takes OpenVINO four times as long for a single map, which it
    rounds to bfloat16 where the processor has that: 0.4 % of a depth, as much as there is to
    correct.
    """
    a, b, c, d, e, f, g, h, i = _neighbours(x, _SQUARE, 1)
    corners = (a, b, d), (c, b, f), (g, h, d), (i, h, f)
    cells = [(9 * e + 3 * (above + beside) + corner) / 16 for corner, above, beside in corners]
    return _shuffle(torch.cat(cells, 1))


def _upsample(
    log_depth: Tensor, others: Sequence[tuple[Tensor, Tensor]], logits: Tensor, offsets: Offsets
) -> Tensor:
    """Double the resolution: each sub-pixel selects among its neighbours and what else is known.

    log_depth: (B, 1, h, w); others: values (B, 4, h, w) of the four sub-pixels, measured ones
    among them, and their masks; logits: (B, (len(offsets) + len(others) - 1) * 4, h, w), as of
    ``_blend``. Returns (B, 4, h, w), likewise.
    """
    near = [(value, None) for value in _neighbours(log_depth, offsets, 1)]
    return _blend([*near, *others], logits)


def _blend(candidates: Sequence[tuple[Tensor, Tensor | None]], logits: Tensor) -> Tensor:
    """(B, c, h, w): mean of n values (B, 1 or c, h, w), weighted by the softmax of their logits.

    candidates: values and masks, None for one that is known everywhere, as the first is.
    logits: (B, (n - 1) * c, h, w), value by value, relative to that of the first.
    """
    (blended, _), *others = candidates
    # Softmax written out: a tenth of the memory traffic. Its range keeps every sum finite.
    weights = logits.clamp(-_LOGIT_RANGE, _LOGIT_RANGE).exp()
    total = 1.0
    for weight, (value, known) in zip(
        weights.split(logits.shape[1] // len(others), 1), others, strict=True
    ):
        weight = weight if known is None else weight * known
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


def _rows(head: nn.Conv2d) -> Tensor:
    """(outputs, inputs + 1): weights and bias of a 1x1 convolution."""
    return torch.cat([head.weight.flatten(1), head.bias[:, None]], 1)


def _by_candidate(rows: Tensor, candidates: int) -> Tensor:
    """Rows of logits candidate by candidate, four sub-pixels each, of those that a head holds
    sub-pixel by sub-pixel."""
    return rows.unflatten(0, (4, candidates)).transpose(0, 1).flatten(0, 1)


def _relative(rows: Tensor, outputs: int) -> Tensor:
    """Rows of logits, `outputs` for each candidate, less those of the first candidate.

    A softmax does not change, and has one logit less to compute.
    """
    return (rows[outputs:].unflatten(0, (-1, outputs)) - rows[:outputs]).flatten(0, 1)


def _planes(groups: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """1x1 convolutions of channels-last features whose results lie plane by plane.

    The selection reads plane by plane; written so at once, the result need not be rearranged,
    which took as long as the selection itself. groups: ``_rows`` of each result.
    """
    weight = torch.cat([rows[:, :-1] for rows in groups])
    planes = torch.matmul(weight, x.flatten(2)).unflatten(2, x.shape[-2:])
    parts = planes.split([len(rows) for rows in groups], 1)
    # Where a part is used, its bias costs nothing; added to all at once, a pass over them.
    return [part + rows[:, -1, None, None] for part, rows in zip(parts, groups, strict=True)]


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


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
