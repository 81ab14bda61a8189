"""Runners of a network: PyTorch eager, PyTorch compiled, ONNX Runtime, or OpenVINO.

All take the same arrays and return the same depth; they differ in speed and in what must be
installed. ONNX Runtime is imported only if requested; the runner for OpenVINO is in
`openvino_runner`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dmd3c_ros.core import networks
from dmd3c_ros.core.networks.base import CompletionNetwork, Convention

from .cache import cache_folder

_log = logging.getLogger(__name__)

BACKENDS = ('auto', 'eager', 'compile', 'onnx', 'openvino')
EXPORTABLE = ('light', 'lrru_mini', 'lrru_tiny', 'lrru_small', 'lrru_base')
# What an export may differ from PyTorch at 999 of 1000 pixels, relative to the depth: rounding.
EXPORT_TOLERANCE = 2e-4
_FRACTION_WITHIN = 0.999
ONNX_INPUTS = ('image', 'sparse', 'K')
ONNX_OUTPUTS = ('depth', 'confidence')
# Sizes, in multiples of the network's own, that an exported file takes.
_ONNX_SIZES = (2, 512)
_METADATA = 'dmd3c_ros'  # key of the file's metadata
_HERE = Path(__file__).parent


class Prediction(NamedTuple):
    """depth: (H, W) float32 network depth; confidence: (H, W) float32 in 0..1, or None."""

    depth: np.ndarray
    confidence: np.ndarray | None


class Runner(Protocol):
    """Runs one network on one image.

    rgb: (H, W, 3) uint8. sparse: (H, W) float32 network depth, 0 = unknown. K: (3, 3) float32,
    pixels. Height and width are multiples of the convention's ``size_multiple``. What it returns
    is the caller's own.
    """

    backend: str
    convention: Convention
    device: torch.device
    dtype: torch.dtype

    def __call__(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Prediction: ...

    def ready(self, size: tuple[int, int]) -> bool:
        """Whether images of this (height, width) run as fast as they ever will.

        False while a network is compiled for them in the background, which this call starts.
        """
        return True


def normalized(rgb: Tensor, convention: Convention) -> Tensor:
    """Network input (B, 3, H, W) float32, channels last, from images (B, H, W, 3) uint8."""
    image, width = rgb.float(), rgb.shape[2]
    mean, std = image.new_tensor(convention.mean), image.new_tensor(convention.std)
    # Row by row, which vectorizes better than three channels.
    rows = image.flatten(2).mul_((1 / (255 * std)).repeat(width)).sub_((mean / std).repeat(width))
    return rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)


class TorchRunner(Runner):
    """Runs a network in PyTorch.

    network: in eval mode. dtype: of the features; below float32 by autocast. compiled: by
    torch.compile, which takes a minute at the first image of each size and needs a C++ compiler.
    """

    def __init__(
        self,
        network: CompletionNetwork,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        network = network.to(device, memory_format=torch.channels_last)
        self.backend = 'compile' if compiled else 'eager'
        self.convention, self.device, self.dtype = network.convention, device, dtype
        self._forward = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def __call__(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, *guide: np.ndarray
    ) -> Prediction:
        """guide: (H, W) float32, network depth, 0 = unknown, of a guided network."""
        # Moved as bytes, a quarter of the data to send to a GPU.
        rgb, sparse, K, *guide = (
            torch.from_numpy(x).to(self.device)[None] for x in (rgb, sparse, K, *guide)
        )
        image = normalized(rgb, self.convention).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = self._forward(image, sparse[None], K, *(x[None] for x in guide))
        return Prediction(
            *(None if x is None else x[0, 0].float().cpu().numpy() for x in output[:2])
        )


class OnnxRunner(Runner):
    """Runs a file that ``export_onnx`` wrote, in float32.

    device: CUDA needs onnxruntime-gpu. Raises ImportError without ONNX Runtime, ValueError for a
    device it was not built for or a file that is not such an export.
    """

    backend = 'onnx'
    dtype = torch.float32

    def __init__(self, path: str | Path, device: torch.device, threads: int = 0) -> None:
        """threads: on a CPU; 0: as many as PyTorch has."""
        runtime = _onnxruntime()
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'weights: no file {path}')
        provider = 'CUDAExecutionProvider' if device.type == 'cuda' else 'CPUExecutionProvider'
        if provider not in runtime.get_available_providers():
            raise ValueError(
                f'device: the installed ONNX Runtime has no {provider}; it needs onnxruntime-gpu'
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(path, options, providers=[provider])
        except _onnxruntime_errors() as error:
            raise ValueError(f'{path}: not a readable ONNX file ({error})') from error
        self.device = device
        self.name, self.convention = _read_metadata(self._session, path)
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._preparations = networks.preparations(self.name)

    @torch.inference_mode()
    def __call__(self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray) -> Prediction:
        image = normalized(torch.from_numpy(rgb)[None], self.convention).contiguous().numpy()
        values = dict(zip(ONNX_INPUTS, (image, sparse[None, None], K[None]), strict=True))
        measured = torch.from_numpy(values['sparse'])
        values |= {name: make(measured).numpy() for name, make in self._preparations.items()}
        feed = {name: values[name] for name in self._inputs}
        try:
            depth, confidence = self._session.run(ONNX_OUTPUTS, feed)
        except _onnxruntime_errors() as error:
            raise RuntimeError(f'ONNX Runtime: {error}') from error
        return Prediction(depth[0, 0], confidence[0, 0])


def export_onnx(network: CompletionNetwork, name: str, path: str | Path) -> float:
    """Write a network as an ONNX file for images of any size, and check it against PyTorch.

    network: on the CPU, in eval mode; it may be one whose batch norms are folded. name: of the
    network, kept in the file with its convention. Returns the difference in depth between ONNX
    Runtime and PyTorch, as of ``export_difference``. Raises
    ValueError for a network that cannot be exported, ImportError without the packages,
    RuntimeError, and leaves no file, where the difference is above ``EXPORT_TOLERANCE``.
    """
    if name not in EXPORTABLE:
        raise ValueError(f'export: expected one of {", ".join(EXPORTABLE)}; got {name!r}')
    _onnxruntime()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    program = _exported(network)
    metadata = {'network': name, 'convention': asdict(network.convention)}
    program.model.metadata_props[_METADATA] = json.dumps(metadata)
    temporary = path.with_name(f'.{path.name}.tmp.onnx')
    try:
        program.save(temporary)
        difference = export_difference(network, OnnxRunner(temporary, torch.device('cpu')))
        if difference > EXPORT_TOLERANCE:
            raise RuntimeError(
                f'{path}: differs from PyTorch by {difference:.2g} of the depth, more than '
                f'{EXPORT_TOLERANCE:g}; not written'
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def cached_export(network: CompletionNetwork, name: str) -> Path:
    """ONNX file of a network in the cache, written at the first call; as ``export_onnx``."""
    path = cache_folder() / 'onnx' / f'{name}-{fingerprint(network)}.onnx'
    if not path.is_file():
        _log.info('exporting %s to %s, once', name, path)
        export_onnx(network, name, path)
    return path


def fingerprint(network: CompletionNetwork) -> str:
    """Sixteen digits that depend on the weights, the PyTorch version and the code."""
    digest = hashlib.sha256(torch.__version__.encode())
    # Networks share blocks and operations, and these modules decide what is exported around them.
    for pattern in ('networks/**/*.py', 'ops/**/*.py', '*runner*.py', 'openvino_precision.py'):
        for path in sorted(_HERE.glob(pattern)):
            digest.update(path.read_bytes())
    digest.update(repr(network.convention).encode())
    for key, tensor in network.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Outputs(torch.nn.Module):
    """A network with the two outputs that an exported one has, confidence 1 where it has none."""

    def __init__(self, network: CompletionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, sparse: Tensor, K: Tensor, *prepared: Tensor
    ) -> tuple[Tensor, Tensor]:
        depth, confidence, _ = self.network(image, sparse, K, *prepared)
        return depth, torch.ones_like(depth) if confidence is None else confidence


def _exported(network: CompletionNetwork) -> torch.onnx.ONNXProgram:
    multiple = network.convention.size_multiple
    low, high = _ONNX_SIZES
    height = torch.export.Dim('h', min=low, max=high)
    width = torch.export.Dim('w', min=low, max=high)
    sizes = {2: multiple * height, 3: multiple * width}
    inputs = example(multiple * 3 * low, multiple * 4 * low)
    prepared = network.prepare(inputs[1])
    shapes: dict[str, Any] = {'image': sizes, 'sparse': sizes, 'K': None}
    if prepared:
        shapes['prepared'] = (sizes,) * len(prepared)
    # The exporter warns of torchvision, which is not needed, and of names that it changes itself.
    exporter = logging.getLogger('torch.onnx')
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    # For each operation it would write the stack of calls into the file, paths of this machine
    # included, which takes a tenth of the time.
    config = torch.fx.config
    without_stacks = getattr(config, 'do_not_emit_stack_traces', False)  # absent in older PyTorch
    config.do_not_emit_stack_traces = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.onnx.export(
                Outputs(network).eval(),
                (*inputs, *prepared),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=(*ONNX_INPUTS, *network.preparations),
                output_names=ONNX_OUTPUTS,
                verbose=False,
            )
    except ImportError as error:
        raise ImportError(f'export needs the packages onnx and onnxscript ({error})') from error
    finally:
        exporter.setLevel(level)
        config.do_not_emit_stack_traces = without_stacks


def example(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image, depth of 1 to 80 m at one pixel in twenty, and intrinsics."""
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randn(1, 3, height, width, generator=generator)
    known = torch.rand(1, 1, height, width, generator=generator) < 0.05
    depth = 1 + 79 * torch.rand(1, 1, height, width, generator=generator)
    K = torch.tensor([[[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]]])
    return image, depth * known, K


def export_difference(network: CompletionNetwork, runner: Runner) -> float:
    """Relative difference between the depth of an export and PyTorch's, at 999 of 1000 pixels.

    Over two sizes other than the exported one. network: on the CPU, in eval mode.
    """
    convention = network.convention
    original = TorchRunner(network, torch.device('cpu'))
    differences = []
    for rows, columns in ((5, 12), (3, 7)):
        size = rows * convention.size_multiple, columns * convention.size_multiple
        *inputs, depth = _scene(size, convention.depth_scale)
        if network.guided:
            inputs.append(np.roll(depth, 9, 0))  # a guide that the points contradict
        expected = original(*inputs).depth
        difference = np.abs(runner(*inputs).depth - expected) / np.maximum(expected, 1e-6)
        differences.append(float(np.quantile(difference, _FRACTION_WITHIN)))
    return max(differences)


def _scene(size: tuple[int, int], depth_scale: float) -> tuple[np.ndarray, ...]:
    """Inputs of a runner, and depth: ground that rises to a wall, seen at one pixel in twenty."""
    height, width = size
    rng = np.random.default_rng(height * width)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    depth = depth_scale * 60 / np.linspace(1, 12, height, dtype=np.float32)[:, None]
    depth = depth.astype(np.float32).repeat(width, 1)
    sparse = np.where(rng.random(size) < 0.05, depth, np.float32(0))
    K = np.array([[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]])
    return rgb, sparse, K.astype(np.float32), depth


def _read_metadata(session: object, path: Path) -> tuple[str, Convention]:
    text = session.get_modelmeta().custom_metadata_map.get(_METADATA)
    if text is None:
        raise ValueError(f'{path}: expected a file written by `dmd3c export onnx`')
    metadata = json.loads(text)
    # JSON has no tuples.
    values = metadata['convention'].items()
    convention = {name: tuple(x) if isinstance(x, list) else x for name, x in values}
    return metadata['network'], Convention(**convention)


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Exceptions of ONNX Runtime for a bad file or run; they have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NotImplemented,
        errors.RuntimeException,
    )


def _onnxruntime():
    # From 1.29 on it reports its use to its maker unless told otherwise before it is loaded; its
    # uploading thread has also been seen to abort processes. A robot's node does neither.
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('the onnx back end needs the package onnxruntime') from error
    return onnxruntime
