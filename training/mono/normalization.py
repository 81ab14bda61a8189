"""How relative depth of teacher and student is made comparable before it is compared.

He et al., "Distill Any Depth", 2025, figure 4, compare four ways; the hierarchical one is of Zhang
et al., "Hierarchical Normalization for Robust Monocular Depth Estimation", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmd3c_ros.core.alignment.masks import batch_mean, check_images, image_means, masked_median

KINDS = ('global', 'hybrid', 'local', 'none')
GROUPS = ('range', 'share')
_ROUNDING = 16.0  # a spread below so many rounding errors of the values is that of a constant


@dataclass(frozen=True)
class NormalizationConfig:
    """kind: what the numbers are made relative to.

    'global': the whole map, by its median and mean absolute deviation (MiDaS, TPAMI 2022, Eq. 5).
    'hybrid': groups of pixels of like depth, at every one of ``levels``, averaged. A level of n
        has n groups of the teacher's depth; (4,) leaves only the finest groups.
    'local': crops of the map, each by its own median and deviation: ``tiles`` x ``tiles`` of them.
    'none': nothing; the numbers are compared as they are.
    groups: of 'hybrid': 'range', equal parts of the teacher's range, or 'share', equal numbers of
        pixels.
    """

    kind: str = 'global'
    levels: tuple[int, ...] = (1, 2, 4)
    groups: str = 'range'
    tiles: int = 2

    def __post_init__(self) -> None:
        for name, names in (('kind', KINDS), ('groups', GROUPS)):
            if getattr(self, name) not in names:
                raise ValueError(
                    f'normalization: expected {name} of {names}, got {getattr(self, name)!r}'
                )
        if not self.levels or min(self.levels) < 1 or self.tiles < 1:
            raise ValueError(
                f'normalization: expected levels and tiles of 1 or more, got {self.levels}, '
                f'{self.tiles}'
            )

    @classmethod
    def named(cls, name: str) -> NormalizationConfig:
        """One of KINDS with everything else as it is. Raises ValueError for another name."""
        return cls(kind=name)


def normalized(values: Tensor, mask: Tensor) -> Tensor:
    """Median 0 and mean absolute deviation 1 of each row over its marked entries.

    values: (B, N). A row that is constant where it is marked becomes 0, without a gradient.
    """
    values = values.where(mask, values.new_zeros(()))
    centred = values - masked_median(values, mask)[:, None]
    spread = image_means(centred.abs(), mask)[0]
    largest = values.detach().abs().amax(1)
    varies = spread > _ROUNDING * torch.finfo(values.dtype).eps * largest
    result = centred / spread.where(varies, torch.ones_like(spread))[:, None]
    return result.where(mask & varies[:, None], result.new_zeros(()))


def residual(
    student: Tensor, teacher: Tensor, mask: Tensor, config: NormalizationConfig
) -> Tensor:
    """Student minus teacher (B, 1, H, W), both normalized; for 'hybrid' as for 'global'."""
    if config.kind == 'none':
        nothing = student.new_zeros(())
        return student.where(mask, nothing) - teacher.where(mask, nothing)
    s, t, m = (_tiled(x, _tiles(config)).flatten(1) for x in (student, teacher, mask))
    difference = normalized(s, m) - normalized(t, m)
    return _untiled(difference, mask, _tiles(config))


def distance(
    student: Tensor, teacher: Tensor, mask: Tensor, config: NormalizationConfig
) -> Tensor:
    """Mean absolute difference after normalization: of each image, then of the batch.

    student, teacher: (B, 1, H, W) relative inverse depth; mask: bool, the pixels that count.
    Raises ValueError for shapes that differ. 0 where nothing counts.
    """
    check_images(student=student, teacher=teacher, mask=mask)
    if config.kind != 'hybrid':
        return batch_mean(residual(student, teacher, mask, config).abs(), mask)
    s, t, m = (x.flatten(1) for x in (student, teacher, mask))
    total = s.new_zeros(s.shape)
    for level in config.levels:
        for group in _groups(t, m, level, config.groups):
            # Groups of one level are disjoint: each pixel meets one of them.
            total = total + (normalized(s, group) - normalized(t, group)).abs()
    return batch_mean(total / len(config.levels), m)


def _groups(teacher: Tensor, mask: Tensor, count: int, kind: str) -> list[Tensor]:
    """Masks (B, N) of ``count`` groups by the teacher's value; every marked entry is in one."""
    if count == 1:
        return [mask]
    with torch.no_grad():
        if kind == 'range':
            low = teacher.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
            high = teacher.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
            fraction = (teacher - low) / (high - low).where(high > low, torch.ones_like(low))
        else:
            order = teacher.masked_fill(~mask, torch.inf).argsort(1).argsort(1)
            fraction = order / mask.sum(1, keepdim=True).clamp(min=1)
        number = (fraction * count).nan_to_num(0).long().clamp(0, count - 1)
        return [mask & (number == i) for i in range(count)]


def _tiles(config: NormalizationConfig) -> int:
    return config.tiles if config.kind == 'local' else 1


def _tiled(image: Tensor, tiles: int) -> Tensor:
    """(B, 1, H, W) as (B * tiles^2, h, w), in crops that fill the image from its upper left.

    Sides are padded to a multiple with unmarked pixels, which the caller's mask (a zero) leaves
    out.
    """
    if tiles == 1:
        return image[:, 0]
    height, width = image.shape[-2:]
    padded = torch.nn.functional.pad(image, (0, -width % tiles, 0, -height % tiles))
    cut = padded[:, 0].unflatten(2, (tiles, -1)).unflatten(1, (tiles, -1))
    return cut.permute(0, 1, 3, 2, 4).flatten(0, 2)


def _untiled(values: Tensor, like: Tensor, tiles: int) -> Tensor:
    """Inverse of _tiled, of values flattened to (B * tiles^2, h * w)."""
    batch, _, height, width = like.shape
    h, w = -(-height // tiles), -(-width // tiles)
    whole = values.view(batch, tiles, tiles, h, w).permute(0, 1, 3, 2, 4)
    return whole.reshape(batch, 1, tiles * h, tiles * w)[..., :height, :width]
