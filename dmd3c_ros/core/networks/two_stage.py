"""Two-stage completion: a monocular network's depth, aligned to the points, guides the completion.

Gao et al., "Robust Lightweight Depth Estimation Model via Data-free Distillation", ICASSP 2024:
stage one is the light student's relative depth of the image; an alignment module brings it to the
sparse depth; stage two completes with the guidance of the image and the aligned depth. Here stage
two completes what the aligned depth leaves: the ratio of measured to aligned depth is known at the
points, near 1 and smooth, and times the aligned depth it is depth again. Where points are few, the
shape is the student's; where they are many, theirs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..alignment import AlignmentConfig, align_to_points
from . import mono
from .base import CompletionNetwork, Convention, NetworkOutput
from .light import LightNet

_FARTHEST_RATIO = 4.0


class TwoStage(CompletionNetwork):
    """Student, alignment and a light completion network.

    student: name of the monocular network, which stays as it is while the rest trains. scale:
    fraction of the image's size that the student sees. alignment: None for its defaults.
    """

    convention = Convention(size_multiple=32)

    def __init__(
        self,
        student: str = 'topformer_small',
        scale: float = 0.5,
        alignment: AlignmentConfig | None = None,
    ) -> None:
        super().__init__()
        self.mono = mono.build(student).requires_grad_(False)
        self.completion = LightNet()
        self._scale, self._alignment = scale, alignment or AlignmentConfig()

    def train(self, mode: bool = True) -> TwoStage:
        """The student never trains here: its batch norms and dropped paths stay as they are."""
        super().train(mode)
        self.mono.eval()
        return self

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; confidence is P(relative error < 5 %)."""
        aligned = self.aligned(image, sparse)
        with torch.autocast(image.device.type, enabled=False):
            sparse = sparse.float()
            known = (sparse > 0) & (aligned > 0)
            # A point far off the aligned depth is a wrong one, or the alignment is: either way
            # the network need not see how far.
            ratio = sparse / aligned.where(known, torch.ones_like(aligned))
            ratio = ratio.clamp(1 / _FARTHEST_RATIO, _FARTHEST_RATIO) * known
        output = self.completion(image, ratio, K)
        pyramid = tuple(_times(level, aligned) for level in output.pyramid)
        return NetworkOutput(_times(output.depth, aligned), output.confidence, pyramid)

    @torch.no_grad()
    def aligned(self, image: Tensor, sparse: Tensor) -> Tensor:
        """Stage one, brought to metres: (B, 1, H, W); 0 in an image without a point."""
        disparity = self.mono(_shrunk(image, self._scale)).disparity
        with torch.autocast(image.device.type, enabled=False):
            disparity = disparity.float()
            disparity = F.interpolate(disparity, size=image.shape[-2:], mode='bilinear')
            return align_to_points(disparity, sparse.float(), self._alignment).depth


def _shrunk(image: Tensor, scale: float) -> Tensor:
    """The image at a fraction of its size, in multiples of 32 pixels that are near it."""
    size = [max(1, round(n * scale / 32)) * 32 for n in image.shape[-2:]]
    return F.interpolate(image, size=size, mode='bilinear', antialias=True)


def _times(ratio: Tensor, aligned: Tensor) -> Tensor:
    if ratio.shape[-2:] != aligned.shape[-2:]:
        aligned = F.interpolate(aligned, size=ratio.shape[-2:], mode='bilinear')
    return ratio.float() * aligned
