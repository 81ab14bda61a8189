"""Alignment of a monocular network's relative inverse depth to sparse metric depth.

Relative inverse depth d is inverse depth but for a scale and a shift (Ranftl et al., TPAMI 2022):
1 / z = s d + b. Both are fitted to the measured pixels, robustly against outliers such as points
that the laser saw past an edge or through glass. With many points, scale and shift vary slowly
over the image and follow them: a network's error is large and smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ('squared', 'huber', 'tukey')
_HUBER, _TUKEY = 1.345, 4.685  # in standard deviations; 95 % efficient on normal errors
_TO_DEVIATION = 1.4826  # from the median absolute deviation, for normal errors
_CELLS = 64  # of the grid of scale and shift, along the longer side
_TINY = 1e-12


@dataclass(frozen=True)
class AlignmentConfig:
    """How relative depth is aligned to the sparse depth.

    loss: of the fit: 'squared', 'huber' or 'tukey', the last two by reweighting, ``turns`` times.
    balance: exponent of the measured depth in the weight of a point: 0 weighs errors of inverse
        depth alike, 2 those of depth relative to itself, which counts far points more.
    local: width, as a fraction of the longer side, of the finest Gaussian windows in which scale
        and shift are fitted again; 0: one scale and one shift for the image.
    trust: number of points at which a window's own fit weighs as much as that of the window twice
        as wide.
    reach: depth stays between the nearest point's over this and the farthest point's times this.
    """

    loss: str = 'tukey'
    turns: int = 8
    balance: float = 1.0
    local: float = 0.03
    trust: float = 3.0
    reach: float = 3.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f'alignment: expected loss of {LOSSES}, got {self.loss!r}')
        if self.turns < 1 or not 0 <= self.local <= 1:
            raise ValueError(
                'alignment: expected turns of 1 or more and local of 0 to 1, got '
                f'{self.turns}, {self.local}'
            )
        if not self.trust > 0 or not self.reach >= 1:
            raise ValueError(
                f'alignment: expected trust above 0 and reach of 1 or more, got {self.trust}, '
                f'{self.reach}'
            )


class Aligned(NamedTuple):
    """depth: (B, 1, H, W), m; 0 in an image without a single point.

    scale, shift: (B, 1, h, w), 1/m, of a coarse grid over the image, one cell where they do not
    vary: 1 / depth = scale * disparity + shift, but for the limits.
    """

    depth: Tensor
    scale: Tensor
    shift: Tensor


def align_to_points(
    disparity: Tensor, sparse: Tensor, config: AlignmentConfig | None = None
) -> Aligned:
    """Metric depth from relative inverse depth and the points of a sensor.

    disparity: (B, 1, H, W), larger when nearer, of any scale and shift. sparse: (B, 1, H, W), m,
    0 = unknown. If the points do not determine a scale (a single point, equal disparities, or
    farther points that look nearer), depth is the same everywhere: their robust mean.
    Raises ValueError for shapes that differ.
    """
    config = config or AlignmentConfig()
    if disparity.shape != sparse.shape or disparity.dim() != 4 or disparity.shape[1] != 1:
        raise ValueError(
            f'alignment: expected (B, 1, H, W) of one shape, got {tuple(disparity.shape)} and '
            f'{tuple(sparse.shape)}'
        )
    # In float64: on a few thousand points it costs nothing.
    results = [_one(d[0], s[0], config) for d, s in zip(disparity, sparse, strict=True)]
    return Aligned(*(torch.stack(parts)[:, None].float() for parts in zip(*results, strict=True)))


def _one(disparity: Tensor, sparse: Tensor, config: AlignmentConfig) -> Aligned:
    rows, columns = torch.nonzero(sparse > 0, as_tuple=True)
    depth = sparse[rows, columns].double()
    size = (1, 1) if not config.local else _grid(*sparse.shape)
    if not len(depth):
        nothing = disparity.new_zeros(size)
        return Aligned(torch.zeros_like(disparity), nothing, nothing)
    x, y = disparity[rows, columns].double(), 1 / depth
    weight = (depth / depth.mean()) ** config.balance
    # Standardized: the same numbers whatever the network's scale and shift.
    centre, spread = x.mean(), x.std(correction=0)
    spread = spread.where(spread > _TINY * (1 + centre.abs()), torch.ones_like(spread))
    x = (x - centre) / spread
    scale, shift = _robust_line(x, y, weight, config)
    points = _Points(rows, columns, x, y, weight)
    scale, shift = scale.expand(size), shift.expand(size)
    if config.local and (scale > 0).all():
        scale, shift = _locally(points, scale, shift, sparse.shape, config)
    scale, shift = scale / spread, shift - scale * centre / spread
    maps = F.interpolate(
        torch.stack([scale, shift])[None].to(disparity.dtype),
        size=disparity.shape,
        mode='bilinear',
    )[0]
    inverse = maps[0] * disparity + maps[1]
    lowest, highest = y.min() / config.reach, y.max() * config.reach
    return Aligned(1 / inverse.clamp(float(lowest), float(highest)), scale, shift)


class _Points(NamedTuple):
    """rows, columns: pixels; x: standardized disparity; y: inverse depth; weight. All (N,)."""

    rows: Tensor
    columns: Tensor
    x: Tensor
    y: Tensor
    weight: Tensor


def _robust_line(
    x: Tensor, y: Tensor, weight: Tensor, config: AlignmentConfig
) -> tuple[Tensor, Tensor]:
    """Scale and shift () of y = scale x + shift; the scale is not below 0."""
    w = weight
    for turn in range(config.turns if config.loss != 'squared' else 1):
        total = w.sum().clamp(min=_TINY)
        mean_x, mean_y = (w * x).sum() / total, (w * y).sum() / total
        variance = (w * (x - mean_x) ** 2).sum() / total
        covariance = (w * (x - mean_x) * (y - mean_y)).sum() / total
        scale = (covariance / variance.clamp(min=_TINY)).clamp(min=0)
        scale = scale.where(variance > _TINY, torch.zeros_like(scale))
        shift = mean_y - scale * mean_x
        # Huber first: it has a single minimum, from which Tukey finds the right one of its minima.
        hard = config.loss == 'tukey' and turn >= config.turns // 2
        w = weight * _robust(y - scale * x - shift, hard)
    return scale, shift


def _robust(residual: Tensor, hard: bool) -> Tensor:
    """Weights of Huber's or, ``hard``, Tukey's loss for residuals (N,) of unknown deviation."""
    deviation = _TO_DEVIATION * residual.abs().median()
    ratio = residual.abs() / deviation.clamp(min=_TINY)
    if hard:
        return (1 - (ratio / _TUKEY) ** 2).clamp(min=0) ** 2
    return (_HUBER / ratio.clamp(min=_TINY)).clamp(max=1)


def _grid(height: int, width: int) -> tuple[int, int]:
    """Cells of the grid of scale and shift."""
    cell = max(height, width) / _CELLS
    return max(1, round(height / cell)), max(1, round(width / cell))


def _locally(
    points: _Points, scale: Tensor, shift: Tensor, size: torch.Size, config: AlignmentConfig
) -> tuple[Tensor, Tensor]:
    """Scale and shift (h, w) of the grid, from wide windows to narrow ones.

    Each width fits the residual of the previous one, regularized towards no change by ``trust``
    points.
    """
    height, width = size
    h, w = scale.shape
    row = (points.rows * h // height).clamp(max=h - 1)
    column = (points.columns * w // width).clamp(max=w - 1)
    cell = row * w + column
    window = 0.5
    while True:
        window = max(window / 2, config.local)
        rest = points.y - scale.flatten()[cell] * points.x - shift.flatten()[cell]
        weight = points.weight
        if config.loss != 'squared':
            weight = weight * _robust(rest, config.loss == 'tukey')
        x = points.x
        terms = torch.stack([weight, weight * x, weight * x * x, weight * rest, weight * x * rest])
        sums = terms.new_zeros(5, h * w).index_add_(1, cell, terms).view(5, h, w)
        n, nx, nxx, nr, nxr = _blurred(sums, window * max(h, w))
        # Ridge regression of the rest on x and 1; x has variance 1 over the image.
        n, nxx = n + config.trust, nxx + config.trust
        determinant = n * nxx - nx * nx
        scale = (scale + (n * nxr - nx * nr) / determinant).clamp(min=0)
        shift = shift + (nxx * nr - nx * nxr) / determinant
        if window <= config.local:
            return scale, shift


def _blurred(sums: Tensor, deviation: float) -> Tensor:
    """(C, h, w), each cell the sum of all, weighted by a Gaussian with 1 at its middle."""

    def weights(count: int) -> Tensor:
        place = torch.arange(count, dtype=sums.dtype, device=sums.device)
        return torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)

    return weights(sums.shape[1]) @ sums @ weights(sums.shape[2])
