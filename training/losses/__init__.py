"""Losses of both training stages, each one function with its equation."""

from dmd3c_ros.core.alignment.fits import (
    ALIGNMENTS,
    align,
    fit_least_absolute,
    fit_least_squares,
    fit_median,
)
from training.losses.distillation import (
    DOMAINS,
    gradient_matching,
    in_domain,
    random_patch_loss,
    scale_shift_invariant_loss,
)
from training.losses.recipes import RECIPES, DepthLoss, LossConfig
from training.losses.supervised import masked_l1, masked_l2, multi_scale_mse

__all__ = [
    'ALIGNMENTS',
    'DOMAINS',
    'RECIPES',
    'DepthLoss',
    'LossConfig',
    'align',
    'fit_least_absolute',
    'fit_least_squares',
    'fit_median',
    'gradient_matching',
    'in_domain',
    'masked_l1',
    'masked_l2',
    'multi_scale_mse',
    'random_patch_loss',
    'scale_shift_invariant_loss',
]
