"""The valid pixels nearest to every pixel.

BP-Net propagates depth to each pixel from its four nearest measurements (Tang et al., "Bilateral
Propagation Network for Depth Completion", CVPR 2024, bilateral propagation module).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from . import gpu_kernels

_LEAF_SIZE = 16


def nearest_valid(valid: Tensor, count: int = 4) -> Tensor:
    """Find the `count` valid pixels nearest to every pixel, nearest first.

    Nearest by the distance of pixel centres. Among equally distant ones the later in raster
    order comes first, the order in which BP-Net's released weights were trained. With fewer than
    `count` valid pixels the last one found is repeated; with none, every pixel is given itself.

    valid: (B, 1, H, W) bool.
    Returns (B, count, H, W) int64 raster indices (row * W + column), on valid's device. On a CPU a
    k-d tree is searched on all threads; a GPU searches four neighbours itself where it can.
    Raises ValueError for another shape or type, or count < 1.
    """
    if valid.ndim != 4 or valid.shape[1] != 1 or valid.dtype != torch.bool:
        raise ValueError(
            f'valid: expected a bool tensor of shape (B, 1, H, W), '
            f'got {valid.dtype} {tuple(valid.shape)}'
        )
    if count < 1:
        raise ValueError(f'count: expected at least 1, got {count}')
    return _nearest_valid(valid, count)


# A custom operator, so that torch.compile sees one node with a known shape.
@torch.library.custom_op('dmd3c::nearest_valid', mutates_args=())
def _nearest_valid(valid: Tensor, count: int) -> Tensor:
    height, width = valid.shape[-2:]
    if valid.is_cuda and count == 4 and height**2 + width**2 < 2**31 and gpu_kernels():
        return gpu_kernels().nearest_four(valid)
    masks = valid[:, 0].cpu().numpy()
    index = np.stack([_search_tree(mask, count) for mask in masks])
    return torch.from_numpy(index).to(valid.device)


@_nearest_valid.register_fake
def _(valid: Tensor, count: int) -> Tensor:
    batch, _, height, width = valid.shape
    return valid.new_empty((batch, count, height, width), dtype=torch.int64)


def _search_tree(mask: np.ndarray, count: int) -> np.ndarray:
    """Search one (H, W) mask with a k-d tree; returns (count, H, W) int64."""
    height, width = mask.shape
    points = np.flatnonzero(mask)
    total = points.size
    if total == 0:
        own = np.arange(mask.size, dtype=np.int64).reshape(1, height, width)
        return np.repeat(own, count, axis=0)
    # A third coordinate settles ties within the tree: squared distances of pixels are whole
    # numbers, so adding the square of `lift`, below 1 and falling with the raster index, changes
    # no order but that of ties.
    lift = np.sqrt(np.arange(total - 1, -1, -1) / total)
    tree = cKDTree(np.stack([points // width, points % width, lift], axis=1), leafsize=_LEAF_SIZE)
    rows, columns = np.divmod(np.arange(mask.size), width)
    queries = np.stack([rows, columns, np.zeros_like(rows)], axis=1)
    found = min(count, total)
    # A list of ranks keeps the last axis when found is 1.
    _, near = tree.query(queries, k=range(1, found + 1), workers=torch.get_num_threads())
    near = np.concatenate([near, np.repeat(near[:, -1:], count - found, axis=1)], axis=1)
    return np.ascontiguousarray(points[near].T, np.int64).reshape(count, height, width)
