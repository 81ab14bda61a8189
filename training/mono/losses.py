"""Losses of monocular distillation, each one function with its equation.

Maps are relative inverse depth (B, 1, H, W) of student and teacher, larger when nearer; masks are
bool, the pixels where the teacher knows something. All give a scalar, 0 where nothing is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.alignment.masks import batch_mean, check_images
from training.losses import align, gradient_matching

from .normalization import NormalizationConfig, distance, normalized, residual
from .pointnet import PointNet

FEATURES = ('mse', 'cosine')
COMPARED = ('whole', 'points', 'both')


def channel_wise(
    student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Channel-wise distillation: how differently both share their attention among the pixels.

    L = T^2 sum_i p_i log(p_i / q_i), with p and q the softmax over all pixels of teacher and
    student, both normalized to median 0 and mean absolute deviation 1, at the temperature T; the
    mean over the images. Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction",
    ICCV 2021, Eq. 4, with depth as the only channel, and part (a) of the label-free paper.
    """
    check_images(student=student, teacher=teacher, mask=mask)
    if not temperature > 0:
        raise ValueError(f'temperature: expected above 0, got {temperature}')
    m = mask.flatten(1)
    p, q = (
        (normalized(x.flatten(1), m) / temperature).masked_fill(~m, -torch.inf).log_softmax(1)
        for x in (teacher, student)
    )
    divergence = torch.where(m, p.exp() * (p - q), torch.zeros_like(p)).sum(1)
    return temperature**2 * divergence.sum() / m.any(1).sum().clamp(min=1)


def squared(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of both after normalization: the plain loss that channel-wise
    distillation is compared with (the label-free paper's CN + MSE)."""
    check_images(student=student, teacher=teacher, mask=mask)
    difference = residual(student, teacher, mask, NormalizationConfig('global'))
    return batch_mean(difference.square(), mask)


class Points(NamedTuple):
    """Position maps (B, 3, N) of both at the same pixels, and which of these count (B, N)."""

    student: Tensor
    teacher: Tensor
    mask: Tensor


def position_maps(
    student: Tensor, teacher: Tensor, mask: Tensor, K: Tensor, count: int, offset: float
) -> Points:
    """Both maps as points in space.

    The teacher's relative inverse depth goes from 0 to 1 over the image; student by the scale
    and shift of least squares onto it. Depth is z = 1 / (d + offset), and a point is
    z ((u - cx) / fx, (v - cy) / fy, 1). How far away the farthest lies, a relative depth does not
    tell: offset decides. K: (B, 3, 3), pixels; count: at most so many pixels, on a grid.
    """
    check_images(student=student, teacher=teacher, mask=mask)
    height, width = student.shape[-2:]
    step = max(1, int((height * width / count) ** 0.5 + 0.999))
    u = torch.arange(step // 2, width, step, device=student.device)
    v = torch.arange(step // 2, height, step, device=student.device)
    picked = (..., v[:, None], u[None])
    t, s, m = teacher[picked], student[picked], mask[picked]
    low = t.masked_fill(~m, torch.inf).amin((1, 2, 3), keepdim=True)
    high = t.masked_fill(~m, -torch.inf).amax((1, 2, 3), keepdim=True)
    t = ((t - low) / (high - low).where(high > low, torch.ones_like(low))).where(
        m, t.new_zeros(())
    )
    s = align(s.where(m, s.new_zeros(())), t, m, 'least_squares').clamp(min=-0.5 * offset)
    x = (u.to(s.dtype)[None] - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (v.to(s.dtype)[None] - K[:, 1, 2, None]) / K[:, 1, 1, None]
    rays = torch.stack(
        torch.broadcast_tensors(x[:, None, :], y[:, :, None], x.new_ones(())), 1
    ).flatten(2)
    marked = m.flatten(1)
    points = (rays / (d.flatten(2) + offset) * marked[:, None] for d in (s, t))
    return Points(*points, marked)


def geometric(points: Points, pointnet: PointNet, compared: str = 'whole') -> Tensor:
    """Geometric distillation: squared difference of what PointNet sees in both position maps.

    L = mean (PointNet(P_S) - PointNet(P_T))^2, part (b) of the label-free paper. compared: the
    features of the 'whole' cloud, of its 'points', or 'both', added. Pixels that do not count lie
    at the origin in both.
    """
    if compared not in COMPARED:
        raise ValueError(f'compared: expected one of {COMPARED}, got {compared!r}')
    found, wanted = pointnet(points.student), pointnet(points.teacher)
    total = points.student.new_zeros(())
    if compared != 'points':
        total = total + F.mse_loss(found.whole, wanted.whole)
    if compared != 'whole':
        error = (found.points - wanted.points).square().mean(1)
        total = total + batch_mean(error, points.mask)
    return total


def shared_context(
    student: Tensor, teacher: Tensor, mask: Tensor, config: NormalizationConfig
) -> Tensor:
    """L_sc: both saw the same image; Distill Any Depth's basic term.

    1/N sum |N(d_S) - N(d_T)|, N the normalization of the configuration.
    """
    return distance(student, teacher, mask, config)


class Window(NamedTuple):
    """Part of an image: its upper left pixel and its size."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def overlapping_windows(
    height: int, width: int, rows: int, columns: int, overlap: float
) -> list[Window]:
    """rows x columns windows that cover an image; neighbours share ``overlap`` of their side.

    Raises ValueError for an overlap outside 0 to below 1.
    """
    if not 0 <= overlap < 1 or rows < 1 or columns < 1:
        raise ValueError(
            f'windows: expected 1 or more and an overlap of 0 to below 1, got {rows}x{columns}, '
            f'{overlap}'
        )

    def starts(length: int, count: int) -> tuple[list[int], int]:
        side = min(length, -int(-length // (count - (count - 1) * overlap)))
        last = length - side
        return [round(last * i / max(count - 1, 1)) for i in range(count)], side

    (tops, tall), (lefts, wide) = starts(height, rows), starts(width, columns)
    return [Window(top, left, tall, wide) for top in tops for left in lefts]


def local_global(
    student: Tensor,
    patches: Sequence[Tensor],
    windows: Sequence[Window],
    mask: Tensor,
    config: NormalizationConfig,
) -> Tensor:
    """L_lg: the student saw the whole image, the teacher one part of it after the other.

    1/P sum_p L(student's window p, the teacher's depth of patch p), L as of shared_context.
    patches: of each window (B, 1, h, w), at any size: they come to the window's.
    """
    if len(patches) != len(windows) or not windows:
        raise ValueError(
            f'local-global: expected a patch a window, got {len(patches)} and {len(windows)}'
        )
    total = student.new_zeros(())
    for patch, window in zip(patches, windows, strict=True):
        part = (..., *window.slices)
        size = (window.height, window.width)
        if patch.shape[-2:] != size:
            patch = F.interpolate(patch, size=size, mode='bilinear')
        total = total + distance(student[part], patch, mask[part], config)
    return total / len(windows)


def feature(student: Tensor, teacher: Tensor, projection: nn.Module, kind: str = 'mse') -> Tensor:
    """L_feat: the student's features, projected to the teacher's width, against the teacher's.

    student: (B, c, h, w); teacher: (B, C, h', w'), brought to h, w. 'mse': mean of the squared
    difference; 'cosine': 1 - cosine of the angle between both, as Depth Anything aligns features.
    """
    if kind not in FEATURES:
        raise ValueError(f'feature: expected one of {FEATURES}, got {kind!r}')
    projected = projection(student)
    wanted = F.interpolate(teacher, size=projected.shape[-2:], mode='bilinear')
    if kind == 'cosine':
        return 1 - F.cosine_similarity(projected, wanted, dim=1).mean()
    return F.mse_loss(projected, wanted)


def gradient(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    config: NormalizationConfig,
    scales: int = 4,
) -> Tensor:
    """L_grad: gradient matching of the normalized maps at several sizes (MiDaS, Eq. 11).

    1/N sum_k |grad_x R_k| + |grad_y R_k|, R = N(d_S) - N(d_T).
    """
    check_images(student=student, teacher=teacher, mask=mask)
    return gradient_matching(residual(student, teacher, mask, config), mask, scales)
