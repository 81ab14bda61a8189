"""Convolution with a separate kernel at every pixel.

The propagation step of CSPN and CSPN++ (Cheng et al., "CSPN++: Learning Context and Resource Aware
Convolutional Spatial Propagation Networks for Depth Completion", AAAI 2020, Eq. 1), which BP-Net
refines its depth with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from . import gpu_kernels


def local_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Weigh the k x k neighbourhood of each pixel of a map with that pixel's own kernel.

    out[b, 0, r, c] = sum over i, j of kernel[b, i * k + j, r, c] * x[b, 0, r + i - h, c + j - h]
    with h = k // 2, and x = 0 outside of the map. Differentiable once in both; neither pass holds
    more than one map besides its result.

    x: (B, 1, H, W). kernel: (B, k * k, H, W), k odd. Returns (B, 1, H, W).
    Raises ValueError when the shapes do not fit.
    """
    side = math.isqrt(kernel.shape[1])
    if side * side != kernel.shape[1] or side % 2 == 0:
        raise ValueError(f'kernel: expected k * k channels with odd k, got {kernel.shape[1]}')
    if x.shape != (kernel.shape[0], 1, *kernel.shape[2:]):
        raise ValueError(
            f'x: expected {(kernel.shape[0], 1, *kernel.shape[2:])} as of the kernel, '
            f'got {tuple(x.shape)}'
        )
    if torch.is_grad_enabled() and (x.requires_grad or kernel.requires_grad):
        return _LocalConv.apply(x, kernel)
    return _forward(x, kernel)


def _on_gpu(x: Tensor, kernel: Tensor) -> bool:
    """Whether Triton's kernels take these."""
    if not x.is_cuda or torch.compiler.is_compiling() or gpu_kernels() is None:
        return False
    return x.dtype == kernel.dtype == torch.float32


def _forward(x: Tensor, kernel: Tensor) -> Tensor:
    # One operator to a compiler: the taps that it would unroll, BP-Net has 3486, take hours.
    return _opaque(x, kernel) if torch.compiler.is_compiling() else _weigh(x, kernel)


def _weigh(x: Tensor, kernel: Tensor) -> Tensor:
    if _on_gpu(x, kernel):
        return gpu_kernels().local_conv(x.contiguous(), kernel.contiguous())
    height, width = x.shape[-2:]
    side = math.isqrt(kernel.shape[1])
    padded = F.pad(x, (side // 2,) * 4)
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    for tap in range(side * side):
        i, j = divmod(tap, side)
        window = padded[:, :, i : i + height, j : j + width]
        out = out.addcmul_(window, kernel[:, tap : tap + 1])
    return out


_opaque = torch.library.custom_op('dmd3c::local_conv', _weigh, mutates_args=())


@_opaque.register_fake
def _(x: Tensor, kernel: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class _LocalConv(torch.autograd.Function):
    """`_forward` with a backward pass that keeps only its two inputs."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _forward(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        if _on_gpu(x, kernel):
            inputs = (grad.contiguous(), x.contiguous(), kernel.contiguous())
            return gpu_kernels().local_conv_backward(*inputs)
        height, width = x.shape[-2:]
        side = math.isqrt(kernel.shape[1])
        border = side // 2
        padded = F.pad(x, (border,) * 4)
        grad_padded = torch.zeros_like(padded)
        grad_kernel = torch.empty_like(kernel)
        for tap in range(side * side):
            i, j = divmod(tap, side)
            rows, columns = slice(i, i + height), slice(j, j + width)
            torch.mul(grad, padded[:, :, rows, columns], out=grad_kernel[:, tap : tap + 1])
            grad_padded[:, :, rows, columns].addcmul_(grad, kernel[:, tap : tap + 1])
        inner = (slice(border, border + height), slice(border, border + width))
        return grad_padded[(..., *inner)].contiguous(), grad_kernel
