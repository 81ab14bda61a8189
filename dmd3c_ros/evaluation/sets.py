"""Results by set, against the classical methods, and how far the confidence can be relied on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dmd3c_ros.datasets import Sample

from .metrics import DepthMetrics, mean_metrics
from .protocols import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {'MAE': 'mae_mm', 'RMSE': 'rmse_mm', 'REL': 'rel'}
# Sure enough to be believed, and how near the truth is then expected.
_SURE, _NEAR = 0.8, 0.05
_BINS = 10


def set_of(name: str) -> str:
    """The set that a frame SET/NAME belongs to."""
    return name.partition('/')[0]


def means(evaluation: Evaluation) -> dict[str, DepthMetrics]:
    """Mean over the frames of each set that have something to score."""
    frames = defaultdict(list)
    for frame in evaluation.frames:
        frames[set_of(frame.name)].append(frame.metrics)
    found = {name: mean_metrics(metrics) for name, metrics in frames.items()}
    return {name: mean for name, mean in found.items() if mean is not None}


def ratios(
    evaluation: Evaluation, classical: Sequence[Evaluation], metric: str
) -> dict[str, float]:
    """Error on each set relative to the best classical method there, if there is one."""
    own, others = means(evaluation), [means(other) for other in classical]
    best = {
        name: min(getattr(other[name], metric) for other in others)
        for name in own
        if others and all(name in other for other in others)
    }
    return {name: getattr(own[name], metric) / error for name, error in best.items() if error > 0}


def geometric_mean(values: Sequence[float]) -> float:
    """NaN without values."""
    if not len(values):
        return float('nan')
    return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9)))))


class Reliability:
    """How often depth of some confidence is within 5 % of the truth, set by set."""

    def __init__(self) -> None:
        self._counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, _BINS)))
        self._sure: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))

    def add(self, sample: Sample, depth: np.ndarray, confidence: np.ndarray) -> None:
        """Count a frame's pixels with truth."""
        known = (sample.truth > 0) & (depth > 0)
        truth, sureness = sample.truth[known], np.clip(confidence[known], 0, 1)
        near = np.abs(depth[known] - truth) <= _NEAR * truth
        index = np.minimum((sureness * _BINS).astype(int), _BINS - 1)
        counts = self._counts[set_of(sample.name)]
        for row, weights in enumerate((None, sureness, near)):
            counts[row] += np.bincount(index, weights, minlength=_BINS)
        sure = sureness >= _SURE
        self._sure[set_of(sample.name)] += (sure.sum(), near[sure].sum())

    def by_set(self) -> dict[str, dict[str, float | None]]:
        """Calibration error, fraction of pixels that are sure, and of those that are near."""
        found = {}
        for name, (count, stated, near) in self._counts.items():
            total = max(count.sum(), 1)
            sure, right = self._sure[name]
            found[name] = {
                'calibration_error': float(np.abs(stated - near).sum() / total),
                'sure': float(sure / total),
                'sure_within_5_percent': float(right / sure) if sure else None,
            }
        return found


def set_table(
    evaluations: Sequence[Evaluation],
    classical: Sequence[Evaluation],
    reliability: Mapping[str, Reliability],
) -> Table:
    """Per set the MAE of each model, with its ratio to the best classical method there."""
    from rich.table import Table

    table = Table(title='MAE in mm by set (ratio to the best classical method)')
    table.add_column('set')
    for evaluation in evaluations:
        table.add_column(evaluation.label, justify='right')
    sure = {label: found.by_set() for label, found in reliability.items()}
    for label in sure:
        table.add_column(f'{label}: confident, of those within 5 %', justify='right')
    by_model = [means(evaluation) for evaluation in evaluations]
    relative = [ratios(evaluation, classical, 'mae_mm') for evaluation in evaluations]
    for name in dict.fromkeys(name for found in by_model for name in found):
        cells = [
            f'{found[name].mae_mm:.0f} ({ratio.get(name, float("nan")):.2f})'
            if name in found
            else '-'
            for found, ratio in zip(by_model, relative, strict=True)
        ]
        for found in sure.values():
            one = found.get(name, {'sure': 0, 'sure_within_5_percent': None})
            right = one['sure_within_5_percent']
            cells.append(f'{one["sure"]:.0%}, {"-" if right is None else f"{right:.0%}"}')
        table.add_row(name, *cells)
    table.add_section()
    for title, metric in METRICS.items():
        cells = []
        for evaluation in evaluations:
            found = list(ratios(evaluation, classical, metric).values())
            lost = sum(ratio > 1 for ratio in found)
            cells.append(f'{geometric_mean(found):.3f}, {lost} above 1')
        table.add_row(f'geometric mean, {title}', *cells, *('' for _ in sure))
    return table


def set_summary(
    evaluations: Sequence[Evaluation],
    classical: Sequence[Evaluation],
    reliability: Mapping[str, Reliability],
) -> dict[str, object]:
    """The table, and more, as plain values for JSON."""
    summary: dict[str, object] = {}
    for evaluation in evaluations:
        by_metric = {key: ratios(evaluation, classical, key) for key in METRICS.values()}
        summary[evaluation.label] = {
            'sets': {name: mean.as_dict() for name, mean in means(evaluation).items()},
            'ratios': by_metric,
            'geometric_mean': {
                key: geometric_mean(list(found.values())) for key, found in by_metric.items()
            },
            'confidence': (
                reliability[evaluation.label].by_set() if evaluation.label in reliability else None
            ),
        }
    return summary
