"""The common interface of all completion networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NetworkOutput(NamedTuple):
    """Result of one forward pass.

    depth: (B, 1, H, W), network depth (metres times the convention's ``depth_scale``).
    confidence: (B, 1, H, W) in 0..1, or None if the network has no such output.
    pyramid: predictions for multi-scale supervision, coarse to fine; the last is ``depth``.
    """

    depth: Tensor
    confidence: Tensor | None = None
    pyramid: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Convention:
    """What the weights of a network expect of their input.

    mean, std: of the RGB image scaled to 0..1, per channel.
    size_multiple: height and width must be multiples of it.
    depth_scale: network depth = metres * depth_scale.
    cut_above: fraction of the image's height that was not used in training, at the top, where
        there are no measurements. At most the rows above the first measurement are cut; they stay
        unknown.
    point_distance: mean distance of a pixel to the nearest measurement, pixels, up to which the
        network was trained; images with fewer points are reduced. 0: any.
    reduced_by: who reduces these, the 'caller' or the 'network' itself.
    blurred_below: mean distance of a pixel to the nearest measurement, pixels, below which the
        network is given a blurred image, as of ``appearance.without_details``. 0: never.
    contrast: windows, pixels, of the three channels that the network is given instead of colours,
        as of ``appearance.local_contrast``. Empty: colours.
    drops_enclosed: the network is not given what ``projection.drop_enclosed_points`` drops.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_multiple: int = 32
    depth_scale: float = 1.0
    cut_above: float = 0.0
    point_distance: float = 0.0
    reduced_by: str = 'caller'
    blurred_below: float = 0.0
    contrast: tuple[float, ...] = ()
    drops_enclosed: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f'mean, std: expected 3 numbers, std above 0; got {self}')
        if len(self.contrast) not in (0, 3) or any(window <= 0 for window in self.contrast):
            raise ValueError(f'contrast: expected 3 windows above 0, or none; got {self.contrast}')
        if self.reduced_by not in ('caller', 'network'):
            raise ValueError(
                f"reduced_by: expected 'caller' or 'network', got {self.reduced_by!r}"
            )
        if self.size_multiple < 1 or self.depth_scale <= 0 or not 0 <= self.cut_above < 1:
            raise ValueError(
                'expected size_multiple of 1 or more, depth_scale above 0, cut_above in 0..1; '
                f'got {self}'
            )


class CompletionNetwork(nn.Module):
    """Base of the networks: (image, sparse depth, K) -> dense depth (Eq. 1 of DMD3C)."""

    convention = Convention()
    guided = False
    """Whether ``forward`` takes a dense guide after K: (B, 1, H, W) network depth, 0 = unknown."""
    preparations: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({})
    """What the network makes of the sparse depth by rules that branch on the data: name ->
    function of (B, 1, H, W). An exported network is given their results."""

    def forward(
        self, image: Tensor, sparse: Tensor, K: Tensor, *prepared: Tensor
    ) -> NetworkOutput:
        """Complete a batch.

        image: (B, 3, H, W), normalized by the convention; sparse: (B, 1, H, W) network depth,
        0 = unknown; K: (B, 3, 3), pixels. Sizes are multiples of ``convention.size_multiple``.
        prepared: results of ``prepare``; computed here if they are not given.
        """
        raise TypeError(f'{type(self).__name__} does not define forward()')

    def prepare(self, sparse: Tensor) -> tuple[Tensor, ...]:
        """Results of the ``preparations``, in their order."""
        return tuple(make(sparse) for make in self.preparations.values())
