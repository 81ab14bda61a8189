"""Networks that teach while a student trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.networks.mono import MonoNetwork
from dmd3c_ros.core.weights.mono import load

from .losses import Window
from .settings import MonoTeacherConfig


class Taught(NamedTuple):
    """label: (B, 1, h, w), relative inverse depth of each sample's own teacher; patches: of each
    window; features: (B, c, h', w') of the teachers, or None."""

    label: Tensor
    patches: list[Tensor]
    features: Tensor | None


class Teachers(nn.Module):
    """All teachers of a run, frozen.

    level: whose features are handed out. Raises as ``mono.weights.load``, and ValueError where
    features are wanted of teachers that differ in them.
    """

    def __init__(self, configs: Sequence[MonoTeacherConfig], level: int | None) -> None:
        super().__init__()
        self._sizes, self._level = [config.size for config in configs], level
        self.networks = nn.ModuleList(load(config.model) for config in configs)
        widths = {self.feature_width(n) for n in self.networks} if level is not None else set()
        if len(widths) > 1:
            raise ValueError(
                f'loss.feature: expected teachers with features of one width, got {sorted(widths)}'
            )

    def feature_width(self, network: MonoNetwork | None = None) -> int:
        """Channels of the features that are handed out."""
        return (network or self.networks[0]).feature_channels[self._level]

    def train(self, mode: bool = True) -> Teachers:
        """They never train: batch norm and dropped paths stay as they are."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, plain: Tensor, large: Tensor, which: Tensor, windows: Sequence[Window]
    ) -> Taught:
        """Ask each sample's teacher.

        plain (B, 3, h, w) and large (B, 3, H, W): the same image in 0..1; which: (B,), numbers
        of the teachers; windows: in pixels of plain.
        """
        size = plain.shape[-2:]
        label = plain.new_zeros(len(plain), 1, *size)
        detail = large.shape[-1] / plain.shape[-1]
        patches = [plain.new_zeros(len(plain), 1, w.height, w.width) for w in windows]
        features: Tensor | None = None
        for number, network in enumerate(self.networks):
            own = which == number
            if not own.any():
                continue
            output = self._ask(number, network, plain[own])
            label[own] = _sized(output.disparity, size)
            if self._level is not None:
                found = output.features[self._level].float()
                if features is None:
                    features = found.new_zeros(len(plain), *found.shape[1:])
                features[own] = _sized(found, features.shape[-2:])
            for patch, window in zip(patches, windows, strict=True):
                part = _scaled(window, detail)
                said = self._ask(number, network, large[own][(..., *part)]).disparity
                patch[own] = _sized(said, patch.shape[-2:])
        return Taught(label, patches, features)

    def _ask(self, number: int, network: MonoNetwork, image: Tensor):
        convention = network.convention
        height, width = image.shape[-2:]
        scale = self._sizes[number] / min(height, width)
        multiple = convention.size_multiple
        size = [max(1, round(n * scale / multiple)) * multiple for n in (height, width)]
        image = F.interpolate(image, size=size, mode='bicubic', antialias=True)
        mean, std = (
            image.new_tensor(v).view(1, 3, 1, 1) for v in (convention.mean, convention.std)
        )
        return network((image - mean) / std)


def _scaled(window: Window, factor: float) -> tuple[slice, slice]:
    rows, columns = window.slices
    return (
        slice(round(rows.start * factor), round(rows.stop * factor)),
        slice(round(columns.start * factor), round(columns.stop * factor)),
    )


def _sized(x: Tensor, size: Sequence[int]) -> Tensor:
    x = x.float()
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode='bilinear')
