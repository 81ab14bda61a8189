"""Alignment of a whole prediction to ground truth, as zero-shot tables of relative depth do."""

from __future__ import annotations

import numpy as np
import torch

from .fits import fit_least_squares

ALIGNMENTS = ('disparity', 'depth', 'log_depth', 'median', 'none')


def align_to_truth(
    prediction: np.ndarray,
    truth: np.ndarray,
    method: str = 'disparity',
    max_depth: float = 1000.0,
) -> np.ndarray:
    """Depth (H, W) float32, m, of a prediction without scale and shift.

    prediction: (H, W), relative inverse depth for 'disparity', relative depth otherwise, not
        finite = unknown. truth: (H, W), m, 0 = unknown.
    method: 'disparity': least squares of inverse depth, 1 / z = s d + b (MiDaS, Depth Anything,
        Distill Any Depth). 'depth': least squares of depth, z = s d + b (LeReS, the label-free
        paper, Marigold). 'log_depth': z = exp(b) d^s. 'median': the medians' ratio, no shift.
        'none': the prediction is in m.
    max_depth: values beyond it, or beyond infinity, after the alignment are set to it, m.

    With fewer than two known pixels, or equal values, depth is the median of the truth. Raises
    ValueError for shapes that differ and an unknown method.
    """
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if prediction.shape != truth.shape:
        raise ValueError(
            f'alignment: expected a prediction of {truth.shape} as the truth, got '
            f'{prediction.shape}'
        )
    if method not in ALIGNMENTS:
        raise ValueError(f'alignment: expected one of {ALIGNMENTS}, got {method!r}')
    known = np.isfinite(truth) & (truth > 0) & np.isfinite(prediction)
    if method == 'log_depth':
        known &= prediction > 0
    usable = np.isfinite(prediction)
    if not known.any():
        return np.zeros(truth.shape, np.float32)
    depth = _aligned(np.where(usable, prediction, 1.0), truth, known, method, max_depth)
    return np.where(usable, depth.clip(0, max_depth), 0).astype(np.float32)


def _aligned(
    prediction: np.ndarray, truth: np.ndarray, known: np.ndarray, method: str, max_depth: float
) -> np.ndarray:
    p, z = prediction[known], truth[known]
    if method == 'none':
        return prediction
    if method == 'median':
        middle = np.median(p)
        return (
            prediction * (np.median(z) / middle) if middle else np.full(truth.shape, np.median(z))
        )
    to, back = {
        'disparity': (lambda x: 1 / x, lambda x: 1 / np.maximum(x, 1 / max_depth)),
        'depth': (lambda x: x, lambda x: x),
        'log_depth': (np.log, np.exp),
    }[method]
    p = np.log(p) if method == 'log_depth' else p
    x, y = (torch.from_numpy(np.ascontiguousarray(v))[None] for v in (p, to(z)))
    scale, shift = (
        float(v) for v in fit_least_squares(x, y, torch.ones_like(x, dtype=torch.bool))
    )
    if scale == 0:
        return np.full(truth.shape, np.median(z))
    whole = np.log(np.maximum(prediction, 1e-12)) if method == 'log_depth' else prediction
    return back(scale * whole + shift)
