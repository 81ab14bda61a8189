"""Tensor operations that the completion networks share.

Each has a definition in plain PyTorch or NumPy that runs anywhere. Where Triton works on the GPU,
`kernels` computes the same faster.
"""

from __future__ import annotations

import logging
import subprocess
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

_log = logging.getLogger(__name__)


@cache
def gpu_kernels() -> ModuleType | None:
    """Return the module of Triton kernels, or None if they cannot run; tested once.

    Triton comes with PyTorch's GPU builds, and needs a C compiler for its first launch.
    """
    try:
        module = import_module('.kernels', __name__)
        module.local_conv(
            torch.zeros(1, 1, 4, 4, device='cuda'), torch.zeros(1, 9, 4, 4, device='cuda')
        )
    except ImportError as error:
        _log.info('Triton is not installed (%s): using PyTorch operations instead', error)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        _log.warning('Triton does not work (%s): using PyTorch operations instead', error)
    else:
        return module
    return None
