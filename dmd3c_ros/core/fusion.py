"""Rewriting a trained network for inference."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it; in place.

    Folded are neighbours in a Sequential and the pairs of attributes (convolution, norm) that a
    module names in its class attribute ``FOLDS``. The network must be in eval mode; its outputs
    stay the same.
    """
    for module in network.modules():
        pairs = getattr(module, 'FOLDS', ())
        if isinstance(module, nn.Sequential):
            pairs = pairwise([name for name, _ in module.named_children()])
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            transposed = isinstance(conv, nn.ConvTranspose2d)
            if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(
                norm, nn.BatchNorm2d
            ):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm, transposed))
                setattr(module, norm_name, nn.Identity())
    return network
