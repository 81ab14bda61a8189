"""Dense depth from sparse points alone: planes fitted over a pyramid of cells.

A plane in space is an affine function of the pixel in inverse depth. So the points around every
cell of a grid are fitted by weighted least squares with an affine inverse depth (moving least
squares: Lancaster and Salkauskas, Math. Comp. 37, 1981), first with windows of some hundred
pixels, then with ever smaller ones. Whatever the points of a window do not determine comes from
the plane of the larger one, as a prior of the fit. So any density gives a dense result: a road
seen by four lines of a LiDAR is filled as exactly as one seen by 64, single points give smooth
surfaces, and surfaces are extrapolated towards the image borders.

The cells stay small while the windows grow (as in a stationary wavelet transform, "a trous"), so
that the result hardly depends on where the image starts.

Each step is a convolution with fixed weights over moments of the points, or arithmetic on
maps that are smaller than the image, which every runtime and device can do.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CELL = 8  # edge of the cells, pixels; the last fit is made for cells of half the edge
_REACHES = (1, 2, 4, 8, 16, 32)  # of the windows, in cells
_COARSE = 8  # reach of the fit that counts as coarse
# Sums over points of these products of their coordinates x, y and inverse depth q.
_MOMENTS = ('1', 'x', 'y', 'xx', 'xy', 'yy', 'q', 'qx', 'qy')
# Weight of the coarser level's plane against one point: of its value, and of its slopes.
_VALUE_PRIOR = 0.1
_SLOPE_PRIOR = 1.0
_NEAREST = 1e-3  # m, no sensor measures less
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

    fine: of cells of 4 pixels. coarse: of cells of 8 pixels, from the points up to 64 away.
    mean: (B, 1, 1, 1), the mean inverse depth of the points in 1/m, that planes are relative to (1
    without any point). support: (B, 1, h, w), weight of the points in and around each of the
    cells of 4 pixels. low, high: (B, 1, 1, 1), the range that relative inverse depth is kept in.
    """

    fine: Planes
    coarse: Planes
    mean: Tensor
    support: Tensor
    low: Tensor
    high: Tensor


def fit_planes(sparse: Tensor) -> Fit:
    """Fit planes to sparse depth (B, 1, H, W) in m, 0 = unknown; H and W are multiples of 32.

    The sizes of all grids halve exactly, whatever the image's, so that the function exports to
    other runtimes.
    """
    known = sparse.sign()
    inverse = known / sparse.clamp(min=_NEAREST)
    # A convolution each: putting both maps into one first takes as long as these.
    counts = F.conv2d(known, _COUNTING[0].to(sparse.device), stride=_CELL // 2)
    sums = F.conv2d(inverse, _COUNTING[1].to(sparse.device), stride=_CELL // 2)
    count = counts[:, :1].sum((2, 3), keepdim=True)
    mean = sums[:, :1].sum((2, 3), keepdim=True) / count.clamp(min=1)
    mean = torch.where(count > 0, mean, 1.0)
    high = torch.where(count > 0, inverse.amax((2, 3), keepdim=True) / mean, 1.0)
    low = torch.where(count > 0, 1 / sparse.amax((2, 3), keepdim=True) / mean, 1.0)
    low, high = low / _EXTRAPOLATION, high * _EXTRAPOLATION
    fine = torch.cat([counts, sums / mean], 1)
    windows = [F.conv2d(fine, _POOLING.to(sparse.device), stride=2)]
    for reach in _REACHES:
        windows.append(_around(windows[-1], reach))
    one = torch.ones_like(windows[-1][:, :1])
    planes = coarse = Planes(one, 0 * one, 0 * one)
    for reach, moments in zip(reversed(_REACHES), reversed(windows[1:]), strict=True):
        planes = _solve(moments, planes, low, high, reach)
        if reach == _COARSE:
            coarse = planes
    fine = _around(fine, 1)
    planes = _solve(fine, refine(planes), low, high)
    return Fit(planes, coarse, mean, fine[:, :1], low, high)


def refine(planes: Planes) -> Planes:
    """The planes of cells of half the edge, (B, 1, 2 h, 2 w), blended bilinearly between cells."""
    value, slope_x, slope_y = (
        F.pixel_shuffle(each, 2)
        for each in F.conv2d(_framed(planes), _REFINING.to(planes.value.device)).split(4, 1)
    )
    return Planes(value, slope_x, slope_y)


def refined_value(planes: Planes) -> Tensor:
    """What ``refine`` has as value."""
    return F.pixel_shuffle(F.conv2d(_framed(planes), _REFINING[:4].to(planes.value.device)), 2)


def _framed(planes: Planes) -> Tensor:
    """(B, 3, h + 2, w + 2): value and slopes, with one more cell around where planes go on."""
    maps = torch.cat(planes, 1)
    left, right = (
        torch.cat([column[:, :1] + side * column[:, 1:2], column[:, 1:]], 1)
        for side, column in ((-1, maps[..., :1]), (1, maps[..., -1:]))
    )
    maps = torch.cat([left, maps, right], 3)
    top, bottom = (
        torch.cat([row[:, :1] + side * row[:, 2:], row[:, 1:]], 1)
        for side, row in ((-1, maps[:, :, :1]), (1, maps[:, :, -1:]))
    )
    return torch.cat([top, maps, bottom], 2)


def _around(moments: Tensor, reach: int) -> Tensor:
    """Moments of each cell together with those of the eight cells ``reach`` cells away."""
    return F.conv2d(moments, _SMOOTHING[reach].to(moments.device), padding=reach, dilation=reach)


def _solve(moments: Tensor, prior: Planes, low: Tensor, high: Tensor, reach: int = 1) -> Planes:
    """The planes that fit the points behind the moments and stay near the prior.

    reach: of the points, in cells: the distance over which a slope of the prior counts.
    """
    size = moments.shape[-2:]
    # As planes, which OpenVINO splits without a copy.
    planes = moments.flatten(2).split(1, 1)
    one, x, y, xx, xy, yy, q, qx, qy = (plane.unflatten(2, size) for plane in planes)
    # Normal equations of what the points say beyond the prior ...
    q = q - prior.value * one - prior.slope_x * x - prior.slope_y * y
    qx = qx - prior.value * x - prior.slope_x * xx - prior.slope_y * xy
    qy = qy - prior.value * y - prior.slope_x * xy - prior.slope_y * yy
    # ... the value eliminated, the 2x2 rest by Cramer's rule.
    n = one + _VALUE_PRIOR
    mean_x, mean_y = x / n, y / n
    qx, qy = qx - mean_x * q, qy - mean_y * q
    xx, yy = xx - mean_x * x + _SLOPE_PRIOR * reach**2, yy - mean_y * y + _SLOPE_PRIOR * reach**2
    xy = xy - mean_x * y
    scale = 1 / (xx * yy - xy * xy)
    dx, dy = (qx * yy - qy * xy) * scale, (qy * xx - qx * xy) * scale
    value = prior.value + q / n - dx * mean_x - dy * mean_y
    value = torch.minimum(torch.maximum(value, low), high)
    return Planes(value, prior.slope_x + dx, prior.slope_y + dy)


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
    matrix = np.zeros((len(_MOMENTS), len(_MOMENTS)))
    for i, name in enumerate(_MOMENTS):
        for other, factor in rows[name].items():
            matrix[i, _MOMENTS.index(other)] = factor
    return matrix


def _counting() -> tuple[np.ndarray, np.ndarray]:
    """(6, 1, 4, 4) and (3, 1, 4, 4): moments of half a cell, of its pixels' mask and of their
    inverse depth."""
    half = _CELL // 2
    steps = (np.arange(half) + 0.5) / half - 0.5
    y, x = np.meshgrid(steps, steps, indexing='ij')
    one = np.ones_like(x)
    products = np.array([one, x, y, x * x, x * y, y * y])
    return products[:, None], products[:3, None]


def _pooling() -> np.ndarray:
    """(9, 9, 2, 2): moments of a cell from those of its four quarters."""
    halved = np.diag([0.5 ** sum(name.count(axis) for axis in 'xy') for name in _MOMENTS])
    places = (-0.25, 0.25)
    quarters = [[_shift(x, y) @ halved for x in places] for y in places]
    return np.array(quarters).transpose(2, 3, 0, 1)


def _smoothing(reach: int) -> np.ndarray:
    """(9, 9, 3, 3): moments of a cell and, at half and a quarter of the weight, neighbours."""
    weights = {-reach: 0.5, 0: 1.0, reach: 0.5}
    cells = [[_shift(x, y) * weights[x] * weights[y] for x in weights] for y in weights]
    return np.array(cells).transpose(2, 3, 0, 1)


def _refining() -> np.ndarray:
    """(12, 3, 3, 3): value and slopes of a cell's four quarters, by rows, from those of the cells
    around."""
    kernel = np.zeros((3, 2, 2, 3, 3, 3))
    places = (-0.25, 0.25)
    for (i, y), (j, x) in product(enumerate(places), repeat=2):
        for row, column in product((-1, 0, 1), repeat=2):
            # Linear interpolation between the centres of cells.
            weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
            kernel[0, i, j, :, row + 1, column + 1] = weight * np.array([1, x - column, y - row])
            kernel[1, i, j, 1, row + 1, column + 1] = weight / 2
            kernel[2, i, j, 2, row + 1, column + 1] = weight / 2
    return kernel.reshape(12, 3, 3, 3)


def _constant(kernel: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(kernel, np.float32))


_COUNTING = tuple(_constant(kernel) for kernel in _counting())
_POOLING = _constant(_pooling())
_REFINING = _constant(_refining())
_SMOOTHING = {reach: _constant(_smoothing(reach)) for reach in _REACHES}
