"""Triton kernels of the operations of BP-Net, for NVIDIA and AMD GPUs.

Each computes what the function of the same name in `nearest` and `local_conv` defines; those
choose at run time. Importing this module needs Triton, which PyTorch's GPU builds bring along.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_FAR = tl.constexpr(2**31 - 1)
_TILE_ROWS = 8
_TILE_COLUMNS = 16
_BLOCK = 256


def nearest_four(valid: Tensor) -> Tensor:
    """`nearest.nearest_valid` for four neighbours; waits for nothing on the GPU.

    valid: (B, 1, H, W) bool with H * H + W * W < 2**31. Returns (B, 4, H, W) int64.
    """
    batch, _, height, width = valid.shape
    pixels = height * width
    flat = valid.reshape(batch, pixels)
    # before[p]: how many valid pixels precede p; points[k]: the k-th valid pixel.
    before = torch.zeros(batch, pixels + 1, dtype=torch.int32, device=valid.device)
    before[:, 1:] = flat.cumsum(dim=1)
    own = torch.arange(pixels, dtype=torch.int32, device=valid.device).expand(batch, -1)
    slot = torch.where(flat, before[:, :-1], pixels).long()
    points = own.new_empty(batch, pixels + 1).scatter_(1, slot, own)
    found = own.new_empty(batch, 4, pixels)
    grid = (triton.cdiv(width, _TILE_COLUMNS), triton.cdiv(height, _TILE_ROWS), batch)
    _nearest_four[grid](
        before, points, found, height, width, _TILE_ROWS, _TILE_COLUMNS, num_warps=4
    )
    # Missing ones repeat the last found; the pixel itself stands in where there is none.
    previous = own
    complete = []
    for rank in range(4):
        previous = torch.where(found[:, rank] < 0, previous, found[:, rank])
        complete.append(previous)
    return torch.stack(complete, dim=1).view(batch, 4, height, width).long()


@triton.jit
def _nearest_four(before, points, found, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Search the four nearest points of a tile of pixels, by rows outward from the tile.

    Rows stop where none can hold a nearer point; of a row only the columns that can are read.
    """
    pixels = height * width
    before += tl.program_id(2) * (pixels + 1)
    points += tl.program_id(2) * (pixels + 1)
    found += tl.program_id(2) * 4 * pixels
    left, top = tl.program_id(0) * COLUMNS, tl.program_id(1) * ROWS
    right = tl.minimum(left + COLUMNS, width) - 1
    bottom = tl.minimum(top + ROWS, height) - 1
    lane = tl.arange(0, ROWS * COLUMNS)
    y, x = top + lane // COLUMNS, left + lane % COLUMNS
    inside = (y <= bottom) & (x <= right)

    d0 = tl.full((ROWS * COLUMNS,), _FAR, tl.int32)
    d1, d2, d3 = d0, d0, d0
    i0 = tl.full((ROWS * COLUMNS,), -1, tl.int32)
    i1, i2, i3 = i0, i0, i0
    # The farthest, in rows or columns, that a point can be and still count for the tile.
    reach = height + width
    rows = bottom - top + 1
    step = 0
    while (step < rows) | ((step - rows) // 2 < tl.minimum(reach, height)):
        # The tile's own rows come first, then by turns those above and below it.
        gap = tl.where(step < rows, 0, (step - rows) // 2 + 1)
        row = tl.where((step - rows) % 2 == 0, top - gap, bottom + gap)
        row = tl.where(step < rows, top + step, row)
        if (row >= 0) & (row < height):
            start = row * width + tl.maximum(left - reach, 0)
            stop = row * width + tl.minimum(right + reach, width - 1) + 1
            for k in range(tl.load(before + start), tl.load(before + stop)):
                p = tl.load(points + k)
                dx, dy = p - row * width - x, row - y
                d = dx * dx + dy * dy
                n0 = (d < d0) | ((d == d0) & (p > i0))
                n1 = (d < d1) | ((d == d1) & (p > i1))
                n2 = (d < d2) | ((d == d2) & (p > i2))
                n3 = (d < d3) | ((d == d3) & (p > i3))
                d3 = tl.where(n2, d2, tl.where(n3, d, d3))
                i3 = tl.where(n2, i2, tl.where(n3, p, i3))
                d2 = tl.where(n1, d1, tl.where(n2, d, d2))
                i2 = tl.where(n1, i1, tl.where(n2, p, i2))
                d1 = tl.where(n0, d0, tl.where(n1, d, d1))
                i1 = tl.where(n0, i0, tl.where(n1, p, i1))
                d0 = tl.where(n0, d, d0)
                i0 = tl.where(n0, p, i0)
            worst = tl.max(tl.where(inside, d3, 0), axis=0)
            if worst < _FAR:
                reach = tl.minimum(reach, tl.sqrt(worst.to(tl.float32)).to(tl.int32) + 1)
        step += 1
    pixel = y * width + x
    tl.store(found + pixel, i0, mask=inside)
    tl.store(found + pixels + pixel, i1, mask=inside)
    tl.store(found + 2 * pixels + pixel, i2, mask=inside)
    tl.store(found + 3 * pixels + pixel, i3, mask=inside)


def local_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """`local_conv.local_conv` without gradients, of contiguous float32 tensors."""
    out = torch.empty_like(x)
    _launch(_local_conv, x, kernel, out)
    return out


def local_conv_backward(grad: Tensor, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `local_conv` by x and by the kernel, of contiguous float32 tensors."""
    grad_x, grad_kernel = torch.empty_like(x), torch.empty_like(kernel)
    _launch(_local_conv_backward, x, kernel, grad, grad_x, grad_kernel)
    return grad_x, grad_kernel


def _launch(function: triton.JITFunction, x: Tensor, kernel: Tensor, *others: Tensor) -> None:
    batch, _, height, width = x.shape
    side = math.isqrt(kernel.shape[1])
    grid = (triton.cdiv(height * width, _BLOCK), batch)
    function[grid](x, kernel, *others, height, width, SIDE=side, BLOCK=_BLOCK)


@triton.jit
def _local_conv(x, kernel, out, height, width, SIDE: tl.constexpr, BLOCK: tl.constexpr):
    pixels = height * width
    x += tl.program_id(1) * pixels
    kernel += tl.program_id(1).to(tl.int64) * SIDE * SIDE * pixels
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    row, column = pixel // width, pixel % width
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in tl.static_range(SIDE * SIDE):
        r, c = row + tap // SIDE - SIDE // 2, column + tap % SIDE - SIDE // 2
        known = inside & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        weight = tl.load(kernel + tap * pixels + pixel, mask=known, other=0.0)
        total += weight * tl.load(x + r * width + c, mask=known, other=0.0)
    tl.store(out + tl.program_id(1) * pixels + pixel, total, mask=inside)


@triton.jit
def _local_conv_backward(
    x, kernel, grad, grad_x, grad_kernel, height, width, SIDE: tl.constexpr, BLOCK: tl.constexpr
):
    pixels = height * width
    plane = tl.program_id(1) * pixels
    stack = tl.program_id(1).to(tl.int64) * SIDE * SIDE * pixels
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    row, column = pixel // width, pixel % width
    own = tl.load(grad + plane + pixel, mask=inside, other=0.0)
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in tl.static_range(SIDE * SIDE):
        down, right = tap // SIDE - SIDE // 2, tap % SIDE - SIDE // 2
        # This pixel's kernel weighs the one `down`, `right` of it ...
        r, c = row + down, column + right
        known = inside & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        value = tl.load(x + plane + r * width + c, mask=known, other=0.0)
        tl.store(grad_kernel + stack + tap * pixels + pixel, own * value, mask=inside)
        # ... and is weighed itself by the kernel of the opposite one.
        r, c = row - down, column - right
        known = inside & (r >= 0) & (r < height) & (c >= 0) & (c < width)
        other = r * width + c
        weight = tl.load(kernel + stack + tap * pixels + other, mask=known, other=0.0)
        total += weight * tl.load(grad + plane + other, mask=known, other=0.0)
    tl.store(grad_x + plane + pixel, total, mask=inside)
