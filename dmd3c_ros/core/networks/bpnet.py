"""BP-Net: depth by bilateral propagation, then fusion and refinement, at six scales.

Tang et al., "Bilateral Propagation Network for Depth Completion", CVPR 2024. The base network of
DMD3C (CVPR 2025), whose released weights are of this architecture. 89.87 million parameters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import IMAGENET_MEAN, IMAGENET_STD, CompletionNetwork, Convention, NetworkOutput
from .bpnet_blocks import ConvBlock, drop_rates, initialize, residual_stage
from .bpnet_scale import Scale

# Of the weights trained on KITTI (BP-Net's own and both of DMD3C): RGB statistics in 0..255.
KITTI = Convention(
    mean=(90.9950 / 255, 96.2278 / 255, 94.3213 / 255),
    std=(79.2382 / 255, 80.5267 / 255, 82.1483 / 255),
    size_multiple=32,
)
# For BP-Net's weights trained on NYU Depth v2, whose depth is in tenths of a metre.
NYU = Convention(mean=IMAGENET_MEAN, std=IMAGENET_STD, size_multiple=32, depth_scale=10.0)


class BPNet(CompletionNetwork):
    """BP-Net. `forward` is as in `CompletionNetwork`; its pyramid holds all six scales.

    Every level of the pyramid is resized to the image's size, as the multi-scale loss of the
    paper compares it. Depth is not bounded: nothing keeps an untrained network above zero.

    drop_path: highest rate of stochastic depth in training.
    convention: of the weights that will be loaded, `KITTI` or `NYU`.
    """

    def __init__(self, drop_path: float = 0.1, convention: Convention = KITTI) -> None:
        super().__init__()
        self.convention = convention
        rates = drop_rates(drop_path, 12)
        self.conv_img = nn.Sequential(ConvBlock(3, 32), residual_stage(32, 32, 2, 1, rates))
        self.layer1_img = residual_stage(32, 64, 2, 2, rates)
        self.layer2_img = residual_stage(64, 128, 2, 2, rates)
        self.layer3_img = residual_stage(128, 256, 2, 2, rates)
        self.layer4_img = residual_stage(256, 256, 2, 2, rates)
        self.layer5_img = residual_stage(256, 256, 2, 2, rates)

        self.pred0 = Scale(0, 64, 32, drop_path)
        self.pred1 = Scale(1, 128, 64, drop_path)
        self.pred2 = Scale(2, 256, 128, drop_path)
        self.pred3 = Scale(3, 256, 256, drop_path)
        self.pred4 = Scale(4, 256, 256, drop_path)
        self.pred5 = Scale(5, 256, 256, drop_path)
        self.apply(initialize)

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> NetworkOutput:
        encoded = [self.conv_img(image)]
        for stage in (
            self.layer1_img,
            self.layer2_img,
            self.layer3_img,
            self.layer4_img,
            self.layer5_img,
        ):
            encoded.append(stage(encoded[-1]))

        scales = (self.pred0, self.pred1, self.pred2, self.pred3, self.pred4, self.pred5)
        pyramid = []
        coarser = None
        for scale, features in zip(reversed(scales), reversed(encoded), strict=True):
            coarser = scale(features, coarser, sparse, K)
            pyramid.append(_enlarge(coarser[1], sparse.shape[-2:]))
        return NetworkOutput(depth=pyramid[-1], pyramid=tuple(pyramid))


def _enlarge(depth: Tensor, size: torch.Size) -> Tensor:
    if depth.shape[-2:] == size:
        return depth
    return F.interpolate(depth, size=size, mode='bilinear', align_corners=True)
