"""Which loss enters with which weight: configuration, with the known recipes by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dmd3c_ros.core.alignment.fits import ALIGNMENTS
from dmd3c_ros.core.networks.base import NetworkOutput
from training.losses.distillation import (
    DIRECTIONS,
    DISPARITY_OFFSET,
    DOMAINS,
    aligned_residual,
    gradient_matching,
    in_domain,
    random_patch_loss,
    residual_loss,
)
from training.losses.supervised import at_size, masked_l1, masked_l2, multi_scale_mse

SupervisedTerm = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms, 0 to leave one out, and how the teacher is compared."""

    supervised: float = 1.0
    """L_sup, masked L1 (Eq. 2; Eq. 6 where the ground truth is dense)."""
    squared: float = 0.0
    """Masked squared error beside it, of LRRU and CompletionFormer."""
    depth_limit: float = 0.0
    """Prediction and ground truth are clamped to this for both, m; 0: they are not."""
    earlier: float = 0.0
    """L_sup of each prediction of the pyramid weighs so much of that of the one after it; 0: the
    last prediction alone counts, as Eq. 2 says."""
    ssi: float = 0.0
    """L_SSI, scale- and shift-invariant distillation (Eq. 7)."""
    gradient: float = 0.0
    """L_reg, gradient matching on the aligned residual (Eq. 8)."""
    multi_scale_mse: float = 0.0
    """BP-Net's squared error over its pyramid."""
    random_patch: float = 0.0
    """Normalized random windows of the released code."""
    alignment: str = 'least_absolute'
    direction: str = 'prediction'
    domain: str = 'depth'
    disparity_offset: float = DISPARITY_OFFSET
    gradient_scales: int = 4
    patches: int = 32
    patch_ratio_min: float = 1 / 8
    patch_ratio_max: float = 1 / 2

    def __post_init__(self) -> None:
        for name, names in (
            ('alignment', ALIGNMENTS),
            ('direction', DIRECTIONS),
            ('domain', DOMAINS),
        ):
            if getattr(self, name) not in names:
                raise ValueError(f'{name}: expected one of {names}, got {getattr(self, name)!r}')
        weights = {name: getattr(self, name) for name in TERMS}
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise ValueError(f'expected weights >= 0 with one above 0, got {weights}')
        for name in ('earlier', 'depth_limit'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}: expected at least 0, got {getattr(self, name)}')

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares with the monocular teacher."""
        return max(self.ssi, self.gradient, self.random_patch) > 0


TERMS = ('supervised', 'squared', 'ssi', 'gradient', 'multi_scale_mse', 'random_patch')

RECIPES = {
    # The prediction is moved onto the teacher, as MiDaS does, which the paper cites for this loss.
    # The paper gives no weights; 1/2 for the gradients is MiDaS's.
    'ssi': LossConfig(ssi=1.0, gradient=0.5),
    # Eq. 7 by the letter: the teacher is moved onto the prediction. The flatter the prediction,
    # the smaller this loss, down to zero for a constant one.
    'eq7': LossConfig(ssi=1.0, gradient=0.5, direction='teacher'),
    # Between inverse depths, of which a monocular network is right but for scale and shift. The
    # weights bring them to the size of errors in m.
    'inverse': LossConfig(ssi=10.0, gradient=5.0, domain='inverse', direction='teacher'),
    'released': LossConfig(supervised=0.0, multi_scale_mse=1.0, random_patch=1.0),
    'l1': LossConfig(),
    'bpnet': LossConfig(supervised=0.0, multi_scale_mse=1.0),
    'lrru': LossConfig(squared=1.0, earlier=0.8),
    # Of its settings for KITTI that minimize L1 alone, the row of Table 4.
    'completionformer': LossConfig(depth_limit=90.0),
}
"""The paper's objective, and its letter; with inverse depth; the released code's; L1 alone
(Table 3); what the authors of each network train it with. docs/fidelity.md compares them."""


class LossTerms(NamedTuple):
    """The weighted sum and, detached and before weighting, what it was made of."""

    total: Tensor
    terms: dict[str, Tensor]


class DepthLoss:
    """Objective of a recipe.

    Args:
        config: weights and settings.
        generator: draws the random windows; the global one where None.
    """

    def __init__(self, config: LossConfig, generator: torch.Generator | None = None) -> None:
        self.config = config
        self._generator = generator

    def __call__(
        self, output: NetworkOutput, target: Tensor, disparity: Tensor | None = None
    ) -> LossTerms:
        """Loss of a batch.

        Args:
            output: of the network; without a pyramid its depth is the only level.
            target: (B, 1, H, W) depth in the units of the output, 0 = unknown.
            disparity: (B, 1, H, W) the teacher's relative inverse depth, 0 (far) to 1 (near), NaN
                where it knows nothing; only read by terms that use a teacher.

        Raises:
            ValueError: the recipe needs a teacher and there is none, or shapes differ.
        """
        pyramid = output.pyramid or (output.depth,)
        terms: dict[str, Tensor] = {}
        if self.config.supervised:
            terms['supervised'] = self._supervised(masked_l1, pyramid, target)
        if self.config.squared:
            terms['squared'] = self._supervised(masked_l2, pyramid, target)
        if self.config.multi_scale_mse:
            terms['multi_scale_mse'] = multi_scale_mse(pyramid, target)
        if self.config.needs_teacher:
            if disparity is None:
                raise ValueError('this recipe needs monocular depth, and the batch has none')
            terms |= self._teacher_terms(output.depth, pyramid, disparity)
        total = sum(getattr(self.config, name) * term for name, term in terms.items())
        return LossTerms(total, {name: term.detach() for name, term in terms.items()})

    def _supervised(
        self, term: SupervisedTerm, pyramid: tuple[Tensor, ...], target: Tensor
    ) -> Tensor:
        mask, limit, weight = target > 0, self.config.depth_limit, 1.0
        loss = target.new_zeros(())
        for prediction in reversed(pyramid if self.config.earlier else pyramid[-1:]):
            prediction = at_size(prediction, target)
            if limit:
                loss = loss + weight * term(
                    prediction.clamp(0, limit), target.clamp(max=limit), mask
                )
            else:
                loss = loss + weight * term(prediction, target, mask)
            weight *= self.config.earlier
        return loss

    def _teacher_terms(
        self, depth: Tensor, pyramid: tuple[Tensor, ...], disparity: Tensor
    ) -> dict[str, Tensor]:
        config, terms = self.config, {}
        known = disparity.isfinite()
        disparity = disparity.where(known, disparity.new_zeros(()))
        prediction, teacher = in_domain(depth, disparity, config.domain, config.disparity_offset)
        if config.ssi or config.gradient:
            residual = aligned_residual(
                prediction, teacher, known, config.alignment, config.direction
            )
            if config.ssi:
                terms['ssi'] = residual_loss(residual, known, config.alignment)
            if config.gradient:
                terms['gradient'] = gradient_matching(residual, known, config.gradient_scales)
        if config.random_patch:
            levels = [
                in_domain(level, disparity, config.domain, config.disparity_offset)[0]
                for level in pyramid
            ]
            ratios = (config.patch_ratio_min, config.patch_ratio_max)
            terms['random_patch'] = random_patch_loss(
                levels, teacher, config.patches, ratios, self._generator, known
            )
        return terms
