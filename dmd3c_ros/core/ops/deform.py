"""Modulated deformable propagation of a depth map, in plain PyTorch.

One step replaces each depth by a weighted sum of bilinear samples of the map (Zhu et al.,
"Deformable ConvNets v2", CVPR 2019, Eq. 1, with one channel):

    out(p) = sum_k w_k(p) * depth(p + t_k + o_k(p))

t_k is a tap of a regular grid around the pixel and o_k a learned offset. Samples outside the map
count as zero, as do the outer corners of the cell that straddles its border. NLSPN (Park et al.,
ECCV 2020) and LRRU (Wang et al., ICCV 2023) learn offsets for the neighbours alone: the centre
tap stays on its pixel and is not interpolated.

Positions depend on the offsets only, so propagating many times with the same offsets builds
`sampling_grid` once. Whatever the precision of the network, everything is computed in float32
(in float64 for float64): 16 bits hold neither a column of a wide image nor a depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# (row, column) of each tap, row by row; the centre is left out.
NEIGHBOURS_3X3 = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))


def sampling_grid(offset: Tensor, taps: Sequence[tuple[int, int]] = NEIGHBOURS_3X3) -> Tensor:
    """Positions that every pixel's taps look at, for `sample`.

    offset: (B, 2 K, H, W), pixels: row then column of tap 0, of tap 1, and so on.
    taps: K pairs (row, column), pixels.
    Returns (B, K, H, W, 2): row, column; -1 is pixel 0 and 1 is pixel 2 `_half_span`.
    Raises ValueError when the channels of offset do not fit the taps.
    """
    if offset.ndim != 4 or offset.shape[1] != 2 * len(taps):
        raise ValueError(f'offset: expected (B, {2 * len(taps)}, H, W), got {tuple(offset.shape)}')
    height, width = offset.shape[-2:]
    offset = _at_least_float32(offset)
    planar = offset.unflatten(1, (len(taps), 2))
    like = {'dtype': offset.dtype, 'device': offset.device}
    tap = torch.tensor(taps, **like)
    row_scale, col_scale = 1.0 / _half_span(height), 1.0 / _half_span(width)
    rows = torch.arange(height, **like) + tap[:, :1]
    cols = torch.arange(width, **like) + tap[:, 1:]
    # A power of two scales without rounding, so these are exact; one rounding follows, below.
    rows = (rows * row_scale - 1.0)[:, :, None]
    cols = (cols * col_scale - 1.0)[:, None, :]
    grid = torch.stack(
        (
            torch.add(rows, planar[:, :, 0], alpha=row_scale),
            torch.add(cols, planar[:, :, 1], alpha=col_scale),
        ),
        dim=2,
    )
    return grid.permute(0, 1, 3, 4, 2)


def sample(image: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of a one-channel map, zero outside it.

    image: (B, 1, H, W); grid: (B, K, H, W, 2) of `sampling_grid` for the same H and W.
    Returns (B, K, H, W).
    """
    batch, taps, height, width = grid.shape[:4]
    if image.shape != (batch, 1, height, width):
        raise ValueError(
            f'image: expected {(batch, 1, height, width)} like the grid, got {tuple(image.shape)}'
        )
    # Zeros up to the power of two leave the result as it is and keep positions precise to 1e-4
    # of a pixel: grid_sample scales by the size of what it is given. It takes (x, y) pairs;
    # in the transposed image that is (row, column), which saves interleaving the grid.
    padded = image.to(grid.dtype)
    if isinstance(height, int):
        padding = (0, 2 * _half_span(width) + 1 - width, 0, 2 * _half_span(height) + 1 - height)
        padded = F.pad(padded, padding)
    padded = padded.transpose(2, 3)
    # One tap per batch entry: grid_sample uses one core per entry.
    padded = padded.unsqueeze(1).expand(-1, taps, -1, -1, -1).flatten(0, 1)
    samples = F.grid_sample(padded, grid.flatten(0, 1), padding_mode='zeros', align_corners=True)
    return samples.view(batch, taps, height, width)


def propagate(depth: Tensor, weight: Tensor, grid: Tensor) -> Tensor:
    """One step of propagation with an unmoved centre.

    depth: (B, 1, H, W); weight: (B, K + 1, H, W), the centre's between the two halves of the
    K neighbours' (an even number); grid: (B, K, H, W, 2) of `sampling_grid`.
    Returns (B, 1, H, W).
    """
    count = grid.shape[1]
    if weight.shape[1] != count + 1 or count % 2:
        raise ValueError(
            f'weight: expected {count + 1} channels for {count} (even) neighbours and the centre, '
            f'got {weight.shape[1]}'
        )
    samples = sample(depth, grid)
    weight, depth = weight.to(samples.dtype), depth.to(samples.dtype)
    centre = count // 2
    total = weight[:, centre] * depth[:, 0]
    # A running sum over planes reads each once; (samples * weight).sum(1) takes twice as long.
    for k in range(count):
        total = torch.addcmul(total, weight[:, k if k < centre else k + 1], samples[:, k])
    return total.unsqueeze(1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _half_span(size: int | torch.SymInt) -> float:
    """Smallest power of two h such that pixels 0 .. size - 1 lie within 0 .. 2 h.

    For a dynamic size, in an exported network, just half of their span: positions are then also
    accurate to 1e-4 of a pixel, but round differently.
    """
    if not isinstance(size, int):
        return (size - 1) / 2
    return max(1, (1 << (size - 2).bit_length()) // 2)
