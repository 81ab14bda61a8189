"""Scale and shift that carry one depth image onto another, per image and over marked pixels.

Each fit takes a source x and a target y, (B, N) with a bool mask, and returns scale s and shift b,
both (B,), with s x + b close to y. All are differentiable in x and y. Where x is constant there is
no scale: it is 0 and the shift alone is fitted; where nothing is marked, both are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import check_images, image_means, masked_median

ALIGNMENTS = ('least_absolute', 'least_squares', 'median')
_BISECTIONS = 52
_DOUBLINGS = 64
_BISECTED_POINTS = 2048
_TURNS = 24
_BALANCE = 1e-9
_CONSTANT = 16.0
"""A spread below so many rounding errors of the values is that of a constant."""


def align(source: Tensor, target: Tensor, mask: Tensor, method: str) -> Tensor:
    """Source image s x + b fitted to the target.

    Args:
        source: (B, 1, H, W).
        target: (B, 1, H, W).
        mask: (B, 1, H, W) bool, pixels that the fit uses.
        method: one of ALIGNMENTS.

    Returns:
        (B, 1, H, W).

    Raises:
        ValueError: the shapes differ, or the method is unknown.
    """
    check_images(source=source, target=target, mask=mask)
    if method not in _FITS:
        raise ValueError(f'alignment: expected one of {ALIGNMENTS}, got {method!r}')
    scale, shift = _FITS[method](source.flatten(1), target.flatten(1), mask.flatten(1))
    return scale.view(-1, 1, 1, 1) * source + shift.view(-1, 1, 1, 1)


def fit_least_squares(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The minimizer of sum (y - s x - b)^2, in closed form (MiDaS, TPAMI 2022, Eq. 4)."""
    mean_x, mean_y = image_means(x, mask)[0], image_means(y, mask)[0]
    dx, dy = x - mean_x[:, None], y - mean_y[:, None]
    variance, covariance = image_means(dx * dx, mask)[0], image_means(dx * dy, mask)[0]
    scale = _ratio(covariance, variance, _rounding(x, mask) ** 2)
    return scale, mean_y - scale * mean_x


def fit_median(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Equal median and equal median absolute deviation: robust, but no minimizer.

    MiDaS, TPAMI 2022, Eq. 5, with the median of the deviations where that has their mean.
    """
    median_x, median_y = masked_median(x, mask), masked_median(y, mask)
    spread_x = masked_median((x - median_x[:, None]).abs(), mask)
    spread_y = masked_median((y - median_y[:, None]).abs(), mask)
    scale = _ratio(spread_y, spread_x, _rounding(x, mask))
    return scale, median_y - scale * median_x


def fit_least_absolute(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The minimizer of sum |y - s x - b|, as in Eq. 7 of DMD3C.

    For a given scale the best shift is the median of y - s x, and what remains is convex and
    piecewise linear in the scale; the optimal line passes through two of the points. Scale and
    shift are computed from these two, which makes the gradient exact wherever there is one.
    """
    with torch.no_grad():
        first, second = _supporting_points(x.double(), y.double(), mask)
    x1, y1 = _pick(x, first), _pick(y, first)
    x2, y2 = _pick(x, second), _pick(y, second)
    used = mask.any(1)
    distance = torch.where(x1 == x2, torch.ones_like(x1), x1 - x2)
    scale = torch.where(used & (x1 != x2), (y1 - y2) / distance, torch.zeros_like(x1))
    return scale, torch.where(used, y1 - scale * x1, torch.zeros_like(x1))


_FITS = {
    'least_absolute': fit_least_absolute,
    'least_squares': fit_least_squares,
    'median': fit_median,
}


def _supporting_points(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B,) of two points on the line of least absolute deviation.

    Bisection over all points is reliable but needs a median per step. Large sets are therefore
    solved from a few points, and the line is then rotated from point to point until it is proven
    optimal; if that fails, as on data with many points on one line, bisection is used after all.
    """
    x, y = _standardized(x, mask), _standardized(y, mask)
    step = x.shape[1] // _BISECTED_POINTS
    if step > 1:
        scale = _best_scale(x[:, ::step], y[:, ::step], mask[:, ::step])
        first, second, proven = _turn(x, y, mask, _point_at(x, y, mask, scale))
        if proven:
            return first, second
    first = _point_at(x, y, mask, _best_scale(x, y, mask))
    return first, _best_second(x, y, mask, first)


def _point_at(x: Tensor, y: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """Index (B,) of the point that the best line of a given scale passes through."""
    rest = (y - scale[:, None] * x).where(mask, x.new_full((), float('nan')))
    return rest.nanmedian(dim=1).indices


def _turn(x: Tensor, y: Tensor, mask: Tensor, first: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Rotate the line about one of its two points after the other while that improves it.

    Wesolowsky, "A new descent algorithm for the least absolute value regression problem", 1981.
    Returns the points and whether every image's line is proven optimal.
    """
    second = _best_second(x, y, mask, first)
    for _ in range(_TURNS):
        if _is_best(x, y, mask, first, second):
            return first, second, True
        first, second = second, _best_second(x, y, mask, second)
    return first, second, False


def _is_best(x: Tensor, y: Tensor, mask: Tensor, first: Tensor, second: Tensor) -> bool:
    """Whether signs in -1..1 at the two points balance those of all other residuals.

    These are the conditions sum sign = 0 and sum x sign = 0 of the optimum.
    """
    x1, x2, y1 = _pick(x, first), _pick(x, second), _pick(y, first)
    run = torch.where(x1 == x2, torch.ones_like(x1), x1 - x2)
    slope = (y1 - _pick(y, second)) / run
    sign = (y - y1[:, None] - slope[:, None] * (x - x1[:, None])).sign()
    sign = torch.where(mask, sign, torch.zeros_like(sign))
    sign = sign.scatter(1, torch.stack([first, second], 1), 0.0)
    total, moment = sign.sum(1), (sign * x).sum(1)
    sign1 = (total * x2 - moment) / run
    sign2 = -total - sign1
    limit = 1 + _BALANCE
    best = (sign1.abs() <= limit) & (sign2.abs() <= limit) & (x1 != x2)
    return bool((best | ~mask.any(1)).all())


def _standardized(values: Tensor, mask: Tensor) -> Tensor:
    values = values.where(mask, values.new_zeros(()))
    values = values - image_means(values, mask)[0][:, None]
    spread = image_means(values.abs(), mask)[0][:, None]
    return values / spread.where(spread > 0, torch.ones_like(spread))


def _best_scale(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Scale (B,) at which min_b sum |y - s x - b| is smallest, to the rounding of float64."""
    low, high = x.new_full(x.shape[:1], -1.0), x.new_full(x.shape[:1], 1.0)
    for _ in range(_DOUBLINGS):
        too_high, too_low = _slope(x, y, mask, low) > 0, _slope(x, y, mask, high) < 0
        if not (too_high | too_low).any():
            break
        low, high = torch.where(too_high, 2 * low, low), torch.where(too_low, 2 * high, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        rising = _slope(x, y, mask, middle) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return (low + high) / 2


def _slope(x: Tensor, y: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """A subgradient (B,) of min_b sum |y - s x - b| at the given scale.

    It is -sum x sign(residual), where the residuals that are 0 share what makes the signs sum to
    0, the condition for the shift to be optimal.
    """
    rest = y - scale[:, None] * x
    rest = rest - masked_median(rest, mask)[:, None]
    sign = torch.where(mask, rest.sign(), torch.zeros_like(rest))
    at_zero = mask & (sign == 0)
    share = -sign.sum(1) / at_zero.sum(1).clamp(min=1)
    return -(x * torch.where(at_zero, share[:, None], sign)).sum(1)


def _best_second(x: Tensor, y: Tensor, mask: Tensor, first: Tensor) -> Tensor:
    """The point that the best line through the first point also meets: a weighted median."""
    dx, dy = x - _pick(x, first)[:, None], y - _pick(y, first)[:, None]
    weight = torch.where(mask, dx.abs(), torch.zeros_like(dx))
    slope = torch.where(weight > 0, dy / dx, dx.new_full((), float('inf')))
    order = slope.argsort(dim=1)
    reached = weight.gather(1, order).cumsum(1)
    half = reached[:, -1:] / 2
    second = order.gather(1, torch.searchsorted(reached, half).clamp(max=x.shape[1] - 1))[:, 0]
    return torch.where(reached[:, -1] > 0, second, first)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[:, None])[:, 0]


def _rounding(values: Tensor, mask: Tensor) -> Tensor:
    """Spread (B,) below which the marked values of an image are constant but for rounding."""
    largest = values.detach().abs().where(mask, values.new_zeros(())).amax(1)
    return _CONSTANT * torch.finfo(values.dtype).eps * largest


def _ratio(numerator: Tensor, denominator: Tensor, negligible: Tensor) -> Tensor:
    """Quotient, 0 with zero gradient where the denominator is negligible."""
    usable = denominator > negligible
    safe = torch.where(usable, denominator, torch.ones_like(denominator))
    return torch.where(usable, numerator / safe, torch.zeros_like(numerator))
