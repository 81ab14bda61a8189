"""From settings to a network that runs: which file, which device, which type, which back end."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from dmd3c_ros.core.networks.base import CompletionNetwork
from dmd3c_ros.core.weights.checkpoint import CheckpointError, load_weights, read_checkpoint
from dmd3c_ros.core.weights.releases import (
    RELEASES,
    WEIGHTS_FOLDER,
    recognize,
    release,
    weights_path,
)

from . import networks, openvino_runner
from .config import PRECISIONS, CompleterConfig
from .fusion import fold_batch_norms
from .openvino_runner import CONVERTIBLE, Converted, ConvertedMono, OpenVinoRunner
from .runners import OnnxRunner, Runner, TorchRunner, cached_export

_log = logging.getLogger(__name__)

# Whole, or in part.
_IN_OPENVINO = (*CONVERTIBLE, 'two_stage')


def load_runner(
    config: CompleterConfig, network: CompletionNetwork | None = None
) -> tuple[str, Runner]:
    """Name of the network given by ``config``, and its runner.

    network: replaces the weights, if given. Errors as in ``DepthCompleter``.
    """
    if config.backend == 'onnx' or Path(config.weights).suffix == '.onnx':
        return _onnx(config, network)
    if config.backend == 'openvino':
        name, network = _ready(config, network)
        return name, _in_openvino(config, name, network)
    device = _device(config.device)
    dtype = _dtype(config.precision, device)
    given = network is not None
    name, network = _ready(config, network)
    # A network that somebody made is one of many, and converting each would take too long.
    if config.backend == 'auto' and device.type == 'cpu' and not given:
        found = _openvino_if_it_can(config, name, network)
        if found is not None:
            return name, found
    compiled = config.backend == 'compile'
    return name, TorchRunner(network, device, dtype, compiled)


def _openvino(config: CompleterConfig, name: str, network: CompletionNetwork) -> OpenVinoRunner:
    if config.device not in ('auto', 'cpu'):
        raise ValueError(f'device: expected cpu with openvino, got {config.device}')
    bfloat16 = openvino_runner.computes_bfloat16()
    if config.precision == 'float16' or (config.precision == 'bfloat16' and not bfloat16):
        expected = 'float32 or bfloat16' if bfloat16 else 'float32'
        raise ValueError(
            f'precision: expected {expected} with openvino on this processor, '
            f'got {config.precision}'
        )
    dtype = torch.bfloat16 if bfloat16 and config.precision != 'float32' else torch.float32
    return OpenVinoRunner(network, name, dtype, config.threads)


def _in_openvino(config: CompleterConfig, name: str, network: CompletionNetwork) -> Runner:
    """What runs the network, or the part of it that OpenVINO can run, there."""
    if name != 'two_stage':
        return _openvino(config, name, network)
    # The alignment follows the points, which OpenVINO cannot.
    second = _openvino(config, 'light', network.completion)
    network.completion = Converted(second)
    network.mono = ConvertedMono(network.mono, 'student', second.dtype, config.threads)
    runner = TorchRunner(network, second.device, second.dtype)
    runner.backend = second.backend
    return runner


def _openvino_if_it_can(
    config: CompleterConfig, name: str, network: CompletionNetwork
) -> Runner | None:
    """What runs the network in OpenVINO; None, and a line in the log, where PyTorch has to."""
    if not openvino_runner.is_installed():
        _log.info(
            'running %s in PyTorch: OpenVINO, which is faster on a CPU, is not installed', name
        )
        return None
    if name not in _IN_OPENVINO:
        supported = ', '.join(_IN_OPENVINO)
        _log.info('running %s in PyTorch: OpenVINO supports only %s', name, supported)
        return None
    try:
        return _in_openvino(config, name, network)
    except (ValueError, ImportError, RuntimeError) as error:
        _log.warning('running %s in PyTorch: %s', name, str(error).partition('\n')[0])
        return None


def check_config(config: CompleterConfig) -> None:
    """Raise as load_runner would where the device or the file of weights is not there."""
    _device(config.device)
    if config.weights and not (path := _weights_file(config.weights, config.model)).is_file():
        raise FileNotFoundError(f'weights: no file {path}')


def _onnx(config: CompleterConfig, network: CompletionNetwork | None) -> tuple[str, OnnxRunner]:
    if config.precision not in ('auto', 'float32'):
        raise ValueError(
            f'precision: expected float32 with the onnx back end, got {config.precision}'
        )
    device = torch.device('cpu') if config.device == 'auto' else _device(config.device)
    if network is None and Path(config.weights).suffix == '.onnx':
        runner = OnnxRunner(Path(config.weights).expanduser(), device, config.threads)
        if config.model not in ('auto', runner.name):
            raise CheckpointError(
                f'{config.weights}: expected the network {config.model}, got {runner.name}'
            )
        return runner.name, runner
    name, network = _ready(config, network)
    return name, OnnxRunner(cached_export(network, name), device, config.threads)


def _ready(
    config: CompleterConfig, network: CompletionNetwork | None
) -> tuple[str, CompletionNetwork]:
    """The given network, else the one that ``config`` names."""
    return load_network(config) if network is None else (config.model, _for_inference(network))


def load_network(config: CompleterConfig) -> tuple[str, CompletionNetwork]:
    """Name and network, with its weights, ready for inference on the CPU."""
    name = config.model
    if name == 'auto' and not config.weights:
        name = 'light'
    checkpoint = read_checkpoint(_weights_file(config.weights, name))
    if name == 'auto':
        name = recognize(checkpoint.state)
        if name is None:
            raise CheckpointError(
                f'{checkpoint.path}: its parameters are those of no known network '
                f'({", ".join(networks.names())}); see `dmd3c weights inspect`'
            )
    network = networks.build(name)
    load_weights(network, checkpoint)
    return name, _for_inference(network)


def _for_inference(network: CompletionNetwork) -> CompletionNetwork:
    return fold_batch_norms(network.eval().requires_grad_(False))


def _weights_file(weights: str, model: str) -> Path:
    if not weights:
        return _default_weights(model)
    path = Path(weights).expanduser()
    if path.exists() or weights not in (item.name for item in RELEASES):
        return path
    path = weights_path(release(weights))
    if not path.is_file():
        raise FileNotFoundError(
            f'weights: no file {weights}, and the checkpoint of that name is not here yet; fetch '
            f'it with `dmd3c weights get {weights}`'
        )
    return path


def _default_weights(model: str) -> Path:
    path = WEIGHTS_FOLDER / f'{model}.pth'
    if not path.is_file():
        known = ', '.join(item.name for item in RELEASES if item.network == model)
        raise FileNotFoundError(
            f'{model}: no weights come with the package for this network; fetch released ones '
            f'with `dmd3c weights get NAME` (NAME: {known}) and give that name as weights, or a '
            'checkpoint file of your own'
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
        raise ValueError(
            f'device: {name} is not available; {torch.cuda.device_count()} GPUs found'
        )
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
