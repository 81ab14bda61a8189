"""CompletionFormer: convolutions and vision transformers, with non-local propagation.

Zhang et al., "CompletionFormer: Depth Completion with Convolutions and Vision Transformers",
CVPR 2023: image and sparse depth are joined at the input, encoded by a pyramid of joint
convolutional-attention blocks (Sec. 3.2), decoded to an initial depth, a guidance and a
confidence map (Sec. 3.3), and refined by non-local spatial propagation (Sec. 3.4).

The module tree carries the names of the authors' released checkpoints (NYU and KITTI, alike).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import CompletionNetwork, Convention, NetworkOutput
from .cbam import CbamBlock
from .nlspn import NonLocalPropagation
from .pvt import DIMENSIONS, JointPyramid

MIN_SIZE = 32  # pixels a side: the coarsest map has 1/32 of it
_NEIGHBOURS = 8


class Backbone(nn.Module):
    """Image and sparse depth -> initial depth, guidance, confidence."""

    def __init__(self):
        super().__init__()
        self.conv1_rgb = _conv(3, 48, norm=False)
        self.conv1_dep = _conv(1, 16, norm=False)
        self.conv1 = _conv(64, 64, norm=False)
        self.former = JointPyramid()

        skips = (64, 128, *DIMENSIONS)
        self.dec6 = _up(skips[5], 256, ratio=16)
        self.dec5 = _up(256 + skips[4], 128, ratio=8)
        self.dec4 = _up(128 + skips[3], 64, ratio=4)
        self.dec3 = _up(64 + skips[2], 64, ratio=4)
        self.dec2 = _up(64 + skips[1], 64, ratio=4)

        self.dep_dec1 = _conv(64 + skips[0], 64)
        self.dep_dec0 = _conv(64 + 64, 1, norm=False)
        self.gd_dec1 = _conv(64 + skips[0], 64)
        self.gd_dec0 = _conv(64 + 64, _NEIGHBOURS, norm=False, relu=False)
        self.cf_dec1 = _conv(64 + skips[0], 32)
        self.cf_dec0 = nn.Sequential(nn.Conv2d(32 + 64, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, image: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return depth (B, 1, H, W), guidance (B, 8, H, W), confidence (B, 1, H, W)."""
        stem = self.conv1(torch.cat((self.conv1_rgb(image), self.conv1_dep(sparse)), dim=1))
        *skips, coarsest = self.former(stem)
        x = self.dec6(coarsest)
        for name, skip in zip(('dec5', 'dec4', 'dec3', 'dec2'), skips[:0:-1], strict=True):
            x = getattr(self, name)(_joined(x, skip))
        x = _joined(x, skips[0])
        depth = self.dep_dec0(_joined(self.dep_dec1(x), stem))
        guidance = self.gd_dec0(_joined(self.gd_dec1(x), stem))
        confidence = self.cf_dec0(_joined(self.cf_dec1(x), stem))
        return depth, guidance, confidence


class CompletionFormer(CompletionNetwork):
    """CompletionFormer; any size from 32 pixels a side."""

    convention = Convention(size_multiple=1)

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.prop_layer = NonLocalPropagation()

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        """Complete a batch; see the base class. K is not used."""
        if min(image.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f'image: expected at least {MIN_SIZE} pixels a side, got {tuple(image.shape)}'
            )
        depth, guidance, confidence = self.backbone(image, sparse.to(image.dtype))
        depth = self.prop_layer(depth + sparse, guidance, confidence)
        return NetworkOutput(depth.clamp_min(0.0), confidence)


def _conv(inputs: int, outputs: int, norm: bool = True, relu: bool = True) -> nn.Sequential:
    """3 x 3 convolution, batch normalization (then without bias) and ReLU if requested."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _up(inputs: int, outputs: int, ratio: int) -> nn.Sequential:
    """Transposed convolution that doubles the size, then a block with attention."""
    doubled = nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
    return nn.Sequential(doubled, CbamBlock(outputs, ratio))


def _joined(x: Tensor, skip: Tensor) -> Tensor:
    """Decoder and encoder features; the decoder's are resampled where rounding changed them."""
    if x.shape[-2:] != skip.shape[-2:]:
        x = F.interpolate(x, size=skip.shape[-2:], mode='bilinear', align_corners=True)
    return torch.cat((x, skip), dim=1)
