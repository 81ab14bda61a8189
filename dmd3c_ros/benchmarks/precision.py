"""Measures the effect of lower precision, and the speed-up of the neighbour search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from dmd3c_ros.core.baselines import BASELINES
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.ops.nearest import nearest_valid
from dmd3c_ros.pipeline.arrays import CompletionInputs

from .speed import completer_of, synthetic

_NEIGHBOURS = 4
_ROWS_TIMED = 4096  # pixels used to time the brute-force search, which is linear in them
_CHUNK = 512


@dataclass(frozen=True)
class Deviation:
    """Difference between depth in a lower precision and in float32, over all pixels of frames.

    weights: 'random' where none were there, the same ones in every precision: their depth is
        noise that rounding stirs, so that such a row shows that a precision runs, and no more.
    rmse_mm, mean_mm, p99_mm: of the differences. share: rmse_mm to the float32 depth's own spread
        (standard deviation). frames: their number.
    """

    model: str
    weights: str
    device: str
    precision: str
    frames: int
    rmse_mm: float
    mean_mm: float
    p99_mm: float
    share: float

    def as_dict(self) -> dict:
        """Numbers for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class NearestTiming:
    """Time to find the four nearest measurements of every pixel: ours and brute force, s.

    brute_force: what the authors' kernel does, every pixel's distance to every measurement, in
    PyTorch; timed on ``timed`` pixels and scaled to all. equal: whether both find the same
    distances there.
    """

    size: tuple[int, int]
    points: int
    device: str
    ours: float
    brute_force: float
    timed: int
    equal: bool

    def as_dict(self) -> dict:
        """Numbers for a JSON file."""
        return asdict(self) | {'ratio': round(self.brute_force / self.ours, 1)}


def deviations(
    settings: CompleterConfig, precisions: Sequence[str], frames: Sequence[CompletionInputs]
) -> list[Deviation]:
    """Complete frames in float32 and in each of ``precisions``.

    Nothing for a baseline, which has none. A network without weights is compared with random
    ones, the same in every precision.
    """
    if settings.model in BASELINES:
        return []
    reference, weights = completer_of(replace(settings, precision='float32'))
    expected = [reference.complete(*frame).depth for frame in frames]
    reference.close()
    spread = 1e3 * float(np.std(np.concatenate([depth[depth > 0] for depth in expected])))
    found = []
    for precision in precisions:
        completer, _ = completer_of(replace(settings, precision=precision))
        difference = np.concatenate(
            [
                np.abs(completer.complete(*frame).depth - depth)[depth > 0]
                for frame, depth in zip(frames, expected, strict=True)
            ]
        )
        difference = difference.astype(np.float64) * 1e3
        rmse = float(np.sqrt(np.mean(difference**2)))
        found.append(
            Deviation(
                completer.name,
                weights,
                completer.device,
                completer.precision,
                len(frames),
                round(rmse, 3),
                round(float(difference.mean()), 3),
                round(float(np.percentile(difference, 99)), 3),
                round(rmse / max(spread, 1e-6), 6),
            )
        )
        completer.close()
    return found


def time_nearest(size: tuple[int, int], points: float, device: str) -> NearestTiming:
    """Time the search for the nearest measurements of every pixel both ways."""
    valid = torch.from_numpy(synthetic(size, points).sparse > 0)[None, None].to(device)
    nearest_valid(valid, _NEIGHBOURS)
    started = _now(device)
    index = nearest_valid(valid, _NEIGHBOURS)
    ours = _now(device) - started
    total = valid.numel()
    pixels = torch.arange(0, total, max(total // _ROWS_TIMED, 1), device=device)
    brute_force_nearest(valid[0, 0], pixels[:_CHUNK], _NEIGHBOURS)
    started = _now(device)
    squared = brute_force_nearest(valid[0, 0], pixels, _NEIGHBOURS)
    brute_force = (_now(device) - started) * total / len(pixels)
    width = size[1]
    found = index[0].flatten(1)[:, pixels]
    across, down = found % width - pixels % width, found // width - pixels // width
    equal = torch.equal((across**2 + down**2).t(), squared)
    return NearestTiming(size, int(valid.sum()), device, ours, brute_force, len(pixels), equal)


def brute_force_nearest(valid: Tensor, pixels: Tensor, count: int) -> Tensor:
    """Squared distances (n, count) from pixels to their nearest valid ones, rising.

    valid: (H, W) bool; pixels: (n) raster indices. Every distance is computed.
    """
    width = valid.shape[1]
    points = valid.flatten().nonzero()[:, 0]
    rows, columns = (points // width).int(), (points % width).int()
    nearest = []
    for chunk in pixels.split(_CHUNK):
        down = (chunk // width).int()[:, None] - rows
        across = (chunk % width).int()[:, None] - columns
        squared = down * down + across * across
        nearest.append(squared.topk(count, largest=False).values)
    return torch.cat(nearest).long()


def _now(device: str) -> float:
    """Time in s, once the device has finished all work."""
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
    return perf_counter()
