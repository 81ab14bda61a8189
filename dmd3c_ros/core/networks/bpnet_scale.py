"""One scale of BP-Net: weighted pooling, bilateral propagation, fusion, refinement.

Depth stays float32 throughout, whatever type autocast gives the features: bfloat16 would round
80 m to a quarter of a metre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmd3c_ros.core.ops.local_conv import local_conv
from dmd3c_ros.core.ops.nearest import nearest_valid

from .bpnet_blocks import ConvBlock, FusionUNet, UpMerge

# Depths up to this (1 mm in metres) mean that a pixel was not measured.
MIN_DEPTH = 1e-3
NEIGHBOURS = 4
_EPS = 1e-6


def _wide(x: Tensor) -> Tensor:
    """Raise the reduced types of autocast to float32, the type of all depth."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def backproject(depth: Tensor, K: Tensor) -> Tensor:
    """Return the points of a depth map in the camera's optical frame.

    depth: (B, 1, H, W). K: (B, 3, 3) of this map's size, pixels. Returns (B, 3, H, W): x, y, z.
    """
    height, width = depth.shape[-2:]
    u = torch.arange(width, device=depth.device, dtype=depth.dtype)
    v = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    fx, fy, cx, cy = (
        K[:, row, column].reshape(-1, 1, 1, 1) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    return torch.cat([depth * (u - cx) / fx, depth * (v - cy) / fy, depth], dim=1)


def scale_intrinsics(K: Tensor, level: int) -> Tensor:
    """Return K for a map 2**level times smaller, as the released weights were trained with it.

    Focal lengths and principal point are divided alike (pixel centres at whole numbers would ask
    for a further shift by half a pixel less half a small one).
    """
    return torch.cat([K[:, :2] * 0.5**level, K[:, 2:]], dim=1)


class WeightedPool(nn.Module):
    """Shrinks the sparse depth to a scale: a mean of each cell's measurements, weights learned.

    The weights of a cell's pixels are a softmax, over the measured ones, of logits that the
    features of this scale give (section on the multi-scale network).
    """

    # Logits are lifted by this before the maximum of a cell is taken, so that unmeasured pixels
    # lose. It rounds the maximum to 1/16, which the small constant in the denominator lets
    # through to the result: the released weights were trained with it.
    _LIFT = 1e6

    def __init__(self, channels: int, level: int) -> None:
        super().__init__()
        self.cell = 2**level
        self.permute = nn.ModuleDict(
            {
                'conv': nn.Sequential(
                    ConvBlock(channels, channels, kernel_size=1),
                    ConvBlock(channels, channels, kernel_size=1),
                    nn.Conv2d(channels, self.cell**2, kernel_size=1),
                )
            }
        )

    def forward(self, sparse: Tensor, features: Tensor) -> Tensor:
        """(B, 1, H, W) depth, (B, C, h, w) features -> (B, 1, h, w) depth, 0 = unknown."""
        logits = _wide(self.permute['conv'](features))
        # Channel i * cell + j of the logits belongs to pixel (i, j) of the cell.
        depth = F.pixel_unshuffle(sparse, self.cell)
        measured = depth > MIN_DEPTH
        with torch.no_grad():
            lifted = (logits + self._LIFT) * measured
            highest = lifted.amax(dim=1, keepdim=True) - self._LIFT
        weights = torch.exp((logits - highest).masked_fill(~measured, -torch.inf))
        total = weights.mean(dim=1, keepdim=True)
        return (depth * weights).mean(dim=1, keepdim=True) / (total + _EPS)


class BilateralPropagation(nn.Module):
    """Gives each pixel a depth from its nearest measurements (bilateral propagation module).

    D_i = sum over j of omega_ij * ((1 + alpha_ij) * S_j + beta_ij), the coefficients from an MLP
    of the features of pixel i and of measurement j, the point of j, and the offset from i to j.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convXF = nn.Sequential(
            ConvBlock(2 * channels + 3 + 2, channels, kernel_size=1, activation=nn.GELU()),
            ConvBlock(channels, channels, kernel_size=1, activation=nn.GELU()),
        )
        self.convXL = nn.Sequential(
            ConvBlock(channels, channels, kernel_size=1, activation=nn.GELU()),
            ConvBlock(channels, channels, kernel_size=1, activation=nn.Identity()),
        )
        self.coef = nn.ModuleDict({'conv': nn.Conv2d(channels, 3, kernel_size=1)})

    # Values processed at a time on a CPU without gradients, so that they fit into the caches.
    _CHUNK = 2**19

    def forward(self, features: Tensor, sparse: Tensor, K: Tensor) -> Tensor:
        """(B, C, h, w) features, (B, 1, h, w) depth, (B, 3, 3) of this size -> (B, 1, h, w)."""
        batch, channels, height, width = features.shape
        index = nearest_valid(sparse > MIN_DEPTH, NEIGHBOURS)
        first = torch.arange(batch, device=index.device).view(-1, 1, 1, 1) * (height * width)
        neighbours = (index + first).permute(0, 2, 3, 1).reshape(-1, NEIGHBOURS)
        with torch.autocast(features.device.type, enabled=False):
            own, near = self._first_layer(_wide(features), backproject(sparse, K))
        depth = sparse.reshape(-1)
        # A compiler fuses what the chunks separate, and would unroll their loop.
        compiling = torch.compiler.is_compiling()
        whole = self.training or torch.is_grad_enabled() or features.is_cuda or compiling
        chunk = len(own) if whole else self._CHUNK // (channels * NEIGHBOURS)
        parts = [
            self._propagate(own[start : start + chunk], near, depth, part)
            for start, part in zip(range(0, len(own), chunk), neighbours.split(chunk), strict=True)
        ]
        return torch.cat(parts).reshape(batch, 1, height, width)

    def _first_layer(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the first convolution, which is linear, to pixels instead of pairs of pixels.

        Its input is the features of i, the features and the point of j, and the offset from i to
        j, the difference of their positions: its output is a sum of a part of i and a part of j.
        Returns these, each (B * h * w, C).
        """
        convolution = self.convXF[0].conv.conv
        weight = convolution.weight.flatten(1)
        batch, channels, height, width = features.shape
        of_own, of_near, of_point, of_offset = weight.split([channels, channels, 3, 2], dim=1)
        column = torch.arange(width, device=weight.device, dtype=weight.dtype).expand(height, -1)
        row = torch.arange(height, device=weight.device, dtype=weight.dtype)[:, None]
        position = torch.stack([column, row.expand(-1, width)], dim=-1).flatten(0, 1)
        position = (position @ of_offset.t()).repeat(batch, 1)

        rows = features.permute(0, 2, 3, 1).flatten(0, 2)
        points = points.permute(0, 2, 3, 1).flatten(0, 2)
        own = F.linear(rows, of_own, convolution.bias) - position
        near = F.linear(rows, of_near) + F.linear(points, of_point) + position
        return own, near

    def _propagate(self, own: Tensor, near: Tensor, depth: Tensor, neighbours: Tensor) -> Tensor:
        """(n, C), (N, C), (N), (n, 4) indices into the two before -> (n) depths."""
        first = F.embedding(neighbours, near) + own[:, None]
        x = _pointwise(self.convXF[0], first.flatten(0, 1), convolved=True)
        x = _pointwise(self.convXF[1], x)
        x = F.gelu(x + _pointwise(self.convXL[1], _pointwise(self.convXL[0], x)))
        last = self.coef['conv']
        coefficients = _wide(F.linear(x, last.weight.flatten(1), last.bias))
        alpha, beta, omega = coefficients.unflatten(0, (-1, NEIGHBOURS)).unbind(dim=-1)
        return (((alpha + 1) * depth[neighbours] + beta) * omega.softmax(dim=1)).sum(dim=1)


def _pointwise(block: ConvBlock, x: Tensor, convolved: bool = False) -> Tensor:
    """Run a 1x1 block on rows (n, C), where a pixel's channels are contiguous in memory."""
    layers = block.conv
    if not convolved:
        x = F.linear(x, layers.conv.weight.flatten(1), layers.conv.bias)
    if not isinstance(layers.bn, nn.Identity):
        x = layers.bn(x[..., None, None])[..., 0, 0]
    return layers.relu(x)


class AffinityKernels(nn.Module):
    """Generates a k x k kernel per pixel that sums to 1 (CSPN++, Eq. 2)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            ConvBlock(channels, channels),
            ConvBlock(channels, side * side - 1, activation=nn.Identity()),
        )
        # Training starts from kernels that leave the depth as it is.
        nn.init.zeros_(self.conv[1].conv.bn.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, k * k, h, w) float32, contiguous."""
        around = _wide(self.conv(features)).contiguous()
        around = around / (around.abs().sum(dim=1, keepdim=True) + _EPS)
        centre = 1 - around.sum(dim=1, keepdim=True)
        before, after = around.chunk(2, dim=1)
        return torch.cat([before, centre, after], dim=1)


class Refinement(nn.Module):
    """Propagates depth with kernels of 3, 5 and 7 pixels and mixes the results (CSPN++).

    Measured pixels are pulled back to their measurement after every step (Eq. 3 there).
    """

    SIDES = (3, 5, 7)

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        count = len(self.SIDES)
        for side in self.SIDES:
            setattr(self, f'weight{side}x{side}', AffinityKernels(channels, side))
        self.convmask = _head(channels, channels, count, nn.Sigmoid())
        self.convck = _head(channels, channels, count, nn.Softmax(dim=1))
        self.convct = _head(channels + 3, channels, 3, nn.Softmax(dim=1))

    def forward(self, features: Tensor, depth: Tensor, sparse: Tensor) -> Tensor:
        """(B, C, h, w), (B, 1, h, w), (B, 1, h, w) -> (B, 1, h, w)."""
        masks = (_wide(self.convmask(features)) * (sparse > MIN_DEPTH)).split(1, dim=1)
        shares = _wide(self.convck(features)).split(1, dim=1)
        halfway = final = 0.0
        for side, mask, share in zip(self.SIDES, masks, shares, strict=True):
            kernels = getattr(self, f'weight{side}x{side}')(features)
            keep, pull = 1 - mask, mask * sparse
            current = depth
            for step in range(self.steps):
                current = torch.addcmul(pull, keep, local_conv(current, kernels))
                if step == self.steps // 2 - 1:
                    halfway = halfway + share * current
            final = final + share * current
        stages = torch.cat([depth, halfway, final], dim=1)
        weights = _wide(self.convct(torch.cat([features, stages.to(features.dtype)], dim=1)))
        return (weights * stages).sum(dim=1, keepdim=True)


def _head(in_channels: int, channels: int, count: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        ConvBlock(in_channels, channels),
        ConvBlock(channels, count, activation=activation, norm=False),
    )


class Scale(nn.Module):
    """Depth at 2**-level of the image's size: pre-processing, fusion, refinement."""

    COARSEST = 5

    def __init__(self, level: int, in_channels: int, channels: int, drop_path: float) -> None:
        super().__init__()
        self.level = level
        coarsest = level == self.COARSEST
        self.upcat = None if coarsest else UpMerge(in_channels + 1, channels)
        self.wpool = WeightedPool(channels, level) if level > 0 else None
        self.prop = BilateralPropagation(channels)
        self.fuse = FusionUNet(channels, 3, self.COARSEST - level, drop_path)
        self.conv = nn.Conv2d(channels, 1, 3, padding=1)
        self.cspn = Refinement(channels, steps=2 * (self.COARSEST + 1 - level))

    def forward(
        self, image: Tensor, coarser: tuple[Tensor, Tensor] | None, sparse: Tensor, K: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Estimate this scale's features and depth.

        image: (B, Ci, h, w) features of the image at this scale. coarser: what the next coarser
        scale returned, None for the coarsest. sparse: (B, 1, H, W) full-size depth, 0 = unknown.
        K: (B, 3, 3) of the full size. Returns (B, C, h, w) features, (B, 1, h, w) float32 depth.
        """
        features = image
        if self.upcat is not None:
            coarse, depth = coarser
            features = self.upcat(torch.cat([coarse, depth.to(coarse.dtype)], dim=1), image)
        if self.wpool is not None:
            sparse = self.wpool(sparse, features)
        K = scale_intrinsics(K, self.level)
        depth = self.prop(features, sparse, K)
        features = self.fuse(features, backproject(depth, K))
        depth = depth + _wide(self.conv(features))
        return features, self.cspn(features, depth, sparse)
