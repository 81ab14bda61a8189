"""LRRU: long-short range recurrent updating of a filled depth map.

Wang et al., "LRRU: Long-short Range Recurrent Updating Networks for Depth Completion", ICCV 2023.
The sparse map is filled without learning (`ops.ip_basic`, Sec. 3.1); a guided two-branch network
(Sec. 3.4) then yields, coarse to fine, four updates of it: each predicts weights and offsets of
a 3 x 3 deformable kernel from the current map and the network's features (Sec. 3.2), so that the
reach shrinks from long to short. Mini, Tiny, Small and Base differ in width alone.

The module tree carries the names of the authors' released checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.ops.deform import propagate, sampling_grid
from dmd3c_ros.core.ops.ip_basic import ip_basic, remove_outliers

from .base import CompletionNetwork, Convention, NetworkOutput

# Of 0..255, as the released checkpoints were trained with.
_MEAN = (90.995, 96.2278, 94.3213)
_STD = (79.2382, 80.5267, 82.1483)

PREPARATIONS = MappingProxyType({'trusted': remove_outliers, 'filled': ip_basic})

_KERNEL = 3  # of the deformable update
_BLOCKS_PER_STAGE = 2
_STAGES = 5


class ConvUnit(nn.Module):
    """Convolution, batch normalization if requested (then without bias), ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, norm: bool = True):
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=not norm)
        layers = OrderedDict([('0', conv)])
        if norm:
            layers['bn'] = nn.BatchNorm2d(outputs)
        layers['relu'] = nn.ReLU(inplace=True)
        self.conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UpUnit(nn.Module):
    """Transposed convolution that doubles the size, batch normalization, ReLU."""

    FOLDS = (('conv', 'bn'),)

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around an identity (He et al., CVPR 2016), with stochastic depth.

    survival: probability that the residual takes part in a training step, drawn once for the
    whole batch; in evaluation the residual is scaled by it (Huang et al., "Deep Networks with
    Stochastic Depth", ECCV 2016, Eq. 5). A skipped block leaves its weights without gradient, so
    DistributedDataParallel needs find_unused_parameters.
    """

    FOLDS = (('conv1', 'bn1'), ('conv2', 'bn2'))

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        survival: float | None = None,
        final_relu: bool = True,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _StridedPointwise(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        else:
            self.downsample = nn.Identity()
        self.survival = survival
        self.final_relu = final_relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.downsample(x)
        scale = self._residual_scale()
        if scale != 0.0:
            hidden = F.relu(self.bn1(self.conv1(x)), inplace=True)
            out = torch.add(out, self.bn2(self.conv2(hidden)), alpha=scale)
        return torch.relu(out) if self.final_relu else out

    def _residual_scale(self) -> float:
        if self.survival is None:
            return 1.0
        if self.training:
            return float(torch.bernoulli(torch.tensor([self.survival])))
        return self.survival


class _StridedPointwise(nn.Conv2d):
    """A 1x1 convolution that picks its pixels first.

    With fewer than 16 channels, in channels-last layout, oneDNN's gradient of a strided one by
    its weights writes past its memory (its issue 6035): training Mini on a CPU crashed.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


class Guide(nn.Module):
    """Merges image features into depth features of the same size."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = ConvUnit(2 * channels, channels)

    def forward(self, depth: Tensor, image: Tensor) -> Tensor:
        return self.conv(torch.cat((depth, image), dim=1))


class KernelHead(nn.Module):
    """Weights and offsets of the deformable kernel, from the current depth and a feature map."""

    def __init__(self, channels: int):
        super().__init__()
        taps = _KERNEL**2
        self.convd1 = ConvUnit(1, channels, norm=False)
        self.convd2 = ConvUnit(channels, channels, norm=False)
        self.convf1 = ConvUnit(channels, channels, norm=False)
        self.convf2 = ConvUnit(channels, channels, norm=False)
        self.conv = ConvUnit(2 * channels, 2 * channels, norm=False)
        self.ref = ResidualBlock(2 * channels, 2 * channels, final_relu=False)
        self.conv_weight = nn.Conv2d(2 * channels, taps, 1)
        self.conv_offset = nn.Conv2d(2 * channels, 2 * (taps - 1), 1)

    def forward(self, depth: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (B, 9, H, W) in 0..1 and offsets (B, 16, H, W) of the neighbours."""
        joined = (self.convd2(self.convd1(depth)), self.convf2(self.convf1(context)))
        feature = self.ref(self.conv(torch.cat(joined, dim=1)))
        return torch.sigmoid(self.conv_weight(feature)), self.conv_offset(feature)


class ResidualUpdate(nn.Module):
    """The update step: depth plus a deformable sum whose weights add up to zero (Eq. 3-4)."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 1, _KERNEL, _KERNEL))
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, depth: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
        weight = weight.to(depth.dtype)
        weight = (weight - weight.mean(dim=1, keepdim=True)) * self.w.view(1, -1, 1, 1)
        return depth + propagate(depth, weight, sampling_grid(offset)) + self.b


class LRRU(CompletionNetwork):
    """LRRU of a given width.

    width: base channel count (the paper's Mini, Tiny, Small, Base: 2, 4, 8, 16).
    survival: of the deepest residual block under stochastic depth; it falls linearly from 1.
    The output's pyramid holds the four updates, all at full size.
    """

    convention = Convention(
        mean=tuple(value / 255.0 for value in _MEAN),
        std=tuple(value / 255.0 for value in _STD),
        size_multiple=16,
    )
    preparations = PREPARATIONS

    def __init__(self, width: int = 16, survival: float = 0.5):
        super().__init__()
        c = 2 * width
        self.conv_img = ConvUnit(3, c, size=5)
        self.conv_lidar = ConvUnit(1, c, size=5, norm=False)
        channels = (c, 2 * c, 4 * c, 8 * c, 8 * c, 8 * c)
        for stage in range(1, _STAGES + 1):
            for branch in ('img', 'lidar'):
                layer = _residual_stage(channels[stage - 1], channels[stage], stage, survival)
                setattr(self, f'layer{stage}_{branch}', layer)
            if stage < _STAGES:
                setattr(self, f'guide{stage}', Guide(channels[stage]))

        self.layer4d = UpUnit(8 * c, 8 * c)
        self.upproj0 = nn.Sequential(UpUnit(8 * c, 4 * c), UpUnit(4 * c, 2 * c), UpUnit(2 * c, c))
        self.weight_offset0 = KernelHead(c)
        self.layer3d = UpUnit(8 * c, 8 * c)
        self.upproj1 = nn.Sequential(UpUnit(8 * c, 4 * c), UpUnit(4 * c, c))
        self.weight_offset1 = KernelHead(c)
        self.layer2d = UpUnit(8 * c, 4 * c)
        self.upproj2 = nn.Sequential(UpUnit(4 * c, c))
        self.weight_offset2 = KernelHead(c)
        self.layer1d = UpUnit(4 * c, 2 * c)
        self.conv = ConvUnit(2 * c, c)
        self.weight_offset3 = KernelHead(c)
        self.Post_process = ResidualUpdate()
        self.apply(_initialize)

    def forward(
        self, image: Tensor, sparse: Tensor, K: Tensor, *prepared: Tensor
    ) -> NetworkOutput:
        """Complete a batch; see the base class. K is not used."""
        trusted, filled = prepared or self.prepare(sparse)
        depth = filled.to(torch.promote_types(sparse.dtype, torch.float32))
        updates = []
        for level, context in enumerate(self._contexts(image, sparse)):
            # Measurements are restored before each update, and no gradient flows through it: every
            # update is supervised separately.
            depth = torch.where(trusted > 0, trusted, depth).detach()
            weight, offset = getattr(self, f'weight_offset{level}')(
                depth.to(context.dtype), context
            )
            depth = self.Post_process(depth, weight, offset)
            updates.append(depth)
        return NetworkOutput(depth, pyramid=tuple(updates))

    def _contexts(self, image: Tensor, sparse: Tensor) -> tuple[Tensor, ...]:
        """Feature maps (B, c, H, W) for the four updates, made of coarse to fine features."""
        stem = self.conv_lidar(sparse.to(image.dtype))
        image, depth, guided = self.conv_img(image), stem, []
        for stage in range(1, _STAGES + 1):
            image = getattr(self, f'layer{stage}_img')(image)
            depth = getattr(self, f'layer{stage}_lidar')(depth)
            if stage < _STAGES:
                depth = getattr(self, f'guide{stage}')(depth, image)
                guided.append(depth)
        c4 = self.layer4d(image + depth) + guided[3]
        c3 = self.layer3d(c4) + guided[2]
        c2 = self.layer2d(c3) + guided[1]
        c1 = self.layer1d(c2) + guided[0]
        return self.upproj0(c4), self.upproj1(c3), self.upproj2(c2), self.conv(c1) + stem


def _residual_stage(inputs: int, outputs: int, stage: int, survival: float) -> nn.Sequential:
    """Two residual blocks; the first halves the size, except in stage 1."""
    last = _STAGES * _BLOCKS_PER_STAGE - 1
    blocks = []
    for index in range(_BLOCKS_PER_STAGE):
        position = (stage - 1) * _BLOCKS_PER_STAGE + index
        blocks.append(
            ResidualBlock(
                inputs if index == 0 else outputs,
                outputs,
                stride=2 if index == 0 and stage > 1 else 1,
                survival=1.0 - (1.0 - survival) * position / last,
            )
        )
    return nn.Sequential(*blocks)


def _initialize(module: nn.Module) -> None:
    """Truncated normal weights of variance 2.6 / fan-in, no bias."""
    if isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        deviation = (2.6 / fan_in) ** 0.5
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def lrru_mini() -> LRRU:
    return LRRU(width=2, survival=1.0)


def lrru_tiny() -> LRRU:
    return LRRU(width=4)


def lrru_small() -> LRRU:
    return LRRU(width=8)


def lrru_base() -> LRRU:
    return LRRU(width=16)
