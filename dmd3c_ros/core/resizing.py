"""Completion at a different size from the image: down for the network, and back up."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from .camera import resizing

# Neighbours that differ by more than this fraction of their depth are on two surfaces.
_EDGE_RATIO = 0.05
_SHORTEST_SIDE = 112  # minimum size of the shorter side, pixels, whatever the points
# Squares in which measurements are counted: smallest side, cells that they consist of, pixels,
# and number of measurements in them.
_SQUARE, _CELL, _MEASUREMENTS = 64, 8, 16
_NOTHING = cv2.BORDER_CONSTANT  # there are no measurements outside the image


def shrink(
    rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8, sparse depth (H, W) m and intrinsics (3, 3) at `scale` of their size.

    The image is filtered before it is sampled; of several measurements in one pixel the nearest
    stays, as where points are projected.
    """
    (height, width), (h, w) = sparse.shape, reduced(sparse.shape, scale)
    # PyTorch has a special kernel for bytes with the channels last, by far the fastest.
    image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    small = F.interpolate(image, (h, w), mode='bilinear', antialias=True)[0].permute(1, 2, 0)
    depth = shrink_sparse(torch.from_numpy(np.ascontiguousarray(sparse)), (h, w)).numpy()
    return np.ascontiguousarray(small.numpy()), depth, resizing(height, width, h, w) @ K


def reduced(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width, pixels, at `scale` of their size."""
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width


def shrink_sparse(sparse: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Sparse depth (H, W), m, 0 = unknown, at the size `shape`, no larger.

    Of several measurements in one pixel the nearest stays.
    """
    rows, columns = torch.nonzero(sparse, as_tuple=True)
    # Where a pixel's centre falls, which float64 gives exactly.
    v, u = (
        ((index.double() + 0.5) * small / large).long()
        for index, small, large in zip((rows, columns), shape, sparse.shape, strict=True)
    )
    depth = sparse.new_full(shape, torch.inf)
    depth.view(-1).scatter_reduce_(0, v * shape[1] + u, sparse[rows, columns], 'amin')
    return torch.where(depth.isinf(), 0.0, depth)


def mean_distance(sparse: np.ndarray) -> float:
    """How far the pixels around measurements are from the nearest of them on average, px.

    sparse: (H, W) float32, 0 = unknown, with a measurement at least. A pixel counts by the number
    of measurements in a square around it, so that the empty sky does not count, and the dense
    part of a scan counts most: a square of 64 pixels, or of as many more as it takes that those
    with a measurement hold 16 on average. No grid is laid over the image, so the result hardly
    changes as points move or the image is cropped.
    """
    height, width = sparse.shape
    # Whole cells are averaged much faster.
    known = np.pad(sparse > 0, ((0, -height % _CELL), (0, -width % _CELL))).astype(np.uint8)
    count = _cells(known * np.uint8(_CELL**2))
    side, largest = _SQUARE, max(sparse.shape)
    while True:
        size = (side // _CELL + 1, side // _CELL + 1)  # odd, so that it has a centre
        weight = cv2.boxFilter(count, cv2.CV_32F, size, normalize=False, borderType=_NOTHING)
        if side >= largest or weight[weight > 0].mean() >= _MEASUREMENTS:
            break
        side *= 2
    # Most of the time goes into the distances; the sky, which does not count, needs none.
    rows = np.flatnonzero(weight.any(axis=1))
    rows = slice(rows[0], rows[-1] + 1)
    known = known[rows.start * _CELL : rows.stop * _CELL]
    distance = cv2.distanceTransform(1 - known, cv2.DIST_L2, cv2.DIST_MASK_3)
    return float(np.average(_cells(distance), weights=weight[rows]))


def _cells(image: np.ndarray) -> np.ndarray:
    """Means of the cells of an image of whole ones."""
    height, width = image.shape
    return cv2.resize(image, (width // _CELL, height // _CELL), interpolation=cv2.INTER_AREA)


def suitable_scale(shape: tuple[int, ...], distance: float, wanted: float) -> float:
    """Scale up to 1 at which measurements are so dense that their `mean_distance` is `wanted`.

    The shorter side keeps 112 pixels or more. In steps of a quarter of an octave, so that the
    frames of a sequence have few sizes. shape: of the image, (H, W). distance: the `mean_distance`
    of its measurements, px.
    """
    scale = max(wanted / max(distance, 1e-6), _SHORTEST_SIDE / min(shape))
    return min(1.0, 2.0 ** (round(math.log2(scale) * 4) / 4))


def enlarge_depth(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Depth (h, w) float32, m, 0 = unknown, at the size `shape`; as `interpolate_surfaces`."""
    return interpolate_surfaces(torch.from_numpy(depth)[None, None], shape)[0, 0].numpy()


def interpolate_surfaces(depth: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Depth (B, 1, h, w), m, 0 = unknown, at the size `shape`.

    Interpolated within a surface only: between two surfaces, or next to unknown depth, a mean
    would be a flying point, so the nearest pixel is used.
    """
    nearest = F.interpolate(depth, shape, mode='nearest-exact')
    smooth = F.interpolate(depth, shape, mode='bilinear', align_corners=False)
    edge = (smooth - nearest).abs() > _EDGE_RATIO * nearest
    return torch.where(edge, nearest, smooth)


def enlarge_confidence(confidence: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Confidence (h, w) float32 at the size `shape`, interpolated."""
    image = torch.from_numpy(confidence)[None, None]
    return F.interpolate(image, shape, mode='bilinear', align_corners=False)[0, 0].numpy()
