"""Runs a network with OpenVINO on the CPU: the default there if it is installed."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmd3c_ros.core.networks.base import CompletionNetwork, Convention, NetworkOutput
from dmd3c_ros.core.networks.mono import MonoNetwork, MonoOutput

from .cache import cache_folder
from .openvino_precision import keep_prior
from .runners import (
    EXPORT_TOLERANCE,
    Outputs,
    Prediction,
    Runner,
    example,
    export_difference,
    fingerprint,
    normalized,
)

_log = logging.getLogger(__name__)

CONVERTIBLE = ('light',)
# What bfloat16 may differ from float32, as of ``export_difference``: more than that is no rounding
# of features, but a sum of points that lost its digits.
BFLOAT16_TOLERANCE = 0.03
_INPUTS = ('rgb', 'sparse', 'K', 'guide')
_PRECISIONS = {torch.float32: 'f32', torch.bfloat16: 'bf16'}
# Number of image sizes whose compiled networks are kept; each holds 50 to 100 MB.
_SIZES_KEPT = 5
# A size that comes this many times in a row stays for a while, so that it is worth compiling for.
_TO_STAY = 8
# Other programs go first while a network is compiled for a size that can wait.
_COMPILING_NICENESS = 10


class OpenVinoRunner(Runner):
    """Runs a network in OpenVINO, on the CPU.

    Its threads steal work from each other instead of waiting for each other at the end of every
    loop, as PyTorch's do: other programs on the same cores slow it down only by their share of the
    time. It differs from PyTorch by at most ``EXPORT_TOLERANCE``.
    """

    backend = 'openvino'
    device = torch.device('cpu')

    def __init__(
        self,
        network: CompletionNetwork,
        name: str,
        dtype: torch.dtype = torch.float32,
        threads: int = 0,
    ) -> None:
        """Convert a network, or take what was converted before from the cache folder.

        network: on the CPU, in eval mode. dtype: of the features, float32, or bfloat16 where
        ``computes_bfloat16``; float32 takes its place where the results differ by more than
        ``BFLOAT16_TOLERANCE``, and the log says so. threads: 0 for as many as PyTorch has. Raises
        ImportError without OpenVINO, ValueError for a network that cannot be converted.
        """
        if name not in CONVERTIBLE:
            raise ValueError(f'openvino: expected one of {", ".join(CONVERTIBLE)}; got {name!r}')
        self._openvino = import_openvino()
        self.convention = network.convention
        self._threads = threads or torch.get_num_threads()
        # Requests take one call at a time.
        self._lock = threading.Lock()
        self._model = self._load(network, name)
        self._begin(dtype)
        if dtype == torch.bfloat16 and (found := export_difference(network, self)) > (
            BFLOAT16_TOLERANCE
        ):
            _log.warning(
                'running %s in float32: bfloat16 changes depth by %.2g of its value', name, found
            )
            self._begin(torch.float32)

    def __call__(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, *guide: np.ndarray
    ) -> Prediction:
        """guide: as of ``TorchRunner``."""
        inputs = rgb[None], sparse[None, None], K[None], *(x[None, None] for x in guide)
        values = dict(zip(_INPUTS[: len(inputs)], inputs, strict=True))
        values = {name: values[name] for name in self._inputs}
        with self._lock:
            result = self._request(sparse.shape).infer(values, share_inputs=True)
        depth, confidence = result.values()
        return Prediction(depth[0, 0], confidence[0, 0])

    def _load(self, network: CompletionNetwork, name: str):
        """The model of the cache, or one that is converted, checked and kept there now."""
        path = _cached(network, name, self._openvino.__version__)
        if (model := _read(path)) is not None:
            return model
        self._model = _converted(self._openvino, network, name)
        self._begin(torch.float32)
        difference = export_difference(network, self)
        if difference > EXPORT_TOLERANCE:
            raise ValueError(
                f'openvino: {name} differs from PyTorch by {difference:.2g} of the depth, more '
                f'than {EXPORT_TOLERANCE:g}'
            )
        _save(self._openvino, self._model, path)
        return self._model

    def _begin(self, dtype: torch.dtype) -> None:
        """Compile for a type of features, and run with it from now on."""
        hints = _hints(dtype, self._threads)
        compiled = _core().compile_model(self._model, 'CPU', hints)
        # Some networks leave the intrinsics out.
        names = set().union(*(source.get_names() for source in compiled.inputs))
        self._inputs = [name for name in _INPUTS if name in names]
        self._hints, self.dtype = hints, dtype
        self._any_size = compiled.create_infer_request()
        self._of_size = _BySize()

    def ready(self, size: tuple[int, int]) -> bool:
        """See ``Runner.ready``."""
        with self._lock:
            return self._of_size.prepare(size, self._compiled_meanwhile)

    def _request(self, size: tuple[int, int]):
        """What runs images of this (height, width).

        For one size alone OpenVINO fuses the arithmetic between convolutions, which then takes a
        sixth of its time; compiling for it takes a second, several next to other programs, and
        must not hold up the frames of a camera whose scale changes.
        """
        found = self._of_size.get(size, self._compiled, self._compiled_meanwhile)
        return found or self._any_size

    def _compiled_meanwhile(self, size: tuple[int, int]):
        """As `_compiled`, for a thread of its own."""
        return self._compiled(size, in_background=True)

    def _compiled(self, size: tuple[int, int], in_background: bool = False):
        """What runs images of this (height, width) alone."""
        model = self._model.clone()
        one = [1, 1, *size]
        shapes = {'rgb': [1, *size, 3], 'sparse': one, 'K': [1, 3, 3], 'guide': one}
        model.reshape({name: shapes[name] for name in self._inputs})
        if in_background:
            # Not before: the copy holds Python's lock, on which frames would wait for a thread
            # that other programs keep waiting.
            _give_way()
        compiled = _core().compile_model(model, 'CPU', self._hints)
        return compiled.create_infer_request()


class _BySize:
    """What is made for one size of images alone, once that size comes several times in a row.

    The last few are kept, as a camera has few sizes and a folder may hold any number of them.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], Any] = {}
        self._last: tuple[int, ...] | None = None
        self._in_a_row = 0
        self._coming: tuple[tuple[int, ...], Future] | None = None

    def __len__(self) -> int:
        return len(self._made)

    def get(
        self,
        size: tuple[int, ...],
        make: Callable[[tuple[int, ...]], Any],
        make_meanwhile: Callable[[tuple[int, ...]], Any] | None = None,
    ) -> Any:
        """What ``make`` made for the size, now, the second time in a row, or earlier; else None.

        make_meanwhile: takes its place once something is made: it runs in a thread after some more
        times, and None is the answer until it is done. Raises what ``make`` raises.
        """
        self._in_a_row = self._in_a_row + 1 if size == self._last else 1
        self._last = size
        if size in self._made:
            self._keep(size, self._made.pop(size))
        elif make_meanwhile and self._made:
            if self._in_a_row >= _TO_STAY:
                self.prepare(size, make_meanwhile)
        elif self._in_a_row > 1:
            self._keep(size, make(size))
        return self._made.get(size)

    def prepare(self, size: tuple[int, ...], make: Callable[[tuple[int, ...]], Any]) -> bool:
        """Whether ``make`` has run for the size; if not, it runs in a thread, or will.

        Where it fails, such as for want of memory, nothing is made and it is not tried again.
        """
        if self._coming and self._coming[1].done():
            (made, future), self._coming = self._coming, None
            try:
                self._keep(made, future.result())
            except (MemoryError, RuntimeError) as error:
                _log.warning('no network for images of %s alone: %s', made, _first_line(error))
                self._keep(made, None)
        if size in self._made:
            self._keep(size, self._made.pop(size))
        elif self._coming is None:
            # A thread that has given way cannot take precedence again.
            thread = ThreadPoolExecutor(1)
            self._coming = size, thread.submit(make, size)
            thread.shutdown(wait=False)
        return size in self._made

    def _keep(self, size: tuple[int, ...], made: Any) -> None:
        self._made[size] = made
        if len(self._made) > _SIZES_KEPT:
            del self._made[next(iter(self._made))]  # the least recently used one


def _give_way() -> None:
    """Lower the priority of this thread, where threads have their own, as on Linux."""
    if sys.platform == 'linux':
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _COMPILING_NICENESS)


class Converted(CompletionNetwork):
    """Takes the place of a network inside another one that PyTorch runs; one image at a time."""

    def __init__(self, runner: OpenVinoRunner) -> None:
        super().__init__()
        self.convention, self._run = runner.convention, runner

    def forward(self, image: Tensor, sparse: Tensor, K: Tensor, *guide: Tensor) -> NetworkOutput:
        """See ``CompletionNetwork.forward``; the image is rounded to bytes."""
        mean, std = (
            image.new_tensor(v).view(3, 1, 1) for v in (self.convention.mean, self.convention.std)
        )
        rgb = ((image[0].float() * std + mean) * 255).round().clamp(0, 255).byte()
        rgb = rgb.permute(1, 2, 0).contiguous().numpy()
        sparse, *guide = (x[0, 0].float().contiguous().numpy() for x in (sparse, *guide))
        found = self._run(rgb, sparse, K[0].float().numpy(), *guide)
        depth, confidence = (torch.from_numpy(x)[None, None] for x in found)
        return NetworkOutput(depth, confidence, (depth,))


class ConvertedMono(MonoNetwork):
    """Takes the place of a monocular network inside another one that PyTorch runs.

    One image at a time; a size that comes twice in a row is converted, which takes seconds once.
    PyTorch runs the first image of a size, and a network that differs too much in OpenVINO.
    """

    def __init__(self, network: MonoNetwork, name: str, dtype: torch.dtype, threads: int) -> None:
        """network: on the CPU, in eval mode; the others as ``OpenVinoRunner`` has them."""
        super().__init__()
        self.convention, self.zero_is_far = network.convention, network.zero_is_far
        self._network, self._name, self._dtype = network, name, dtype
        self._threads = threads or torch.get_num_threads()
        self._openvino = import_openvino()
        # Requests take one call at a time.
        self._lock = threading.Lock()
        self._of_size = _BySize()

    def forward(self, image: Tensor) -> MonoOutput:
        """See ``MonoNetwork.forward``; without features where OpenVINO runs it."""
        with self._lock:
            run = self._of_size.get(tuple(image.shape[-2:]), lambda _: self._runner(image))
            return (run or self._network)(image)

    def _runner(self, image: Tensor) -> Callable[[Tensor], MonoOutput]:
        """What runs images of this one's size: OpenVINO, or the network itself."""
        name = f'{self._name}-{image.shape[-2]}x{image.shape[-1]}'
        path = _cached(self._network, name, self._openvino.__version__)
        cached = _read(path)
        try:
            model = cached or _traced(self._openvino, _Disparity(self._network), (image,), name)
            compiled = _core().compile_model(model, 'CPU', _hints(self._dtype, self._threads))
        except (ValueError, RuntimeError) as error:
            _log.warning('running %s in PyTorch: %s', name, _first_line(error))
            return self._network
        request = compiled.create_infer_request()

        def run(image: Tensor) -> MonoOutput:
            values = [image.float().contiguous().numpy()]
            (disparity,) = request.infer(values, share_inputs=True).values()
            return MonoOutput(torch.from_numpy(disparity), ())

        expected = self._network(image).disparity
        difference = (run(image).disparity - expected).abs().max() / np.ptp(expected.numpy())
        bound = EXPORT_TOLERANCE if self._dtype == torch.float32 else BFLOAT16_TOLERANCE
        if not difference < bound:
            _log.warning(
                'running %s in PyTorch: OpenVINO changes its depth by %.2g of the range',
                name,
                difference,
            )
            return self._network
        if cached is None:
            _save(self._openvino, model, path)
        return run


def is_installed() -> bool:
    """Whether the package is installed; it is not imported."""
    return importlib.util.find_spec('openvino') is not None


def computes_bfloat16() -> bool:
    """Whether OpenVINO has bfloat16 on this processor. Raises ImportError without OpenVINO."""
    return 'BF16' in _core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


_core_lock = threading.Lock()


def _core():
    """OpenVINO's core: one for the process, as long as it lasts. Raises as ``import_openvino``.

    Its CPU plugin gives the thread that loads it a stack of its own for signal handlers, and puts
    the former one back when it goes. After two of them, of which the first one went first, that is
    one which is gone, and the next signal with a handler ends the process without a word
    (OpenVINO 2026.4).
    """
    with _core_lock:
        return _only_core()


@functools.cache
def _only_core():
    return import_openvino().Core()


def import_openvino():
    """The module; ImportError with an install hint if it is missing."""
    # Importing it would report its use to its maker, from a fork of this process with all its
    # threads. It goes without where this package is missing.
    sys.modules.setdefault('openvino_telemetry', None)
    try:
        import openvino
    except ImportError as error:
        raise ImportError('the openvino back end needs the package openvino') from error
    return openvino


class _FromBytes(torch.nn.Module):
    """A network that takes images as bytes: the runtime normalizes them along with other work."""

    def __init__(self, network: CompletionNetwork) -> None:
        super().__init__()
        self.network = Outputs(network)
        self._convention: Convention = network.convention

    def forward(
        self, rgb: Tensor, sparse: Tensor, K: Tensor, guide: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        image = normalized(rgb, self._convention)
        return self.network(image, sparse, K, *([] if guide is None else [guide]))


class _Disparity(torch.nn.Module):
    """A monocular network's depth without its features."""

    def __init__(self, network: MonoNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, image: Tensor) -> Tensor:
        return self._network(image).disparity


def _hints(dtype: torch.dtype, threads: int) -> dict[str, object]:
    """How a model is compiled."""
    return {
        'INFERENCE_NUM_THREADS': threads,
        'INFERENCE_PRECISION_HINT': _PRECISIONS[dtype],
        'PERFORMANCE_HINT': 'LATENCY',
        # A thread pinned to a core waits for it even while another core is idle.
        'ENABLE_CPU_PINNING': False,
    }


def _converted(openvino, network: CompletionNetwork, name: str):
    """Model of OpenVINO for images of any size."""
    multiple = network.convention.size_multiple
    image, sparse, K = example(multiple * 6, multiple * 8)
    rgb = image.mul(64).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1)
    inputs = rgb, sparse, K, *([sparse.clamp(min=1)] if network.guided else [])
    module = _FromBytes(network).eval()
    model = _traced(openvino, module, inputs, name)
    try:
        return keep_prior(openvino, _core(), model, module, _INPUTS[1:])
    except (OSError, RuntimeError) as error:  # it takes a file
        raise ValueError(f'openvino: {name} cannot be converted ({_first_line(error)})') from error


def _traced(openvino, module: torch.nn.Module, inputs: tuple[Tensor, ...], name: str):
    """Model of OpenVINO of what a module does with such inputs."""
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    _log.info('converting %s to OpenVINO, once', name)
    with warnings.catch_warnings(), torch.no_grad():
        # It traces: what Python computes from sizes is said to be constant, and is not used.
        warnings.simplefilter('ignore')
        try:
            # By default, tracing runs everything twice more for a comparison that we make
            # ourselves.
            decoder = TorchScriptPythonDecoder(
                module,
                example_input=inputs,
                trace_kwargs={'check_trace': False},
            )
            return openvino.convert_model(decoder, example_input=inputs)
        # Its exceptions have no other common base class.
        except Exception as error:
            raise ValueError(
                f'openvino: {name} cannot be converted ({_first_line(error)})'
            ) from error


def _cached(network: CompletionNetwork, name: str, version: str) -> Path:
    release = version.partition('-')[0]
    return cache_folder() / 'openvino' / f'{name}-{fingerprint(network)}-{release}.xml'


def _read(path: Path):
    """The model of a file; None where there is none or it cannot be read."""
    if not path.is_file():
        return None
    try:
        return _core().read_model(path)
    except RuntimeError as error:
        _log.warning(
            '%s cannot be loaded and will be converted again (%s)', path, _first_line(error)
        )
        return None


def _save(openvino, model, path: Path) -> None:
    """Write a model, its weights first, so that the model file exists only if all is complete.

    Where that cannot be, the log says so.
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.xml')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, temporary, compress_to_fp16=False)
        temporary.with_suffix('.bin').replace(path.with_suffix('.bin'))
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        _log.warning('%s is not cached (%s)', path, _first_line(error))
    finally:
        for suffix in ('.xml', '.bin'):
            temporary.with_suffix(suffix).unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition('\n')[0]
