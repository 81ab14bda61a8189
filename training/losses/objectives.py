"""The objective of a run, by configuration: a term for dense pseudo labels (stage 1), the relative
error of exact depth (the light network), or the recipes of stage 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from dmd3c_ros.core.networks import NetworkOutput
from training.losses import (
    ALIGNMENTS,
    RECIPES,
    DepthLoss,
    LossConfig,
    gradient_matching,
    masked_l1,
    random_patch_loss,
    scale_shift_invariant_loss,
)
from training.losses.distillation import DIRECTIONS
from training.losses.recipes import LossTerms
from training.losses.supervised import at_size, pyramid_weights

Objective = Callable[[NetworkOutput, Mapping[str, Tensor]], LossTerms]
KINDS = ('l1', 'ssi', 'random_patch')


@dataclass(frozen=True)
class DenseLossConfig:
    """One term against the dense depth of a generated sample, on every scale of the output.

    kind: 'l1' (Eq. 6 of DMD3C), 'ssi' (Eq. 7, which section 4.1 names for stage 1 instead) or
        'random_patch' (the released code's normalized random windows).
    inverse: compare inverse depth, for 'ssi' and 'random_patch'.
    alignment, direction: of 'ssi'. Eq. 7 moves the teacher onto the prediction, for which any
        constant prediction is perfect; alone, SSI needs the other direction, MiDaS's.
    max_depth: deeper pixels do not count, m.
    """

    kind: str = 'l1'
    inverse: bool = False
    alignment: str = 'least_absolute'
    direction: str = 'prediction'
    max_depth: float = 200.0

    def __post_init__(self) -> None:
        for name, names in (
            ('kind', KINDS),
            ('alignment', ALIGNMENTS),
            ('direction', DIRECTIONS),
        ):
            if getattr(self, name) not in names:
                raise ValueError(f'{name}: expected one of {names}, got {getattr(self, name)!r}')


class DenseLoss:
    """Weighted over the pyramid as BP-Net's own loss: 1 for the finest scale, 1/4 a scale down."""

    def __init__(self, config: DenseLossConfig) -> None:
        self.config = config

    def __call__(self, output: NetworkOutput, batch: Mapping[str, Tensor]) -> LossTerms:
        c, truth = self.config, batch['depth']
        mask = (truth > 0) & (truth <= c.max_depth)
        pyramid = [at_size(level, truth) for level in output.pyramid or (output.depth,)]
        total = truth.new_zeros(())
        finest = total
        if c.kind == 'random_patch':
            levels = [self._domain(level) for level in pyramid]
            total = finest = random_patch_loss(levels, self._domain(truth), mask=mask)
        else:
            for weight, level in zip(pyramid_weights(len(pyramid)), pyramid, strict=True):
                finest = self._level(level, truth, mask)
                total = total + weight * finest
        return LossTerms(total, {c.kind: finest.detach()})

    def _level(self, prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        c = self.config
        if c.kind == 'l1':
            return masked_l1(prediction, truth, mask)
        return scale_shift_invariant_loss(
            self._domain(prediction), self._domain(truth), mask, c.alignment, c.direction
        )

    def _domain(self, depth: Tensor) -> Tensor:
        return 1 / depth.clamp(min=0.1) if self.config.inverse else depth


@dataclass(frozen=True)
class RelativeLossConfig:
    """Absolute and squared error relative to the mean depth of each image, and trust.

    l1, l2: weights of the two errors. confidence: of the calibration of the network's confidence
        (that the relative error is below 5 %). far: weight of pixels far from every point of the
        sweep, 1 near them. returns: of the error at those points of the sweep that are not in the
        input: real LiDAR returns, whose calibration and motion disagree with the exact depth;
        returns_l2: of its squared part, which tells how much to hedge where that is undecided.
        gradient: of the differences of log depth between neighbours at four scales: edges where
        the image has them, and flat surfaces between.
        geometric: the logarithms of each image's mean absolute and root mean square errors are
        averaged instead of the errors, so that easy images, whose errors are small, weigh as much
        as those that no network can solve.
        depth_power: pixels count by their depth relative to the image's mean, from a quarter to
        four times, to this power. 0: alike, and the few far ones hardly matter.
        max_depth: deeper pixels do not count, m.
    """

    l1: float = 1.0
    l2: float = 0.5
    geometric: bool = False
    confidence: float = 0.05
    far: float = 0.3
    returns: float = 0.0
    returns_l2: float = 4.0
    gradient: float = 0.0
    depth_power: float = 0.0
    max_depth: float = 100.0


# Added to an image's relative error before its logarithm: what is below need not be learned.
_LEAST_ERROR = 0.003


class RelativeLoss:
    """Rooms and streets weigh alike; each coarser scale of the output counts half."""

    def __init__(self, config: RelativeLossConfig) -> None:
        self.config = config

    def __call__(self, output: NetworkOutput, batch: Mapping[str, Tensor]) -> LossTerms:
        c, truth = self.config, batch['depth']
        valid = ((truth > 0) & (truth < c.max_depth)).float()
        scale = _mean(truth, valid, (1, 2, 3)).clamp(min=0.1)
        near = _near(batch.get('sweep', batch['sparse']))[
            ..., : truth.shape[-2], : truth.shape[-1]
        ]
        weight = valid * (c.far + (1 - c.far) * near) * self._by_depth(truth / scale)
        total = finest = truth.new_zeros(())
        for level in output.pyramid or (output.depth,):
            if level.shape[-2:] != truth.shape[-2:]:
                level = F.interpolate(level, size=truth.shape[-2:], mode='nearest')
            finest = self._average((level - truth) / scale, weight, c.l2)
            total = 0.5 * total + finest
        terms = {'relative': finest.detach()}
        if c.returns and 'sweep' in batch:
            held_out = batch['sweep'] * (batch['sparse'] == 0)
            valid_returns = ((held_out > 0) & (held_out < c.max_depth)).float()
            difference = (output.depth - held_out) / scale
            weight = valid_returns * self._by_depth(held_out / scale)
            returns = self._average(difference, weight, c.returns_l2)
            terms['returns'] = returns.detach()
            total = total + c.returns * returns
        if c.gradient:
            residual = output.depth.clamp(min=0.05).log() - truth.clamp(min=0.05).log()
            gradient = gradient_matching(residual, valid > 0)
            terms['gradient'] = gradient.detach()
            total = total + c.gradient * gradient
        if c.confidence and output.confidence is not None:
            trust = _trust(output, truth, valid)
            terms['confidence'] = trust.detach()
            total = total + c.confidence * trust
        return LossTerms(total, terms)

    def _by_depth(self, relative: Tensor) -> Tensor:
        return relative.clamp(0.25, 4) ** self.config.depth_power

    def _average(self, difference: Tensor, weight: Tensor, l2: float) -> Tensor:
        """Over all pixels, or the mean of the logarithms of the images' averages."""
        l1 = self.config.l1
        if not self.config.geometric:
            return _mean(_error(difference, l1, l2), weight).squeeze()
        mae = _mean(_error(difference, 1, 0), weight, (1, 2, 3)).flatten()
        mse = _mean(_error(difference, 0, 1), weight, (1, 2, 3)).flatten()
        error = l1 * (mae + _LEAST_ERROR).log() + l2 / 2 * (mse + _LEAST_ERROR**2).log()
        return (error * (weight.flatten(1).sum(1) > 0)).mean()


def _error(difference: Tensor, l1: float, l2: float) -> Tensor:
    error = difference.abs()
    # A few wild pixels must not own the gradient of the squared term.
    return l1 * error + l2 * error.clamp(max=2) ** 2


def _mean(values: Tensor, weight: Tensor, dims: tuple[int, ...] = (0, 1, 2, 3)) -> Tensor:
    total = weight.sum(dims, keepdim=True)
    return (values * weight).sum(dims, keepdim=True) / total.clamp(min=1)


def _near(sweep: Tensor) -> Tensor:
    """Within 8 to 16 pixels of a point; on a coarse grid, as a wide window costs too much."""
    near = F.max_pool2d((sweep > 0).float(), 8, ceil_mode=True)
    return F.interpolate(F.max_pool2d(near, 3, 1, 1), scale_factor=8, mode='nearest')


def _trust(output: NetworkOutput, truth: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy of the confidence with whether the depth is right within 5 %.

    The sky has no depth: whatever is said there is wrong, and trust must be low.
    """
    right = ((output.depth.detach() - truth).abs() < 0.05 * truth).float() * valid
    known = ((truth == 0) | (valid > 0)).float()
    confidence = output.confidence.clamp(1e-4, 1 - 1e-4)
    return F.binary_cross_entropy(confidence, right, weight=known)


class RecipeLoss:
    """The objective of stage 2: ground truth and the teacher's relative inverse depth."""

    def __init__(self, config: LossConfig) -> None:
        self._loss = DepthLoss(config)

    def __call__(self, output: NetworkOutput, batch: Mapping[str, Tensor]) -> LossTerms:
        return self._loss(output, batch['depth'], batch.get('disparity'))


@dataclass(frozen=True)
class ObjectiveConfig:
    """Exactly one of the first four. recipe: a name of ``training.losses.RECIPES``; terms: weights
    of one's own, the same way. earlier: of a recipe, as LossConfig has it: a network between whose
    predictions no gradient runs, as LRRU, learns the earlier ones by this alone (0.8: its
    authors')."""

    dense: DenseLossConfig | None = None
    relative: RelativeLossConfig | None = None
    recipe: str = ''
    terms: LossConfig | None = None
    earlier: float = 0.0

    def __post_init__(self) -> None:
        given = [c for c in (self.dense, self.relative, self.recipe or None, self.terms) if c]
        if len(given) != 1:
            raise ValueError(
                f'loss: expected one of dense, relative, recipe, terms; got {len(given)}'
            )
        if self.recipe and self.recipe not in RECIPES:
            raise ValueError(f'recipe: expected one of {", ".join(RECIPES)}, got {self.recipe!r}')
        if self.earlier and not self.recipe:
            raise ValueError('earlier: expected with a recipe only; terms have their own')

    def build(self) -> Objective:
        """The function to minimize: (output in m, batch) -> LossTerms."""
        if self.dense is not None:
            return DenseLoss(self.dense)
        if self.relative is not None:
            return RelativeLoss(self.relative)
        return RecipeLoss(self.weights)

    @property
    def weights(self) -> LossConfig | None:
        """Of the terms of a recipe; None for other objectives."""
        if not self.recipe:
            return self.terms
        recipe = RECIPES[self.recipe]
        return replace(recipe, earlier=self.earlier) if self.earlier else recipe


def in_metres(output: NetworkOutput, depth_scale: float) -> NetworkOutput:
    """A network's output with all depths in m, float32."""
    factor = 1 / depth_scale
    return NetworkOutput(
        output.depth.float() * factor,
        None if output.confidence is None else output.confidence.float(),
        tuple(level.float() * factor for level in output.pyramid),
    )
