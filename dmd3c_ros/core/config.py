"""Settings of a completer: model, device and precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import networks
from .baselines import BASELINES
from .ranges import check_ranges, ranged
from .runners import BACKENDS

PRECISIONS = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16,
}


@dataclass(frozen=True)
class CompleterConfig:
    """Settings of a completer: model, device and precision.

    model: a network ('light', ...), a classical baseline ('nearest', 'interpolation', ...), or
        'auto': the network that the weights belong to; without weights light, and two_stage for
        images with at most 1000 measurements.
    weights: checkpoint file, ONNX file written by `dmd3c export onnx`, or the name of a checkpoint
        downloaded by `dmd3c weights get`; if empty, the weights that come with the package.
    device: 'auto' (CUDA if there is a GPU), 'cpu', 'cuda' or 'cuda:N'.
    precision: 'auto' (bfloat16 if the device supports it natively, otherwise float32), 'float32',
        'bfloat16' or 'float16'; depth itself is always float32.
    backend: inference back end: 'auto' (openvino on a CPU if it is installed and supports the
        network, otherwise eager), 'openvino' (OpenVINO, steady on a CPU that other programs use),
        'eager' (PyTorch), 'compile' (torch.compile: faster frames after about a minute of
        compilation for each image size) or 'onnx' (ONNX Runtime, float32).
    threads: number of CPU threads for the network; 0: PyTorch's default, one per core unless
        OMP_NUM_THREADS is set.
    max_depth: larger depths are clipped to this value, m.
    inference_scale: the model runs on an image scaled by this factor, 0.1 to 1, and depth is
        scaled back to full size: faster, and sparse points are denser.
    adapt_scale: reduce images whose points are farther apart than the network was trained for;
        inference_scale is then the upper limit of the scale.
    preserve_lidar: pixels with a measurement keep it exactly, with confidence 1, except for
        points that a nearer surface hides from the camera; if false, the model may correct it.
    """

    model: str = 'auto'
    weights: str = ''
    device: str = 'auto'
    precision: str = 'auto'
    backend: str = 'auto'
    threads: int = ranged(0, 0, 1024)
    max_depth: float = 200.0
    inference_scale: float = ranged(1.0, 0.1, 1.0)
    adapt_scale: bool = True
    preserve_lidar: bool = False

    def __post_init__(self) -> None:
        if self.model not in model_names():
            raise ValueError(
                f'model: expected one of {", ".join(model_names())}; got {self.model!r}'
            )
        if self.precision not in ('auto', *PRECISIONS):
            raise ValueError(
                f'precision: expected one of auto, {", ".join(PRECISIONS)}; got {self.precision!r}'
            )
        if self.backend not in BACKENDS:
            raise ValueError(
                f'backend: expected one of {", ".join(BACKENDS)}; got {self.backend!r}'
            )
        if not self.max_depth > 0:
            raise ValueError(f'max_depth: expected a positive depth in m, got {self.max_depth}')
        check_ranges(self)


def model_names() -> tuple[str, ...]:
    """Every model that ``CompleterConfig`` accepts: 'auto', the networks, the baselines."""
    return ('auto', *networks.names(), *BASELINES)


def needs_filtering(model: str) -> bool:
    """Whether hidden points are dropped before a model completes, by default."""
    return model in BASELINES
