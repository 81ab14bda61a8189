"""Depth completion without learning: IP-Basic, and the outlier filter that LRRU puts before it.

Ku, Harakeh and Waslander, "In Defense of Classical Image Processing: Fast Depth Completion on the
CPU", CRV 2018, Sec. III: depths are inverted, so that nearer surfaces win under dilation, then
dilated, closed, filled with growing windows, extended to the top of the image, smoothed and
inverted back. LRRU (Wang et al., ICCV 2023) starts from this map and closes what is left open.

Batched PyTorch on the device of its input, with no loop over pixels: windows grow by doubling
and the median is a sorting network on shifted planes.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_DEPTH = 0.1  # m; what is nearer is no measurement
MAX_DEPTH = 100.0  # m; depths are inverted to MAX_DEPTH - depth
OUTLIER_RADII = (3, 4, 6)  # pixels; diamonds of 7, 9 and 13 pixels across
OUTLIER_THRESHOLD = 1.0  # m past the mean of the neighbourhood


@torch.no_grad()
def ip_basic(sparse: Tensor) -> Tensor:
    """Fill a sparse depth map.

    sparse: (B, 1, H, W) m, 0 = unknown, any floating type.
    Returns (B, 1, H, W) float32 m, dense wherever the map holds any measurement.
    """
    inverted = sparse.float()
    inverted = torch.where(inverted > MIN_DEPTH, MAX_DEPTH - inverted, inverted)
    inverted = _dilate_cross(_dilate_cross(inverted))  # the diamond of 5
    inverted = -dilate(-dilate(inverted, 5), 5)  # closing
    inverted = _fill_empty(inverted, dilate(inverted, 7))
    inverted = _extend_up(inverted)
    inverted = _fill_empty(inverted, dilate(inverted, 31))
    # Smoothed in float64: at 100 m an inverted depth in float32 is good to 8 um, and the
    # difference to MAX_DEPTH keeps that error for a depth of 1 m.
    smooth = median_5x5(inverted).double()
    smooth = torch.where(smooth > MIN_DEPTH, _gaussian_5x5(smooth), smooth)
    depth = torch.where(smooth > MIN_DEPTH, MAX_DEPTH - smooth, smooth)
    return _close_holes(depth).float()


@torch.no_grad()
def remove_outliers(sparse: Tensor) -> Tensor:
    """Drop measurements further than their surroundings: points seen past a nearer surface.

    A depth goes when it lies OUTLIER_THRESHOLD past the mean of the measurements in any of the
    diamonds of OUTLIER_RADII around it.
    sparse: (B, 1, H, W) m, 0 = unknown, H and W above 6. Returns the same with zeros for them.
    """
    reach = max(OUTLIER_RADII)
    if min(sparse.shape[-2:]) <= reach:
        raise ValueError(f'sparse: expected more than {reach} pixels a side, got {sparse.shape}')
    padded = F.pad(sparse.float(), (reach,) * 4, mode='reflect')
    stride = padded.shape[-1]
    batch, _, row, col = (sparse > OUTLIER_THRESHOLD).nonzero(as_tuple=True)
    place = (batch * padded.shape[-2] + row + reach) * stride + col + reach
    flat = padded.flatten().double()
    depth = flat[place]
    outlier = torch.zeros_like(place, dtype=torch.bool)
    total, count = torch.zeros_like(depth), torch.zeros_like(depth)
    # Measurements are few, so only they are looked at (those within the threshold of zero cannot
    # lie past any mean); the diamonds grow ring by ring.
    for distance in range(reach + 1):
        for step in _ring_steps(distance, stride):
            neighbour = flat[place + step]
            total += neighbour
            count += neighbour > MIN_DEPTH
        if distance in OUTLIER_RADII:
            outlier |= depth - total / (count + 1e-5) > OUTLIER_THRESHOLD
    cleared = sparse.clone()
    cleared[batch[outlier], 0, row[outlier], col[outlier]] = 0
    return cleared


def dilate(image: Tensor, size: int) -> Tensor:
    """Maximum over a centred size x size window (size odd), within the image."""
    return _running_max(_running_max(image, size, dim=-2), size, dim=-1)


def median_5x5(image: Tensor) -> Tensor:
    """Median of every 5 x 5 window; the border is repeated outward. image: (B, 1, H, W)."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (2, 2, 2, 2), mode='replicate')
    # Columns are sorted once for all the windows that share them.
    rows = [padded[..., i : i + height, :] for i in range(5)]
    for a, b in _sorting_network(5):
        rows[a], rows[b] = torch.minimum(rows[a], rows[b]), torch.maximum(rows[a], rows[b])
    planes = [rows[i][..., j : j + width] for i in range(5) for j in range(5)]
    network, median = _median_of_sorted_columns()
    for a, b, lower, upper in network:
        low, high = planes[a], planes[b]
        if lower:
            planes[a] = torch.minimum(low, high)
        if upper:
            planes[b] = torch.maximum(low, high)
    return planes[median]


def _running_max(image: Tensor, size: int, dim: int) -> Tensor:
    """Maximum over a centred window of odd size along one of the last two axes."""
    reach = size // 2
    padding = (reach, reach) if dim == -1 else (0, 0, reach, reach)
    result, covered = F.pad(image, padding, value=float('-inf')), 1
    while covered < size:
        step = min(covered, size - covered)
        length = result.shape[dim] - step
        result = torch.maximum(result.narrow(dim, 0, length), result.narrow(dim, step, length))
        covered += step
    return result


def _dilate_cross(image: Tensor) -> Tensor:
    """Maximum over a pixel and its four neighbours."""
    return torch.maximum(_running_max(image, 3, dim=-2), _running_max(image, 3, dim=-1))


def _fill_empty(image: Tensor, by: Tensor) -> Tensor:
    return torch.where(image < MIN_DEPTH, by, image)


def _extend_up(image: Tensor) -> Tensor:
    """Repeat the topmost value of every column up to the first row."""
    top = (image > MIN_DEPTH).int().argmax(dim=-2, keepdim=True)  # 0 for an empty column
    rows = torch.arange(image.shape[-2], device=image.device)[:, None]
    return torch.where(rows < top, image.gather(-2, top), image)


def _gaussian_5x5(image: Tensor) -> Tensor:
    """Binomial window (1 4 6 4 1) / 16 along both axes, mirrored at the border."""
    taps = torch.tensor((1.0, 4.0, 6.0, 4.0, 1.0), dtype=image.dtype, device=image.device) / 16.0
    padded = F.pad(image, (2, 2, 2, 2), mode='reflect')
    height, width = image.shape[-2:]
    columns = sum(taps[i] * padded[..., i : i + height, :] for i in range(5))
    return sum(taps[j] * columns[..., j : j + width] for j in range(5))


def _ring_steps(distance: int, stride: int) -> list[int]:
    """Steps in a flat image to the pixels with |dy| + |dx| = distance."""
    return [
        dy * stride + dx
        for dy in range(-distance, distance + 1)
        for dx in {distance - abs(dy), abs(dy) - distance}
    ]


def _close_holes(depth: Tensor) -> Tensor:
    """Give every hole, with a margin of 3 pixels, the mean depth of a ring around it.

    Holes are 4-connected, taken in raster order, each on top of the last one's result. The ring
    is what a window of 13 reaches and one of 7 does not. An image that is all hole stays so.
    """
    depth = depth.clone()
    for image in depth[:, 0]:
        holes = image <= MIN_DEPTH
        if not bool(holes.any()):
            continue
        top, left, labels = _label_regions(holes)
        for label in labels[labels >= 0].unique():
            _fill_region(image, *_placed(labels == label, top, left))
    return depth


def _fill_region(image: Tensor, top: int, left: int, region: Tensor) -> None:
    """Fill a hole of an (H, W) image in place; region is its mask, its first pixel (top, left)."""
    height, width = region.shape
    margin = (min(left, 6), min(image.shape[1] - left - width, 6))
    margin += (min(top, 6), min(image.shape[0] - top - height, 6))
    hole = F.pad(region[None, None].float(), margin)
    inner = dilate(hole, 7)[0, 0] > 0
    ring = (dilate(hole, 13)[0, 0] > 0) & ~inner
    rows = slice(top - margin[2], top + height + margin[3])
    window = image[rows, left - margin[0] : left + width + margin[1]]
    if bool(ring.any()):
        window[inner] = window[ring].mean()


def _placed(mask: Tensor, top: int = 0, left: int = 0) -> tuple[int, int, Tensor]:
    """Cut a mask to what is set in it. Returns the place of its first pixel, and the cut."""
    rows, cols = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    first_row, first_col = int(rows[0]), int(cols[0])
    cut = mask[first_row : int(rows[-1]) + 1, first_col : int(cols[-1]) + 1]
    return top + first_row, left + first_col, cut


def _label_regions(mask: Tensor) -> tuple[int, int, Tensor]:
    """Number the 4-connected regions of an (H, W) mask in raster order of their first pixels.

    Returns (top, left, labels): the place of the smallest box around all regions, and within it
    the label of each pixel, -1 for none. Runs along rows and along columns take turns to adopt
    their smallest label until none changes; a simple blob takes a few turns.
    """
    top, left, mask = _placed(mask)
    labels = torch.arange(mask.numel(), device=mask.device).view(mask.shape)
    labels = torch.where(mask, labels, mask.numel())
    while True:
        before = labels
        labels = _smallest_of_runs(labels, mask)
        labels = _smallest_of_runs(labels.T, mask.T).T
        if torch.equal(before, labels):
            return top, left, torch.where(mask, labels, -1)


def _smallest_of_runs(labels: Tensor, mask: Tensor) -> Tensor:
    """Smallest label of each run of equal mask along the rows. labels, mask: (H, W)."""
    starts = torch.ones_like(mask)
    starts[:, 1:] = mask[:, 1:] != mask[:, :-1]
    runs = starts.flatten().cumsum(0) - 1
    flat = labels.flatten()
    smallest = flat.new_full((int(runs[-1]) + 1,), mask.numel())
    return smallest.scatter_reduce_(0, runs, flat, 'amin')[runs].view(labels.shape)


@cache
def _sorting_network(count: int) -> tuple[tuple[int, int], ...]:
    """Comparators of Batcher's merge exchange (Knuth, TAOCP 3, Algorithm 5.2.2M)."""
    top = 1 << (count - 1).bit_length() - 1
    network, p = [], top
    while p:
        q, r, d = top, 0, p
        while d:
            network += [(i, i + d) for i in range(count - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(network)


@cache
def _median_of_sorted_columns() -> tuple[tuple[tuple[int, int, bool, bool], ...], int]:
    """Comparators (a, b, minimum needed, maximum needed) that leave a 5 x 5 median, and its place.

    The columns are sorted. Once the rows are too, the value at row i and column j (from 1) has
    i j - 1 values at or below it and (6 - i)(6 - j) - 1 at or above, so that 6 are too low for
    the median and 6 too high: it is the median of the 13 others.
    """
    network = [(5 * i + a, 5 * i + b) for i in range(5) for a, b in _sorting_network(5)]
    middle = [
        5 * (i - 1) + j - 1
        for i in range(1, 6)
        for j in range(1, 6)
        if i * j <= 13 and (6 - i) * (6 - j) <= 13
    ]
    network += [(middle[a], middle[b]) for a, b in _sorting_network(13)]
    needed, kept = {middle[6]}, []
    for a, b in reversed(network):
        if a in needed or b in needed:
            kept.append((a, b, a in needed, b in needed))
            needed |= {a, b}
    return tuple(reversed(kept)), middle[6]
