"""Telling that memory ran out: every library says it in its own way."""

from __future__ import annotations

import torch

# Messages of errors that a failed allocation raises.
MEMORY_ERRORS = (MemoryError, RuntimeError)
_WORDS = (
    "can't allocate memory",  # PyTorch on the CPU
    'CUDA error: out of memory',
    'CUBLAS_STATUS_ALLOC_FAILED',
    'CUDNN_STATUS_ALLOC_FAILED',
    'Failed to allocate memory',  # ONNX Runtime
    'bad_alloc',
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, of NumPy, ONNX Runtime, PyTorch or CUDA."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
