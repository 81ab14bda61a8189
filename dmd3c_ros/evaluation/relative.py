"""Scoring monocular networks: relative depth, aligned as the zero-shot tables align it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from dmd3c_ros.core.alignment import ALIGNMENTS, AlignmentConfig, align_to_points, align_to_truth
from dmd3c_ros.datasets import DepthDataset, Sample
from dmd3c_ros.io.read_ahead import reading_ahead

from .metrics import DepthMetrics, depth_metrics, mean_metrics

log = logging.getLogger(__name__)

POINTS = 'points'
WAYS = (*ALIGNMENTS, POINTS)
LIMITS = {
    'nyu': (0.001, 10.0),
    'scannet': (0.001, 10.0),
    'void': (0.2, 5.0),
    'kitti-eigen': (0.001, 80.0),
    'kitti-val': (0.001, 80.0),
    'kitti-selection': (0.001, 80.0),
    'rings': (0.001, 80.0),
    'diode': (0.6, 350.0),
    'eth3d': (0.001, 1000.0),
}
"""Data set to the true depths that count, m; a prediction is cut to them after the alignment."""


@dataclass
class RelativeResult:
    """metrics: of each frame by name, None where nothing counted; failures: frame to what was
    wrong with its file."""

    metrics: dict[str, DepthMetrics | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> DepthMetrics | None:
        """Over the frames, each counting alike."""
        return mean_metrics(self.metrics.values())


def evaluate_relative(
    predict: Callable[[np.ndarray], np.ndarray],
    frames: DepthDataset,
    way: str = 'disparity',
    limits: tuple[float, float] = (0.001, 1000.0),
    indices: Iterable[int] | None = None,
    on_progress: Callable[[], None] = lambda: None,
) -> RelativeResult:
    """Score a network on the ground truth of a data set.

    predict: rgb (H, W, 3) uint8 -> relative inverse depth (H, W). way: of ALIGNMENTS, by the
    ground truth of each frame; or 'points', by the frame's sparse input. limits: range of
    true depth that is scored, m. A frame that cannot be read is recorded and the run continues.
    Raises ValueError for an unknown way.
    """
    if way not in WAYS:
        raise ValueError(f'alignment: expected one of {", ".join(WAYS)}; got {way!r}')
    result = RelativeResult()
    chosen = range(len(frames)) if indices is None else indices
    for index, reading in reading_ahead(frames.__getitem__, chosen, 2):
        try:
            sample = reading.result()
        except (OSError, ValueError) as error:
            log.warning('frame %d: %s', index, error)
            result.failures[f'frame {index}'] = str(error)
        else:
            result.metrics[sample.name] = score(predict(sample.rgb), sample, way, limits)
        on_progress()
    return result


def score(
    prediction: np.ndarray, sample: Sample, way: str, limits: tuple[float, float]
) -> DepthMetrics | None:
    """Errors of one frame; None without ground truth in the range."""
    if sample.truth is None:
        return None
    low, high = limits
    truth = np.where((sample.truth >= low) & (sample.truth <= high), sample.truth, 0)
    if way == POINTS:
        disparity, sparse = (
            torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None]
            for x in (prediction, sample.sparse)
        )
        depth = align_to_points(disparity, sparse, AlignmentConfig()).depth[0, 0].numpy()
    else:
        depth = align_to_truth(prediction, truth, way, max_depth=high)
    depth = np.where(depth > 0, depth.clip(low, high), 0)
    return depth_metrics(depth, truth, missing='background')
