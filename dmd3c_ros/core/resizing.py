"""Completion at a different size from the image: down for the network, and back up."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from .camera import resizing

# Neighbours that differ by more than this fraction of their depth are on two surfaces.
_EDGE_RATIO = 0.05
_SHORTEST_SIDE = 112  # minimum size of the shorter side, pixels, whatever the points


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
    """About how far the pixels around measurements are from the nearest of them, px.

    sparse: (H, W) float32, 0 = unknown, with a measurement at least. From the fraction of empty
    cells of 1, 2, 4 ... pixels: a pixel in an empty cell is about a quarter of the cell's edge
    farther away than one in a full cell. Every measurement represents its part of the image, so
    that the empty sky does not count, and the dense part of a scan counts most: parts of 64
    pixels, or as many more as it takes that those with a measurement hold 16 on average.
    """
    v, u = np.nonzero(sparse > 0)
    largest = math.ceil(math.log2(max(sparse.shape)))
    for levels in range(min(6, largest), largest + 1):
        columns = (sparse.shape[1] >> levels) + 1
        weight = np.bincount((v >> levels) * columns + (u >> levels))
        if len(v) >= 16 * np.count_nonzero(weight):
            break
    distance = 0.0
    height, width = sparse.shape
    for level in range(levels):
        shift = levels - level
        full = np.bincount((v >> shift) * columns + (u >> shift), minlength=len(weight))
        distance += 2**level / 4 * (1 - np.average(full, weights=weight) / 4**shift)
        # The cells of the next level that hold a measurement, each once.
        height, width = (height + 1) // 2, (width + 1) // 2
        cells = np.zeros((height, width), bool)
        cells[v >> 1, u >> 1] = True
        v, u = np.nonzero(cells)
    return float(distance)


def suitable_scale(sparse: np.ndarray, distance: float) -> float:
    """Scale up to 1 at which measurements are so dense that `mean_distance` is `distance`, px.

    The shorter side keeps 112 pixels or more. In steps of a quarter of an octave, so that the
    frames of a sequence have few sizes. sparse: as for mean_distance.
    """
    scale = max(distance / max(mean_distance(sparse), 1e-6), _SHORTEST_SIDE / min(sparse.shape))
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
