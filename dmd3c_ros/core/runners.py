"""What runs a network: PyTorch eager, PyTorch compiled, ONNX Runtime, or OpenVINO.

All take the same tensors and give the same depth, so that the choice is one of speed and of
what is installed. ONNX Runtime and OpenVINO are imported only where they are asked for.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dmd3c_ros.core.networks.base import CompletionNetwork, Convention

from .cache import cache_folder

_log = logging.getLogger(__name__)

BACKENDS = ('eager', 'compile', 'onnx', 'openvino')
EXPORTABLE = ('light',)
# Largest difference to PyTorch that an export may have, relative to the depth: rounding, no more.
ONNX_TOLERANCE = 2e-4
ONNX_INPUTS = ('image', 'sparse', 'K')
ONNX_OUTPUTS = ('depth', 'confidence')
# Sizes, in multiples of the network's own, that an exported file takes.
_ONNX_SIZES = (2, 512)
_METADATA = 'dmd3c_ros'  # key of the file's metadata


class Prediction(NamedTuple):
    """depth: (B, 1, H, W) network depth; confidence: (B, 1, H, W) in 0..1, or None."""

    depth: Tensor
    confidence: Tensor | None


class Runner(Protocol):
    """Runs one network; arguments as of ``CompletionNetwork.forward``, on ``device``."""

    backend: str
    convention: Convention
    device: torch.device
    dtype: torch.dtype

    def __call__(self, image: Tensor, sparse: Tensor, K: Tensor) -> Prediction: ...


class TorchRunner:
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
    def __call__(self, image: Tensor, sparse: Tensor, K: Tensor) -> Prediction:
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = self._forward(image, sparse, K)
        return Prediction(output.depth, output.confidence)


class OnnxRunner:
    """Runs a file that ``export_onnx`` wrote, in float32.

    device: CUDA needs onnxruntime-gpu. Raises ImportError without ONNX Runtime, ValueError for a
    device it was not built for or a file that is not such an export.
    """

    backend = 'onnx'
    dtype = torch.float32

    def __init__(self, path: str | Path, device: torch.device) -> None:
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
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(path, options, providers=[provider])
        except _onnxruntime_errors() as error:
            raise ValueError(f'{path}: not a readable ONNX file ({error})') from error
        self.device = device
        self.name, self.convention = _read_metadata(self._session, path)
        self._inputs = {item.name for item in self._session.get_inputs()}

    def __call__(self, image: Tensor, sparse: Tensor, K: Tensor) -> Prediction:
        values = zip(ONNX_INPUTS, (image, sparse, K), strict=True)
        feed = {k: v.contiguous().cpu().numpy() for k, v in values if k in self._inputs}
        try:
            depth, confidence = self._session.run(ONNX_OUTPUTS, feed)
        except _onnxruntime_errors() as error:
            raise RuntimeError(f'ONNX Runtime: {error}') from error
        return Prediction(torch.from_numpy(depth), torch.from_numpy(confidence))


class OpenVinoRunner:
    """Runs a network in OpenVINO, in float32, on the CPU.

    Its threads take work from each other instead of waiting for each other at the end of every
    loop, as PyTorch's do: other programs on the same cores delay it by their part of the time and
    no more. network: on the CPU, in eval mode; converted here, which takes some seconds. Raises
    ImportError without OpenVINO, ValueError for a network that cannot be exported.
    """

    backend = 'openvino'
    dtype = torch.float32
    device = torch.device('cpu')

    def __init__(self, network: CompletionNetwork, name: str) -> None:
        if name not in EXPORTABLE:
            raise ValueError(f'openvino: expected one of {", ".join(EXPORTABLE)}; got {name!r}')
        openvino = _openvino()
        self.convention = network.convention
        multiple = network.convention.size_multiple
        with warnings.catch_warnings(), torch.no_grad():
            # It traces: what Python computes from sizes is said to be constant, and is not used.
            warnings.simplefilter('ignore')
            example = _example(multiple * 6, multiple * 8)
            model = openvino.convert_model(_Outputs(network).eval(), example_input=example)
        hints = {
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'INFERENCE_PRECISION_HINT': 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
        }
        self._request = openvino.Core().compile_model(model, 'CPU', hints).create_infer_request()

    def __call__(self, image: Tensor, sparse: Tensor, K: Tensor) -> Prediction:
        inputs = [values.contiguous().numpy() for values in (image, sparse, K)]
        depth, confidence = self._request.infer(inputs, share_inputs=True).values()
        return Prediction(torch.from_numpy(depth), torch.from_numpy(confidence))


def export_onnx(network: CompletionNetwork, name: str, path: str | Path) -> float:
    """Write a network as an ONNX file for images of any size, and check it against PyTorch.

    network: on the CPU, in eval mode; it may be one whose batch norms are folded. name: of the
    network, kept in the file with its convention. Returns the largest difference in depth between
    ONNX Runtime and PyTorch, relative to it, over two sizes other than the exported one. Raises
    ValueError for a network that cannot be exported, ImportError without the packages,
    RuntimeError, and leaves no file, where the difference is above ``ONNX_TOLERANCE``.
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
        difference = _difference(network, temporary)
        if difference > ONNX_TOLERANCE:
            raise RuntimeError(
                f'{path}: differs from PyTorch by {difference:.2g} of the depth, more than '
                f'{ONNX_TOLERANCE:g}; not written'
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def cached_export(network: CompletionNetwork, name: str) -> Path:
    """ONNX file of a network in the cache folder, written at the first call; as ``export_onnx``.

    It is written anew for other weights, another PyTorch, or when the network's code changed.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    digest.update(inspect.getsource(inspect.getmodule(network)).encode())
    digest.update(repr(network.convention).encode())
    for key, tensor in network.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    path = cache_folder() / 'onnx' / f'{name}-{digest.hexdigest()[:16]}.onnx'
    if not path.is_file():
        _log.info('exporting %s to %s, once', name, path)
        export_onnx(network, name, path)
    return path


class _Outputs(torch.nn.Module):
    """A network with the two outputs that an ONNX file has."""

    def __init__(self, network: CompletionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(image, sparse, K)
        return output.depth, output.confidence


def _exported(network: CompletionNetwork) -> torch.onnx.ONNXProgram:
    multiple = network.convention.size_multiple
    low, high = _ONNX_SIZES
    height = torch.export.Dim('h', min=low, max=high)
    width = torch.export.Dim('w', min=low, max=high)
    sizes = {2: multiple * height, 3: multiple * width}
    # The exporter warns of torchvision, which is not needed, and of names that it changes itself.
    exporter = logging.getLogger('torch.onnx')
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.onnx.export(
                _Outputs(network).eval(),
                _example(multiple * 3 * low, multiple * 4 * low),
                dynamo=True,
                dynamic_shapes={'image': sizes, 'sparse': sizes, 'K': None},
                input_names=ONNX_INPUTS,
                output_names=ONNX_OUTPUTS,
                verbose=False,
            )
    except ImportError as error:
        raise ImportError(f'export needs the packages onnx and onnxscript ({error})') from error
    finally:
        exporter.setLevel(level)


def _example(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """An image, depth of 1 to 80 m at one pixel in twenty, and intrinsics."""
    generator = torch.Generator().manual_seed(height * width)
    image = torch.randn(1, 3, height, width, generator=generator)
    known = torch.rand(1, 1, height, width, generator=generator) < 0.05
    depth = 1 + 79 * torch.rand(1, 1, height, width, generator=generator)
    K = torch.tensor([[[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]]])
    return image, depth * known, K


@torch.inference_mode()
def _difference(network: CompletionNetwork, path: Path) -> float:
    runner = OnnxRunner(path, torch.device('cpu'))
    multiple = network.convention.size_multiple
    differences = []
    for height, width in ((5, 12), (3, 7)):
        inputs = _example(multiple * height, multiple * width)
        expected = network(*inputs).depth / network.convention.depth_scale
        difference = (runner(*inputs).depth - expected).abs() / expected
        differences.append(difference.max().item())
    return max(differences)


def _read_metadata(session: object, path: Path) -> tuple[str, Convention]:
    text = session.get_modelmeta().custom_metadata_map.get(_METADATA)
    if text is None:
        raise ValueError(f'{path}: expected a file written by `dmd3c export onnx`')
    metadata = json.loads(text)
    values = metadata['convention']
    values |= {'mean': tuple(values['mean']), 'std': tuple(values['std'])}
    return metadata['network'], Convention(**values)


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a bad file or run; they share no base of their own."""
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
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('the onnx back end needs the package onnxruntime') from error
    return onnxruntime


def _openvino():
    try:
        import openvino
    except ImportError as error:
        raise ImportError('the openvino back end needs the package openvino') from error
    return openvino
