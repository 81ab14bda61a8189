"""What every monocular network takes and gives, whatever its paper."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..base import Convention


class MonoOutput(NamedTuple):
    """Result of one forward pass.

    disparity: (B, 1, H, W), relative inverse depth, larger when nearer: the inverse of depth but
        for a scale above 0 and a shift that differ from image to image.
    features: of the encoder, (B, c, h, w) each, in the network's order; ``feature_channels`` of
        the network has every c.
    """

    disparity: Tensor
    features: tuple[Tensor, ...]


class MonoNetwork(nn.Module):
    """Base of the monocular networks: an image -> relative inverse depth.

    zero_is_far: whether inverse depth is 0 or more, and 0 infinitely far.
    """

    convention = Convention()
    zero_is_far = False
    feature_channels: tuple[int, ...] = ()

    def forward(self, image: Tensor) -> MonoOutput:
        """Look at a batch of images.

        image: (B, 3, H, W), normalized by the convention; sizes are multiples of
        ``convention.size_multiple``.
        """
        raise TypeError(f'{type(self).__name__} does not define forward()')
