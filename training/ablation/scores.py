"""Errors of dense depth where there is no hole in the truth, and how sharp its edges are."""

from __future__ import annotations

import numpy as np

from dmd3c_ros.evaluation.metrics import depth_metrics
from training.ablation.data import MAX_DEPTH, Frame, near_edges, scanned

EDGE_BAND = 3
"""Half the width of the band around edges of depth, pixels."""
_CONTRASTS = np.linspace(1.05, 1.25, 10)


def dense_scores(depth: np.ndarray, frame: Frame) -> dict[str, float]:
    """Scores of one predicted image.

    rmse, mae: of all pixels up to 80 m. scanned_mae: of those on or below the highest laser point,
    where there are labels. above_mae: of those above. edge_mae: within 3 pixels of an edge of
    depth. All in mm. boundary_f1: see there.

    Args:
        depth: (H, W), m.
        frame: with its exact depth (H, W), m, 0 = sky.
    """
    truth = np.where(frame.depth < MAX_DEPTH, frame.depth, 0)
    below = scanned(frame)
    masks = {
        'scanned': below,
        'above': ~below,
        'edge': near_edges(frame.depth, EDGE_BAND),
    }
    whole = depth_metrics(depth, truth)
    scores = {'rmse': whole.rmse_mm, 'mae': whole.mae_mm}
    for name, mask in masks.items():
        part = depth_metrics(depth, truth, mask=np.ascontiguousarray(mask))
        scores[f'{name}_mae'] = float('nan') if part is None else part.mae_mm
    return scores | {'boundary_f1': boundary_f1(depth, truth)}


def boundary_f1(depth: np.ndarray, truth: np.ndarray) -> float:
    """Agreement of occluding contours, 0..1; NaN where the truth has none.

    Depth Pro (Bochkovskii et al., ICLR 2025), section 3.2: between two neighbouring pixels there
    is a contour where one depth is larger than the other by a factor t. Precision and recall of
    the predicted contours are taken over all pairs of neighbours with a known true depth, and F1
    is averaged over t = 1.05 ... 1.25. Their non-maximum suppression is left out: here the truth
    is exact, and a blurred edge shall lose.

    Args:
        depth: (H, W), m, above 0.
        truth: (H, W), m, 0 = unknown.
    """
    ratios = []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        known = (truth[first] > 0) & (truth[second] > 0)
        pairs = [np.log(d[second][known]) - np.log(d[first][known]) for d in (depth, truth)]
        ratios.append(np.stack(pairs))
    predicted, true = np.concatenate(ratios, axis=1)
    scores = []
    for limit in np.log(_CONTRASTS):
        found, wanted = np.abs(predicted) > limit, np.abs(true) > limit
        right = (found & wanted & (np.sign(predicted) == np.sign(true))).sum()
        total = found.sum() + wanted.sum()
        scores.append(2 * right / total if wanted.any() else np.nan)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float('nan')
