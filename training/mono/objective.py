"""What a run of monocular distillation minimizes: the weighted sum of its terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmd3c_ros.core.networks.mono import MonoOutput
from dmd3c_ros.core.weights.checkpoint import read_state
from training.losses.recipes import LossTerms

from . import losses
from .losses import Window
from .pointnet import PointNet
from .settings import DistillConfig
from .teaching import Taught


class Objective(nn.Module):
    """Sum of the terms, and what they need to learn themselves.

    feature_widths: channels of the features of student and teacher, where these are compared.
    """

    def __init__(
        self,
        config: DistillConfig,
        windows: Sequence[Window],
        feature_widths: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.config, self._windows = config, list(windows)
        self.projection = None if feature_widths is None else nn.Conv2d(*feature_widths, 1)
        self.pointnet = _pointnet(config) if config.geometric else None

    def forward(self, output: MonoOutput, taught: Taught, K: Tensor) -> LossTerms:
        """output: of the student; taught: by the teachers; K: (B, 3, 3), pixels."""
        c, student = self.config, output.disparity
        mask = taught.label.isfinite()
        teacher = taught.label.where(mask, taught.label.new_zeros(()))
        terms: dict[str, Tensor] = {}
        if c.shared:
            terms['shared'] = losses.shared_context(student, teacher, mask, c.normalization)
        if c.local_global:
            # Where a teacher is exact, what it says of a patch is the patch of what it says.
            patches = taught.patches or [teacher[(..., *w.slices)] for w in self._windows]
            patches = [p.nan_to_num(0) for p in patches]
            terms['local_global'] = losses.local_global(
                student, patches, self._windows, mask, c.normalization
            )
        if c.feature:
            terms['feature'] = losses.feature(
                output.features[c.feature_level].float(),
                taught.features,
                self.projection,
                c.feature_kind,
            )
        if c.gradient:
            terms['gradient'] = losses.gradient(
                student, teacher, mask, c.normalization, c.gradient_scales
            )
        if c.channel_wise:
            terms['channel_wise'] = losses.channel_wise(student, teacher, mask, c.temperature)
        if c.geometric:
            points = losses.position_maps(
                student, teacher, mask, K, c.pointnet.points, c.pointnet.offset
            )
            terms['geometric'] = losses.geometric(points, self.pointnet, c.pointnet.compared)
        if c.squared:
            terms['squared'] = losses.squared(student, teacher, mask)
        total = sum(getattr(c, name) * term for name, term in terms.items())
        return LossTerms(total, {name: term.detach() for name, term in terms.items()})


def _pointnet(config: DistillConfig) -> PointNet:
    c = config.pointnet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed)
        network = PointNet(c.point_width, c.whole_width, c.transforms)
    if c.weights:
        network.load_state_dict(read_state(c.weights))
    return network.requires_grad_(c.learns)
