"""Two-stage completion: a monocular network's depth, aligned to the points, guides the completion.

Gao et al., "Robust Lightweight Depth Estimation Model via Data-free Distillation", ICASSP 2024:
stage one is the light student's relative depth of the image; an alignment module brings it to the
sparse depth; stage two completes with the guidance of the image and the aligned depth. Here stage
two is the light network, which is given the aligned depth as a guide: one more thing to look at,
and one more candidate that its pixels may select. It begins as the light network alone, and stays
that where points are many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..alignment import AlignmentConfig, align_to_points
from ..appearance import shown_image
from ..camera import resizing
from ..resizing import interpolate_surfaces, mean_distance, shrink_sparse, suitable_scale
from . import mono
from .base import CompletionNetwork, NetworkOutput
from .light import LightNet

# Of an image for which stage one is run: more points tell more than the student.
MOST_POINTS = 1000
_MULTIPLE = LightNet.convention.size_multiple


class TwoStage(CompletionNetwork):
    """Student, alignment and a light completion network.

    student: name of the monocular network, which stays as it is while the rest trains. size: of
    the image's shorter side as the student sees it, pixels. alignment: None for its defaults.
    dropped: fraction of the training samples without a guide, so that stage two does not depend
    on it. Stage one is run for images with at most ``MOST_POINTS``, and in training for all.
    """

    # What stage two is given is made here, not by the caller: the student needs no points to see
    # an image's details, and it needs its colours.
    convention = replace(LightNet.convention, reduced_by='network', blurred_below=0.0, contrast=())

    def __init__(
        self,
        student: str = 'topformer_small',
        size: int = 192,
        alignment: AlignmentConfig | None = None,
        dropped: float = 0.3,
    ) -> None:
        super().__init__()
        self.mono = mono.build(student).requires_grad_(False).eval()
        self.completion = LightNet(guided=True)
        self._dropped = dropped
        self._size, self._alignment = size, alignment or AlignmentConfig()

    def train(self, mode: bool = True) -> TwoStage:
        """The student never trains here: its batch norms and dropped paths stay as they are."""
        super().train(mode)
        self.mono.eval()
        return self

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; confidence is P(relative error < 5 %).

        Where points lie far apart, stage two runs on a reduced image; in training, whose samples
        are reduced before, on the image as it is.
        """
        sparse = sparse.float()
        if self.training:
            guide = torch.zeros_like(sparse)
            kept = torch.rand(len(image), device=image.device) >= self._dropped
            if kept.any():
                guide[kept] = self.aligned(image[kept], sparse[kept])
            shown = self._shown(image, [_spacing(x) for x in sparse])
            return self.completion(shown, sparse, K, guide)
        each = zip(image, sparse, K, strict=True)
        outputs = [self._completed(*(x[None] for x in sample)) for sample in each]
        depth, confidence = (torch.cat(maps) for maps in zip(*outputs, strict=True))
        return NetworkOutput(depth, confidence, (depth,))

    @torch.no_grad()
    def aligned(self, image: Tensor, sparse: Tensor) -> Tensor:
        """Stage one, brought to metres: (B, 1, H, W); 0 in an image without a point."""
        scale = self._size / min(image.shape[-2:])
        disparity = self.mono(_resized(image, _scaled(image, scale, round))).disparity
        with torch.autocast(image.device.type, enabled=False):
            disparity = _resized(disparity.float(), image.shape[-2:])
            return align_to_points(disparity, sparse.float(), self._alignment).depth

    def _shown(self, image: Tensor, distances: Sequence[float]) -> Tensor:
        """Images (B, 3, H, W), normalized, as stage two is shown them, likewise.

        distances: of each image's pixels to the nearest point, on average.
        """
        wanted = self.completion.convention
        mean, std = (image.new_tensor(x).view(3, 1, 1) for x in (wanted.mean, wanted.std))
        colours = (image.float() * std + mean).permute(0, 2, 3, 1).cpu().numpy()
        shown = [
            shown_image(rgb, distance, wanted.blurred_below, wanted.contrast)
            for rgb, distance in zip(colours, distances, strict=True)
        ]
        result = torch.from_numpy(np.stack(shown)).to(image).permute(0, 3, 1, 2)
        return (result - mean) / std

    def _completed(self, image: Tensor, sparse: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
        """Depth and confidence (1, 1, H, W) of one sample, at the scale that suits its points."""
        few = torch.count_nonzero(sparse) <= MOST_POINTS
        guide = self.aligned(image, sparse) if few else torch.zeros_like(sparse)
        size, spacing, scale = tuple(sparse.shape[-2:]), _spacing(sparse[0]), 1.0
        if math.isfinite(spacing):
            scale = suitable_scale(size, spacing, self.convention.point_distance)
        small = _scaled(image, scale, math.ceil) if scale < 1 else size
        if small == size:
            output = self.completion(self._shown(image, [spacing]), sparse, K, guide)
            return output.depth, output.confidence
        fewer = shrink_sparse(sparse[0, 0], small)[None, None]
        output = self.completion(
            self._shown(_resized(image, small), [spacing * scale]),
            fewer,
            K.new_tensor(resizing(*size, *small)) @ K,
            _resized(guide, small),
        )
        return (
            interpolate_surfaces(output.depth.float(), size),
            _resized(output.confidence.float(), size),
        )


def _spacing(sparse: Tensor) -> float:
    """Mean distance of the pixels of (1, H, W) to the nearest point, pixels; inf without one."""
    points = sparse[0].cpu().numpy()
    return mean_distance(points) if points.any() else math.inf


def _scaled(image: Tensor, scale: float, rounded: Callable[[float], int]) -> tuple[int, int]:
    """Height and width at a scale, multiples of 32 pixels, 32 or more.

    A fraction of a pixel over a multiple does not make the next one.
    """
    height, width = (rounded(round(n * scale) / _MULTIPLE) * _MULTIPLE for n in image.shape[-2:])
    return max(height, _MULTIPLE), max(width, _MULTIPLE)


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(B, c, H, W) at a size, interpolated, filtered where it becomes smaller."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size=tuple(size), mode='bilinear', antialias=True)
