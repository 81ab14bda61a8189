"""Dense metric depth from arrays: the one entry to the networks, without ROS."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from . import networks
from .baselines import BASELINES
from .checkpoint import load_weights
from .fusion import fold_batch_norms

log = logging.getLogger(__name__)

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / 'weights'
PRECISIONS = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16,
}


@dataclass(frozen=True)
class CompleterConfig:
    """What completes, and on what.

    model: a network ('light', ...) or a classical baseline ('nearest', 'interpolation').
    weights: checkpoint file; empty for the weights that come with the package.
    device: 'auto' (CUDA where there is a GPU), 'cpu', 'cuda' or 'cuda:N'.
    precision: 'auto' (bfloat16 where the device computes in it, else float32), 'float32',
        'bfloat16' or 'float16'; depth itself is always kept in float32.
    max_depth: larger depths are cut to it, m.
    """

    model: str = 'light'
    weights: str = ''
    device: str = 'auto'
    precision: str = 'auto'
    max_depth: float = 200.0

    def __post_init__(self) -> None:
        if self.model not in model_names():
            raise ValueError(
                f'model: expected one of {", ".join(model_names())}; got {self.model!r}'
            )
        if self.precision not in ('auto', *PRECISIONS):
            raise ValueError(
                f'precision: expected one of auto, {", ".join(PRECISIONS)}; got {self.precision!r}'
            )
        if not self.max_depth > 0:
            raise ValueError(f'max_depth: expected a positive depth in m, got {self.max_depth}')


class Completion(NamedTuple):
    """depth: (H, W) float32, m, 0 = unknown; confidence: (H, W) float32, 0..1."""

    depth: np.ndarray
    confidence: np.ndarray


def model_names() -> tuple[str, ...]:
    """Every model that ``CompleterConfig`` accepts: the networks, then the baselines."""
    return (*networks.names(), *BASELINES)


class DepthCompleter:
    """Completes sparse depth with one model; holds no state between calls.

    Raises ValueError for a device that is not there, FileNotFoundError or CheckpointError for
    weights that are missing or do not fit.
    """

    def __init__(self, config: CompleterConfig | None = None) -> None:
        self.config = config or CompleterConfig()
        self.name = self.config.model
        self._network = None
        if self.name in BASELINES:
            self.device, self.precision = 'cpu', 'float32'
            return
        self._device = _device(self.config.device)
        self._dtype = _dtype(self.config.precision, self._device)
        self.device, self.precision = str(self._device), str(self._dtype).removeprefix('torch.')
        network = networks.build(self.name)
        load_weights(network, self.config.weights or _default_weights(self.name))
        network = fold_batch_norms(network.eval().requires_grad_(False))
        self._network = network.to(self._device, memory_format=torch.channels_last)
        log.info('model %s on %s in %s', self.name, self.device, self.precision)

    def complete(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Completion:
        """Complete one image.

        rgb: (H, W, 3) uint8. sparse: (H, W) float32, m, 0 = unknown. K: (3, 3), pixels.
        Any size. With no known depth at all the result is unknown everywhere, as no model can give
        a metric scale then. Raises ValueError for other shapes and types.
        """
        _check(rgb, sparse, K)
        known = np.isfinite(sparse) & (sparse > 0)
        if not known.any():
            return Completion(np.zeros_like(sparse), np.zeros_like(sparse))
        sparse = np.where(known, sparse, np.float32(0))
        if self.name in BASELINES:
            depth = BASELINES[self.name](sparse)
            confidence = known.astype(np.float32)
        elif self._network is None:
            raise RuntimeError('the completer is closed')
        else:
            depth, confidence = self._infer(rgb, sparse, K)
        depth = np.where(np.isfinite(depth), depth.clip(0, self.config.max_depth), 0)
        return Completion(depth.astype(np.float32, copy=False), confidence)

    def close(self) -> None:
        """Release the network and its memory; the completer cannot be used afterwards."""
        self._network = None
        if self.device.startswith('cuda'):
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _infer(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        convention = self._network.convention
        height, width = sparse.shape
        # Padding at the right and bottom leaves the intrinsics as they are.
        right, bottom = -width % convention.size_multiple, -height % convention.size_multiple
        image = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device)
        image = image.permute(2, 0, 1)[None].float().div_(255)
        mean = image.new_tensor(convention.mean).view(1, 3, 1, 1)
        std = image.new_tensor(convention.std).view(1, 3, 1, 1)
        image = F.pad((image - mean) / std, (0, right, 0, bottom), mode='replicate')
        depth = torch.from_numpy(np.ascontiguousarray(sparse)).to(self._device)[None, None]
        depth = F.pad(depth * convention.depth_scale, (0, right, 0, bottom))
        intrinsics = torch.from_numpy(np.asarray(K, np.float32)).to(self._device)[None]
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            output = self._network(
                image.contiguous(memory_format=torch.channels_last), depth, intrinsics
            )
        dense = output.depth[0, 0, :height, :width].float() / convention.depth_scale
        if output.confidence is None:
            confidence = torch.ones_like(dense)
        else:
            confidence = output.confidence[0, 0, :height, :width].float()
        return dense.cpu().numpy(), confidence.cpu().numpy()


def _check(rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f'rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
    if sparse.shape != rgb.shape[:2] or not np.issubdtype(sparse.dtype, np.floating):
        raise ValueError(
            f'sparse: expected {rgb.shape[:2]} float as the image, got {sparse.shape} '
            f'{sparse.dtype}'
        )
    if np.shape(K) != (3, 3):
        raise ValueError(f'K: expected (3, 3), got {np.shape(K)}')


def _default_weights(model: str) -> Path:
    path = WEIGHTS_FOLDER / f'{model}.pth'
    if not path.is_file():
        raise FileNotFoundError(
            f'{model}: no weights come with the package for this network; name a checkpoint file'
        )
    return path


def _device(name: str) -> torch.device:
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device: expected auto, cpu, cuda or cuda:N; got {name!r}') from error
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device: expected auto, cpu, cuda or cuda:N; got {name!r}')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f'device: {name} is not there; {torch.cuda.device_count()} GPUs found')
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name != 'auto':
        return PRECISIONS[name]
    if device.type == 'cuda':
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # A CPU that only emulates bfloat16 is slower in it than in float32.
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
