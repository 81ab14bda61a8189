"""Depth errors as the KITTI development kit and the NYU literature define them.

Every error is computed per image over the pixels that have ground truth, and a data set's result
is the mean over its images (not over its pixels): that is how the KITTI server averages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

MISSING_POLICIES = ('background', 'near', 'ignore')
NEAR_DEPTH = 0.5


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of one image, or their mean over images."""

    rmse_mm: float
    mae_mm: float
    irmse_per_km: float
    imae_per_km: float
    rel: float
    delta_1_02: float
    delta_1_05: float
    delta_1_10: float
    delta_1_25: float
    delta_1_25_2: float
    delta_1_25_3: float
    missing: float
    """Fraction of the pixels with ground truth that had no prediction, 0..1."""
    pixels: float
    """Pixels with ground truth (their mean number, in a mean over images)."""

    def as_dict(self) -> dict[str, float]:
        """Name to value, in the order of the fields."""
        return asdict(self)


METRIC_NAMES = tuple(field.name for field in fields(DepthMetrics))
_THRESHOLDS = (1.02, 1.05, 1.10, 1.25, 1.25**2, 1.25**3)


def depth_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    missing: str = 'background',
) -> DepthMetrics | None:
    """Errors of one predicted depth image.

    Definitions: Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017, and the development kit of the
    KITTI depth completion benchmark; REL and the deltas as on NYU Depth V2 (Ma and Karaman,
    "Sparse-to-Dense", ICRA 2018).

    prediction: (H, W) depth in m; 0, negative or not finite means that there is none.
    truth: (H, W) depth in m, 0 where unknown.
    mask: (H, W) bool, restricts the pixels with ground truth that count.
    missing: what a pixel without prediction counts as: 'background' fills it from its row and
        column as the development kit does, 'near' treats it as an obstacle at 0.5 m, 'ignore'
        excludes it.
    Returns the errors, or None if no pixel counts.
    Raises ValueError: the shapes differ, or the policy is unknown.
    """
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    _check(prediction, truth, mask, missing)
    scored = np.isfinite(truth) & (truth > 0)
    if mask is not None:
        scored &= mask
    present = np.isfinite(prediction) & (prediction > 0)
    n_scored = int(scored.sum())
    if n_scored == 0:
        return None
    missing_fraction = 1.0 - float(present[scored].mean())
    if missing == 'ignore':
        scored &= present
        if not scored.any():
            return None
    elif missing_fraction > 0:
        prediction = _fill(np.where(present, prediction, 0.0), missing)
    return _errors(prediction[scored], truth[scored], missing_fraction, n_scored)


def _check(
    prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, missing: str
) -> None:
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f'prediction: expected the shape of the ground truth {truth.shape}, '
            f'got {prediction.shape}'
        )
    if mask is not None and (mask.shape != truth.shape or mask.dtype != bool):
        raise ValueError(f'mask: expected bool {truth.shape}, got {mask.dtype} {mask.shape}')
    if missing not in MISSING_POLICIES:
        raise ValueError(f'missing: expected one of {MISSING_POLICIES}, got {missing!r}')


def _fill(prediction: np.ndarray, policy: str) -> np.ndarray:
    if policy == 'background' and (prediction > 0).any():
        return fill_background(prediction)
    return np.where(prediction > 0, prediction, NEAR_DEPTH)


def _errors(p: np.ndarray, t: np.ndarray, missing: float, pixels: int) -> DepthMetrics:
    error, inverse_error = p - t, 1.0 / p - 1.0 / t
    ratio = np.maximum(p / t, t / p)
    fractions = [float((ratio < threshold).mean()) for threshold in _THRESHOLDS]
    return DepthMetrics(
        1e3 * float(np.sqrt(np.mean(error**2))),
        1e3 * float(np.mean(np.abs(error))),
        1e3 * float(np.sqrt(np.mean(inverse_error**2))),
        1e3 * float(np.mean(np.abs(inverse_error))),
        float(np.mean(np.abs(error) / t)),
        *fractions,
        missing=missing,
        pixels=float(pixels),
    )


def mean_metrics(images: Iterable[DepthMetrics | None]) -> DepthMetrics | None:
    """Mean over images of equal weight; images without scored pixels (None) do not count.

    Returns the mean, or None if no image counts.
    """
    rows = [list(image.as_dict().values()) for image in images if image is not None]
    return DepthMetrics(*(float(v) for v in np.mean(rows, axis=0))) if rows else None


def metrics_by_distance(
    prediction: np.ndarray,
    truth: np.ndarray,
    edges: Sequence[float],
    *,
    missing: str = 'background',
) -> dict[str, DepthMetrics | None]:
    """Errors per band of true distance.

    prediction: (H, W) depth in m.
    truth: (H, W) depth in m, 0 where unknown.
    edges: increasing band limits in m, e.g. (0, 10, 20): bands (0, 10] and (10, 20].
    missing: as in depth_metrics.
    Returns 'from-to m' to the errors, or to None where the band has no ground truth.
    Raises ValueError: fewer than two edges, or edges that do not increase.
    """
    if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise ValueError(f'edges: expected at least two increasing distances, got {tuple(edges)}')
    return {
        f'{near:g}-{far:g} m': depth_metrics(
            prediction, truth, mask=(truth > near) & (truth <= far), missing=missing
        )
        for near, far in itertools.pairwise(edges)
    }


def fill_background(depth: np.ndarray) -> np.ndarray:
    """Fill missing depth as the KITTI development kit does before it scores.

    A gap inside a row takes the nearer one of its two ends; the rest of the row is extended from
    its outermost values; rows above and below all values repeat the first and the last row.

    depth: (H, W) depth in m, 0 where missing.
    Returns (H, W) depth of the same type without gaps, or all 0 if there was no value at all.
    """
    width = depth.shape[1]
    columns = np.arange(width)
    known = depth > 0
    before = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    left = np.take_along_axis(depth, np.maximum(before, 0), axis=1)
    right = np.take_along_axis(depth, np.minimum(after, width - 1), axis=1)
    filled = np.where(before < 0, right, np.where(after == width, left, np.minimum(left, right)))
    rows = np.flatnonzero(known.any(axis=1))
    if rows.size == 0:
        return np.zeros_like(depth)
    return filled[_source_rows(rows, depth.shape[0])]


def _source_rows(rows: np.ndarray, height: int) -> np.ndarray:
    """Row that each row is copied from: itself where it has values, else the nearest that has.

    The kit leaves an empty row between rows with values empty and scores its invalid depth; taking
    the nearest row instead keeps the errors finite.
    """
    middle = (rows[:-1] + rows[1:]) // 2
    return rows[np.searchsorted(middle, np.arange(height), side='left')]
