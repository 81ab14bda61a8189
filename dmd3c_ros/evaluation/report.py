"""What an evaluation leaves behind: CSV, JSON, tables, error maps, and the worst frames."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Sequence
from io import BytesIO, StringIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dmd3c_ros.datasets import Sample
from dmd3c_ros.io.atomic import write_bytes, write_json
from dmd3c_ros.io.images import write_rgb

from .drawing import (
    Page,
    Panel,
    Scale,
    caption_height,
    depth_scale,
    error_image,
    grid,
    points_on_image,
)
from .metrics import METRIC_NAMES
from .protocols import Evaluation, FrameResult

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = {
    'RMSE mm': ('rmse_mm', '.1f'),
    'MAE mm': ('mae_mm', '.1f'),
    'iRMSE 1/km': ('irmse_per_km', '.2f'),
    'iMAE 1/km': ('imae_per_km', '.2f'),
    'REL': ('rel', '.4f'),
    'δ1.02': ('delta_1_02', '.4f'),
    'δ1.05': ('delta_1_05', '.4f'),
    'δ1.10': ('delta_1_10', '.4f'),
    'δ1.25': ('delta_1_25', '.4f'),
    'δ1.25²': ('delta_1_25_2', '.4f'),
    'δ1.25³': ('delta_1_25_3', '.4f'),
    'missing': ('missing', '.2%'),
}
_NOTHING = '-'
_CELL_WIDTH = 420
_GAP = 12


class Gallery:
    """Keeps the worst frames for a contact sheet, and writes error maps as they come.

    worst: number of frames to keep, by RMSE.
    error_maps: folder for the error map of every frame; None writes none.
    unit: errors of this size or more get the last colour, m.
    """

    def __init__(self, worst: int, error_maps: Path | None = None, unit: float = 2.0) -> None:
        self._worst, self._error_maps = worst, error_maps
        self._scale = Scale(0.0, unit, cv2.COLORMAP_PLASMA)
        self._kept: list[tuple[float, int, Sample, np.ndarray]] = []
        self._order = count()

    def __call__(self, sample: Sample, depth: np.ndarray, result: FrameResult) -> None:
        """Take a scored frame; one without anything to score is passed over."""
        if result.metrics is None:
            return
        if self._error_maps is not None:
            image = error_image(depth, sample.truth, self._scale)
            write_rgb(self._error_maps / f'{sample.name}.png', image)
        if self._worst:
            # The running number settles ties before samples would be compared.
            entry = (result.metrics.rmse_mm, next(self._order), sample, depth)
            push = heapq.heappush if len(self._kept) < self._worst else heapq.heappushpop
            push(self._kept, entry)

    def write(self, path: Path) -> None:
        """Write the worst frames, worst first: image with input, depth, error."""
        rows = sorted(self._kept, key=lambda entry: entry[:2], reverse=True)
        if not rows:
            return
        panels = [panel for row in rows for panel in self._panels(*row)]
        height, width = rows[0][2].size
        cell = (_CELL_WIDTH, round(_CELL_WIDTH * height / width))
        step = cell[1] + caption_height(cell[0]) + _GAP
        page = Page(3 * _CELL_WIDTH + 4 * _GAP, len(rows) * step + _GAP)
        grid(page, panels, 3, cell, _GAP, _GAP)
        stream = BytesIO()
        page.image.save(stream, 'PNG', optimize=True)
        write_bytes(path, stream.getvalue())

    def _panels(self, rmse: float, _: int, sample: Sample, depth: np.ndarray) -> list[Panel]:
        scale = depth_scale(depth)
        return [
            Panel(points_on_image(sample.rgb, sample.sparse, scale), _short(sample.name)),
            Panel(scale.colors(depth, depth > 0), 'dense depth', scale),
            Panel(
                error_image(depth, sample.truth, self._scale),
                f'error, RMSE {rmse:.0f} mm',
                self._scale,
            ),
        ]


def write_results(folder: Path, evaluation: Evaluation) -> None:
    """Write frames.csv, one line a frame, and mean.json.

    Raises OSError: the disk.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator='\n')
    bands = list(evaluation.bands)
    writer.writerow(['frame', *METRIC_NAMES, *(f'rmse_mm {band}' for band in bands), 'ms'])
    for frame in evaluation.frames:
        values = frame.metrics.as_dict().values() if frame.metrics else [None] * len(METRIC_NAMES)
        by_band = [band and band.rmse_mm for band in frame.bands.values()]
        writer.writerow([frame.name, *values, *by_band, 1e3 * frame.seconds])
    write_bytes(folder / 'frames.csv', text.getvalue().encode())
    write_json(folder / 'mean.json', evaluation.as_dict())


def result_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row a model: every error, mean over the frames."""
    from rich.table import Table

    first = evaluations[0]
    table = Table(title=f'{first.dataset}, {len(first.frames)} frames')
    table.add_column('model')
    for name in (*_COLUMNS, 'ms'):
        table.add_column(name, justify='right')
    for evaluation in evaluations:
        mean = evaluation.mean
        cells = [
            format(getattr(mean, key), form) if mean else _NOTHING
            for key, form in _COLUMNS.values()
        ]
        table.add_row(evaluation.label, *cells, f'{evaluation.median_ms:.0f}')
    return table


def band_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row a model: RMSE and MAE in each band of true distance."""
    from rich.table import Table

    table = Table(title='RMSE / MAE in mm by true distance')
    table.add_column('model')
    for name in evaluations[0].bands:
        table.add_column(name, justify='right')
    for evaluation in evaluations:
        cells = [
            f'{band.rmse_mm:.0f} / {band.mae_mm:.0f}' if band else _NOTHING
            for band in evaluation.bands.values()
        ]
        table.add_row(evaluation.label, *cells)
    return table


def _short(name: str, length: int = 44) -> str:
    return name if len(name) <= length else f'...{name[3 - length :]}'
