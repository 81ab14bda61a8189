"""A dense depth from sparse points alone: planes fitted over a pyramid of cells.

A plane in space is an affine function of the pixel in inverse depth. So the points of every cell
of a pyramid, and those of the cells beside it, are fitted by weighted least squares with an affine
inverse depth (moving least squares: Lancaster and Salkauskas, Math. Comp. 37, 1981), from the
coarsest cells to the finest. What the points of a cell do not determine, the plane of the coarser
level does, as a prior of the fit. So any density gives a dense result: a road seen by four lines
of a LiDAR is filled as exactly as one seen by 64, single points give smooth surfaces, and towards
the image's borders surfaces go on as they were.

Each step is a convolution with fixed weights over nine moments of the points, or arithmetic on
maps that are smaller than the image, which every runtime and device can do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_FINEST = 4  # edge of the smallest cells, pixels
_LEVELS = 4
_REACHES = (2, 4, 8)  # in cells of the coarsest level, beyond its direct neighbours
_MOMENTS = ('1', 'x', 'y', 'xx', 'xy', 'yy', 'q', 'qx', 'qy')
# Weight of the coarser level's plane against one point: of its value, and of its slopes.
_VALUE_PRIOR = 0.1
_SLOPE_PRIOR = 1.0
# How far a fit may leave the range of the measured inverse depths, as a factor.
_EXTRAPOLATION = 1.02


class Planes(NamedTuple):
    """One affine function of inverse depth a cell, relative to the image's mean inverse depth.

    value: (B, 1, h, w), at the cell's centre; slope_x, slope_y: (B, 1, h, w), a cell to the next.
    """

    value: Tensor
    slope_x: Tensor
    slope_y: Tensor


class Fit(NamedTuple):
    """What ``fit_planes`` found.

    planes: finest first, for cells of ``finest``, twice, four times ... as many pixels.
    mean: (B, 1, 1, 1), the mean inverse depth of the points in 1/m, that planes are relative to (1
    without any point). support: (B, 1, h, w), weight of the points in and around each of the
    finest cells. low, high: (B, 1, 1, 1), the range that relative inverse depth is kept in.
    """

    planes: list[Planes]
    mean: Tensor
    support: Tensor
    low: Tensor
    high: Tensor


def fit_planes(sparse: Tensor) -> Fit:
    """Fit planes to sparse depth (B, 1, H, W) in m, 0 = unknown; H and W are multiples of 32.

    Cells of 4 to 32 pixels, then those of 32 with ever farther ones around them, up to 256 pixels
    away: sizes that halve exactly, whatever the image's, export to other runtimes.
    """
    known = sparse > 0
    inverse = torch.where(known, 1 / torch.where(known, sparse, 1.0), 0.0)
    count = known.sum((1, 2, 3), keepdim=True)
    mean = inverse.sum((1, 2, 3), keepdim=True) / count.clamp(min=1)
    mean = torch.where(count > 0, mean, 1.0)
    inverse = inverse / mean
    high = inverse.amax((1, 2, 3), keepdim=True)
    high = torch.where(count > 0, high, 1.0)
    low = torch.where(known, inverse, high).amin((1, 2, 3), keepdim=True)
    low, high = low / _EXTRAPOLATION, high * _EXTRAPOLATION
    moments = _pyramid(known, inverse)
    one = torch.ones_like(moments[-1][:, :1])
    coarse = Planes(one, 0 * one, 0 * one)
    around = [_around(m, 1) for m in moments]
    wider = around[-1:]
    for reach in _REACHES:
        wider.append(_around(wider[-1], reach))
    for reach, level in zip(reversed(_REACHES), reversed(wider[1:]), strict=True):
        coarse = _solve(level, coarse, low, high, reach)
    planes = [_solve(around[-1], coarse, low, high)]
    for level in reversed(around[:-1]):
        planes.insert(0, _solve(level, refine(planes[0]), low, high))
    return Fit(planes, mean, around[0][:, :1], low, high)


def refine(planes: Planes) -> Planes:
    """The planes of cells of half the edge, (B, 1, 2 h, 2 w), blended bilinearly between cells."""
    height, width = planes.value.shape[-2:]
    x = torch.arange(width, device=planes.value.device, dtype=planes.value.dtype)
    y = torch.arange(height, device=planes.value.device, dtype=planes.value.dtype)[:, None]
    # Values at the origin of the coarse grid can be blended as they are.
    at_origin = planes.value - planes.slope_x * x - planes.slope_y * y
    blended = F.interpolate(
        torch.cat([at_origin, planes.slope_x, planes.slope_y], 1), scale_factor=2, mode='bilinear'
    )
    at_origin, slope_x, slope_y = blended.split(1, 1)
    x = (torch.arange(2 * width, device=x.device, dtype=x.dtype) - 0.5) / 2
    y = (torch.arange(2 * height, device=x.device, dtype=x.dtype)[:, None] - 0.5) / 2
    return Planes(at_origin + slope_x * x + slope_y * y, slope_x / 2, slope_y / 2)


def _pyramid(known: Tensor, inverse: Tensor) -> list[Tensor]:
    """Moments (B, 9, h, w) of the points of each cell about its centre, finest cells first.

    Lengths are in edges of the cell.
    """
    points = torch.cat([known.to(inverse.dtype), inverse], 1)
    moments = [F.conv2d(points, _COUNTING.to(inverse.device), stride=_FINEST)]
    for _ in range(_LEVELS - 1):
        moments.append(F.conv2d(moments[-1], _POOLING.to(inverse.device), stride=2))
    return moments


def _around(moments: Tensor, reach: int) -> Tensor:
    """Moments of each cell together with those of the eight cells ``reach`` cells away."""
    return F.conv2d(moments, _SMOOTHING[reach].to(moments.device), padding=reach, dilation=reach)


def _solve(moments: Tensor, prior: Planes, low: Tensor, high: Tensor, reach: int = 1) -> Planes:
    """The planes that fit the points behind the moments and stay near the prior.

    reach: of the points, in cells: over how far a slope of the prior counts.
    """
    n, x, y, xx, xy, yy, q, qx, qy = moments.split(1, 1)
    value, slope_x, slope_y = prior
    # Normal equations of what the points say beyond the prior ...
    q = q - value * n - slope_x * x - slope_y * y
    qx = qx - value * x - slope_x * xx - slope_y * xy
    qy = qy - value * y - slope_x * xy - slope_y * yy
    # ... the value eliminated, the 2x2 rest by Cramer's rule.
    n = n + _VALUE_PRIOR
    mx, my = x / n, y / n
    xx = xx + _SLOPE_PRIOR * reach**2 - x * mx
    yy = yy + _SLOPE_PRIOR * reach**2 - y * my
    xy = xy - x * my
    qx, qy = qx - q * mx, qy - q * my
    determinant = xx * yy - xy * xy
    dx, dy = (qx * yy - qy * xy) / determinant, (qy * xx - qx * xy) / determinant
    value = value + (q - dx * x - dy * y) / n
    return Planes(torch.minimum(torch.maximum(value, low), high), slope_x + dx, slope_y + dy)


def _shift(dx: float, dy: float) -> np.ndarray:
    """(9, 9): moments about a centre that lies at (-dx, -dy) from those about the old one."""
    rows = {
        '1': {'1': 1},
        'x': {'x': 1, '1': dx},
        'y': {'y': 1, '1': dy},
        'xx': {'xx': 1, 'x': 2 * dx, '1': dx * dx},
        'xy': {'xy': 1, 'x': dy, 'y': dx, '1': dx * dy},
        'yy': {'yy': 1, 'y': 2 * dy, '1': dy * dy},
        'q': {'q': 1},
        'qx': {'qx': 1, 'q': dx},
        'qy': {'qy': 1, 'q': dy},
    }
    return np.array([[rows[name].get(other, 0) for other in _MOMENTS] for name in _MOMENTS])


def _counting() -> np.ndarray:
    """(9, 2, 4, 4): moments of a cell from its pixels' mask and inverse depth."""
    steps = (np.arange(_FINEST) + 0.5) / _FINEST - 0.5
    y, x = np.meshgrid(steps, steps, indexing='ij')
    kernel = np.zeros((9, 2, _FINEST, _FINEST))
    kernel[:6, 0] = x**0, x, y, x * x, x * y, y * y
    kernel[6:, 1] = x**0, x, y
    return kernel


def _pooling() -> np.ndarray:
    """(9, 9, 2, 2): moments of a cell from those of its four quarters."""
    halved = np.diag([1, 0.5, 0.5, 0.25, 0.25, 0.25, 1, 0.5, 0.5])
    places = (-0.25, 0.25)
    quarters = [[_shift(x, y) @ halved for x in places] for y in places]
    return np.array(quarters).transpose(2, 3, 0, 1)


def _smoothing(reach: int) -> np.ndarray:
    """(9, 9, 3, 3): moments of a cell and, at half and a quarter of the weight, its neighbours."""
    weights = {-reach: 0.5, 0: 1.0, reach: 0.5}
    cells = [[_shift(x, y) * weights[x] * weights[y] for x in weights] for y in weights]
    return np.array(cells).transpose(2, 3, 0, 1)


def _constant(kernel: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(kernel, np.float32))


_COUNTING, _POOLING = _constant(_counting()), _constant(_pooling())
_SMOOTHING = {reach: _constant(_smoothing(reach)) for reach in (1, *_REACHES)}
