"""Scoring models on data sets: which settings each benchmark has, and the run over its frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.datasets import LINES, DepthDataset, Sample, keep_lines
from dmd3c_ros.io.depth_png import quantized, read_depth_png, write_depth_png
from dmd3c_ros.io.read_ahead import reading_ahead

from .metrics import (
    MISSING_POLICIES,
    DepthMetrics,
    depth_metrics,
    mean_metrics,
    metrics_by_distance,
)

_OUTDOOR = (0.0, 10.0, 20.0, 40.0, 80.0)
_INDOOR = (0.0, 1.0, 2.0, 4.0, 10.0)
# Exceptions for bad files. Anything else is a bug and ends the run.
_BAD_FILE = (OSError, ValueError)
_log = logging.getLogger(__name__)
_GREY = 127


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored."""

    bands: tuple[float, ...] = _OUTDOOR
    """Limits of the bands of true distance, m."""
    missing: str = 'background'
    """How a pixel without prediction is scored; see depth_metrics."""
    as_png: bool = False
    """Round predictions to 1/256 m, as the 16-bit images that a benchmark server receives."""
    min_depth: float = 0.0
    max_depth: float = float('inf')
    """Only ground truth in this range counts, m."""
    bottom_rows: int = 0
    """Use only so many rows from the bottom, for input and score; 0 uses all."""
    lines: int = 0
    """Give only so many of the 64 LiDAR lines as input; 0 gives all points."""

    def __post_init__(self) -> None:
        if self.missing not in MISSING_POLICIES:
            raise ValueError(f'missing: expected one of {MISSING_POLICIES}, got {self.missing!r}')
        if not 0 <= self.min_depth < self.max_depth:
            raise ValueError(
                f'expected 0 <= min_depth < max_depth, got {self.min_depth}, {self.max_depth}'
            )
        if self.bottom_rows < 0:
            raise ValueError(f'bottom_rows: expected at least 0, got {self.bottom_rows}')
        if self.lines < 0 or (self.lines and LINES % self.lines):
            raise ValueError(f'lines: expected a divisor of {LINES}, got {self.lines}')

    def as_dict(self) -> dict[str, object]:
        """The settings for JSON, which knows no infinity: None is no limit."""
        limit = None if np.isinf(self.max_depth) else self.max_depth
        return asdict(self) | {'max_depth': limit}


PROTOCOLS: Mapping[str, Scoring] = {
    'kitti-val': Scoring(as_png=True),
    'kitti-selection': Scoring(as_png=True),
    'nyu': Scoring(bands=_INDOOR),
    'void': Scoring(bands=_INDOOR),
    'scannet': Scoring(bands=_INDOOR),
    'ddad': Scoring(bands=(0.0, 20.0, 40.0, 80.0, 200.0)),
    'diode': Scoring(bands=(0.0, 5.0, 20.0, 80.0, 350.0), max_depth=350.0),
    'eth3d': Scoring(bands=(0.0, 2.0, 5.0, 10.0, 20.0, 80.0)),
    'dcverse': Scoring(bands=(0.0, 2.0, 5.0, 10.0, 20.0, 80.0)),
    # A hole in one's own depth is dangerous: it counts as an obstacle right in front.
    'rings': Scoring(as_png=True, missing='near'),
    'folder': Scoring(as_png=True, missing='near'),
}
"""Data set to the scoring of its benchmark."""


class Predictor(Protocol):
    """Anything that turns a sample into dense depth (H, W) float32, m, 0 = unknown."""

    name: str
    details: Mapping[str, str]
    """Further details for a report."""

    def __call__(self, sample: Sample) -> np.ndarray: ...


class CompleterPredictor:
    """A network or a classical baseline; baselines get no occluded points.

    grey: give it a flat grey image instead, which shows how much it uses the image.
    confidence: (H, W) float32, 0 to 1, of the depth that was predicted last.
    """

    def __init__(
        self, completer: DepthCompleter, name: str | None = None, *, grey: bool = False
    ) -> None:
        self.name = name or completer.name
        self.completer, self._grey = completer, grey
        self.confidence: np.ndarray | None = None
        self.details = {
            'network': completer.name,
            'weights': completer.config.weights,
            'device': completer.device,
            'precision': completer.precision,
        }

    def __call__(self, sample: Sample) -> np.ndarray:
        rgb = np.full_like(sample.rgb, _GREY) if self._grey else sample.rgb
        sparse = self.completer.filter_hidden(sample.sparse)
        depth, self.confidence = self.completer.complete(rgb, sparse, sample.K)
        return depth


class FolderPredictor:
    """Predictions made elsewhere: 16-bit images (256 units a metre) named like the frames.

    Raises FileNotFoundError: no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise FileNotFoundError(f'expected a folder of predictions, got {folder}')
        self.name = self._folder.name
        self.details = {'predictions': str(self._folder)}

    def __call__(self, sample: Sample) -> np.ndarray:
        return read_depth_png(self._folder / f'{sample.name}.png')


@dataclass(frozen=True)
class FrameResult:
    """Result of one frame; metrics are None where there was nothing to score."""

    name: str
    metrics: DepthMetrics | None
    bands: Mapping[str, DepthMetrics | None]
    seconds: float
    """Time of the completion alone."""


@dataclass
class Evaluation:
    """Result of one model on one data set."""

    model: str
    dataset: str
    scoring: Scoring
    details: Mapping[str, str] = field(default_factory=dict)
    """Details reported by the predictor."""
    frames: list[FrameResult] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Frame to what was wrong with it."""

    @property
    def mean(self) -> DepthMetrics | None:
        """Mean over the frames, as the benchmarks average."""
        return mean_metrics(frame.metrics for frame in self.frames)

    @property
    def bands(self) -> dict[str, DepthMetrics | None]:
        """Mean by band of true distance over the frames that have pixels in it."""
        names = self.frames[0].bands if self.frames else ()
        return {name: mean_metrics(frame.bands[name] for frame in self.frames) for name in names}

    @property
    def median_ms(self) -> float:
        """Median time of a completion, ms; NaN without frames."""
        times = [frame.seconds for frame in self.frames]
        return 1e3 * float(np.median(times)) if times else float('nan')

    @property
    def label(self) -> str:
        """Model, with its number of LiDAR lines where that was reduced."""
        return f'{self.model}, {self.scoring.lines} lines' if self.scoring.lines else self.model

    def as_dict(self) -> dict[str, object]:
        """Everything but the single frames, as it is written to JSON."""
        mean = self.mean
        return {
            'model': self.model,
            'details': dict(self.details),
            'dataset': self.dataset,
            'lines': self.scoring.lines or None,
            'scoring': self.scoring.as_dict(),
            'frames': len(self.frames),
            'failures': self.failures,
            'median_ms': None if np.isnan(self.median_ms) else self.median_ms,
            'mean': mean and mean.as_dict(),
            'bands': {name: band and band.as_dict() for name, band in self.bands.items()},
        }


OnFrame = Callable[[Sample, np.ndarray, FrameResult], None]


def evaluate(
    predictor: Predictor,
    dataset: DepthDataset,
    name: str,
    scoring: Scoring | None = None,
    *,
    indices: Iterable[int] | None = None,
    on_frame: OnFrame | None = None,
    on_progress: Callable[[], None] | None = None,
) -> Evaluation:
    """Score a model frame by frame.

    A frame that cannot be read is recorded with its reason, and the run continues.

    predictor: the model.
    dataset: frames with ground truth.
    name: of the data set, for the result.
    scoring: settings; those of the data set's protocol where None.
    indices: frames to score; all where None.
    on_frame: called with each scored sample, its prediction and its result.
    on_progress: called after each frame, scored or not.
    Raises ValueError: no protocol of this name, or frames without ground truth.
    """
    scoring = scoring or protocol(name)
    result = Evaluation(predictor.name, name, scoring, predictor.details)
    indices = range(len(dataset)) if indices is None else indices
    for index, reading in reading_ahead(dataset.__getitem__, indices, ahead=1):
        try:
            sample = prepared(reading.result(), scoring)
            started = perf_counter()
            depth = predictor(sample)
            seconds = perf_counter() - started
            frame = score(depth, sample, scoring, seconds)
        except _BAD_FILE as error:
            _log.warning('frame %d of %s: %s', index, name, error)
            result.failures[f'frame {index}'] = str(error)
        else:
            result.frames.append(frame)
            if on_frame is not None:
                on_frame(sample, depth, frame)
        if on_progress is not None:
            on_progress()
    return result


def protocol(name: str) -> Scoring:
    """Scoring of a data set. Raises ValueError for a name without one."""
    if name not in PROTOCOLS:
        raise ValueError(f'dataset: expected one of {", ".join(PROTOCOLS)}; got {name!r}')
    return PROTOCOLS[name]


def prepared(sample: Sample, scoring: Scoring) -> Sample:
    """The sample reduced as in the settings: fewer rows, fewer LiDAR lines.

    Raises ValueError: the image has fewer rows, or the number of lines does not divide 64.
    """
    rows, columns = sample.size
    if scoring.bottom_rows:
        top = rows - scoring.bottom_rows
        sample = sample.cropped(0, top, columns, scoring.bottom_rows)
    if scoring.lines:
        sparse = keep_lines(sample.sparse, sample.K, scoring.lines)
        sample = replace(sample, sparse=sparse)
    return sample


def score(
    depth: np.ndarray, sample: Sample, scoring: Scoring, seconds: float = float('nan')
) -> FrameResult:
    """Score one prediction.

    Raises ValueError: no ground truth, or a prediction of another size.
    """
    if sample.truth is None:
        raise ValueError(f'{sample.name}: expected ground truth, this data set has none')
    if depth.shape != sample.truth.shape:
        raise ValueError(
            f'{sample.name}: expected a prediction {sample.truth.shape}, got {depth.shape}'
        )
    counts = (sample.truth >= scoring.min_depth) & (sample.truth <= scoring.max_depth)
    truth = np.where(counts, sample.truth, 0)
    if scoring.as_png:
        depth = quantized(depth)
    return FrameResult(
        sample.name,
        depth_metrics(depth, truth, missing=scoring.missing),
        metrics_by_distance(depth, truth, scoring.bands, missing=scoring.missing),
        seconds,
    )


def write_submission(
    predictor: Predictor,
    dataset: DepthDataset,
    folder: str | Path,
    *,
    on_progress: Callable[[], None] | None = None,
) -> dict[str, str]:
    """Write the predictions for KITTI's server: FOLDER/0000000000.png and so on, 16-bit.

    Zip them without a folder inside for upload. A frame that cannot be read is recorded and the
    run continues.

    Returns frame to what was wrong with it.
    Raises OSError: a prediction cannot be written.
    """
    failures = {}
    for index, reading in reading_ahead(dataset.__getitem__, range(len(dataset)), ahead=1):
        try:
            sample = reading.result()
            depth = quantized(predictor(sample))
        except _BAD_FILE as error:
            _log.warning('frame %d: %s', index, error)
            failures[f'frame {index}'] = str(error)
        else:
            write_depth_png(Path(folder) / f'{sample.name}.png', depth)
        if on_progress is not None:
            on_progress()
    return failures
