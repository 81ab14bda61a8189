"""Triton's kernels agree with the operations they stand for, in Triton's interpreter.

The interpreter runs them without a GPU, but must be asked for before Triton is imported: each test
runs a program of its own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    find_spec('triton') is None, reason='Triton is not installed (PyTorch for GPUs brings it)'
)

NEAREST = """
import torch
from dmd3c_ros.core.ops import kernels
from dmd3c_ros.core.ops.nearest import nearest_valid

generator = torch.Generator().manual_seed(0)
masks = [
    torch.rand(2, 1, 10, 21, generator=generator) < 0.06,
    torch.rand(1, 1, 9, 17, generator=generator) < 0.5,
    torch.ones(1, 1, 3, 5, dtype=torch.bool),
    torch.zeros(1, 1, 3, 5, dtype=torch.bool),
    torch.zeros(1, 1, 20, 4, dtype=torch.bool),
]
masks[0][1, 0, :, :12] = False
masks[-1][0, 0, [1, 18], 2] = True
for valid in masks:
    assert torch.equal(kernels.nearest_four(valid), nearest_valid(valid)), valid
"""

LOCAL_CONV = """
import torch
from dmd3c_ros.core.ops import kernels
from dmd3c_ros.core.ops.local_conv import local_conv

for side, size in ((3, (5, 60)), (5, (4, 3)), (7, (6, 5))):
    x = torch.randn(2, 1, *size, requires_grad=True)
    kernel = torch.randn(2, side**2, *size, requires_grad=True)
    grad = torch.randn(2, 1, *size)
    out = local_conv(x, kernel)
    out.backward(grad)
    x_, kernel_ = x.detach(), kernel.detach()
    torch.testing.assert_close(kernels.local_conv(x_, kernel_), out.detach())
    grad_x, grad_kernel = kernels.local_conv_backward(grad, x_, kernel_)
    torch.testing.assert_close(grad_x, x.grad)
    torch.testing.assert_close(grad_kernel, kernel.grad)
"""


@pytest.mark.parametrize('program', [NEAREST, LOCAL_CONV], ids=['nearest', 'local_conv'])
def test_kernels_agree_with_the_operations(program: str) -> None:
    environment = os.environ | {'TRITON_INTERPRET': '1'}
    done = subprocess.run(
        [sys.executable, '-c', program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
