"""Time and memory of completions: cases measured side by side in one run.

A case is one network on one device, in one precision, with one back end, at one size. The time is
from arrays in host memory to arrays in host memory, including the transfers to a GPU, until the
result is available. The cases are interleaved, so that other load on the machine affects all of
them alike and their ratios are reliable.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dmd3c_ros.core import networks
from dmd3c_ros.core.baselines import BASELINES
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.pipeline.arrays import CompletionInputs

_log = logging.getLogger(__name__)

_MOST_TURNS = 1000


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured, and for how long.

    models: networks or baselines, each NAME or NAME=CHECKPOINT; a network without weights is
        measured with random ones.
    sizes: heights and widths of the images, pixels.
    devices, precisions, backends: as of CompleterConfig.
    points: fraction of pixels with a measurement; 0.047 is one in KITTI's depth selection.
    seconds: minimum measuring time of the slowest case.
    turns: minimum number of runs of every case.
    """

    models: tuple[str, ...] = ('light',)
    sizes: tuple[tuple[int, int], ...] = ((352, 1216),)
    devices: tuple[str, ...] = ('auto',)
    precisions: tuple[str, ...] = ('auto',)
    backends: tuple[str, ...] = ('auto',)
    points: float = 0.047
    seconds: float = 5.0
    turns: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.points <= 1:
            raise ValueError(f'points: expected a fraction above 0, to 1; got {self.points}')
        if min(min(size) for size in self.sizes) < 32:
            raise ValueError(f'sizes: expected 32 pixels or more a side; got {self.sizes}')
        if self.turns < 1 or self.seconds < 0:
            raise ValueError(
                f'turns, seconds: expected 1 or more, 0 or more; got {self.turns}, {self.seconds}'
            )


@dataclass
class Case:
    """One measured case; times in s, memory in MB.

    weights: 'random' where none were there. parameters, gflop: 0 for a baseline; a multiplication
    with an addition counts as two operations. first: the first completion, in which kernels are
    loaded or compiled. memory: highest, of the process or the GPU, above what was taken before the
    network was loaded. ratio: of times, the median over the turns, to the first case of the run.
    """

    model: str
    weights: str
    size: tuple[int, int]
    device: str
    precision: str
    backend: str
    parameters: int
    gflop: float
    first: float
    memory: float
    times: list[float] = field(default_factory=list)
    ratio: float = 1.0

    def same(self, other: Case) -> bool:
        """Whether two cases came to the same, as baselines do in every precision."""
        names = ('model', 'weights', 'size', 'device', 'precision', 'backend')
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def as_dict(self) -> dict:
        """Numbers for a JSON file, with latencies in ms in place of single times."""
        values = {key: value for key, value in asdict(self).items() if key != 'times'}
        median, late = np.percentile(self.times, (50, 99)) * 1e3
        return values | {
            'runs': len(self.times),
            'median_ms': round(float(median), 3),
            'p99_ms': round(float(late), 3),
            'per_second': round(len(self.times) / sum(self.times), 3),
            'first_ms': round(values.pop('first') * 1e3, 1),
            'memory_mb': round(values.pop('memory'), 1),
            'ratio': round(self.ratio, 3),
        }


def run(config: BenchmarkConfig, on_progress: Callable[[str], None] = _log.info) -> list[Case]:
    """Measure every combination that can run; those that cannot are logged with the reason."""
    cases, completers = [], []
    for combination in product(
        config.models, config.sizes, config.devices, config.precisions, config.backends
    ):
        label = ' '.join(str(part) for part in combination)
        on_progress(f'first run: {label}')
        try:
            case, completer = _prepare(*combination, config.points)
        except (ValueError, OSError, ImportError) as error:
            _log.warning('not measured: %s (%s)', label, error)
            continue
        if any(case.same(other) for other in cases):
            completer.close()
            continue
        cases.append(case)
        completers.append(completer)
    if cases:
        _take_turns(cases, completers, config, on_progress)
    for completer in completers:
        completer.close()
    return cases


def _prepare(
    model: str, size: tuple[int, int], device: str, precision: str, backend: str, points: float
) -> tuple[Case, DepthCompleter]:
    """Load a model and complete once."""
    name, _, weights = model.partition('=')
    settings = CompleterConfig(
        model=name, weights=weights, device=device, precision=precision, backend=backend
    )
    completer, kind = completer_of(settings)
    inputs = synthetic(size, points)
    started = perf_counter()
    completer.complete(*inputs)
    first = perf_counter() - started
    parameters, gflop = (
        (0, 0.0) if name in BASELINES else cost(completer.name, size, completer.device)
    )
    return (
        Case(
            completer.name,
            kind,
            size,
            completer.device,
            completer.precision,
            completer.backend,
            parameters,
            gflop,
            first,
            peak_memory(settings, size, points),
        ),
        completer,
    )


def completer_of(settings: CompleterConfig) -> tuple[DepthCompleter, str]:
    """A completer, and where its weights are from: random ones stand in for those not there."""
    if settings.weights or settings.model in ('auto', *BASELINES):
        return DepthCompleter(settings), Path(settings.weights).name
    try:
        return DepthCompleter(settings), 'bundled'
    except FileNotFoundError:
        torch.manual_seed(0)
        network = networks.build(settings.model)
        return DepthCompleter(settings, network), 'random'


def _take_turns(
    cases: Sequence[Case],
    completers: Sequence[DepthCompleter],
    config: BenchmarkConfig,
    on_progress: Callable[[str], None],
) -> None:
    """Run the cases interleaved, fast ones several times per turn; compare turn by turn."""
    inputs = [synthetic(case.size, config.points) for case in cases]

    def time_once(index: int) -> float:
        started = perf_counter()
        completers[index].complete(*inputs[index])
        return perf_counter() - started

    # Also the second warm-up: some libraries choose their kernels at the second call.
    single = [time_once(index) for index in range(len(cases))]
    slowest = max(single)
    turns = min(max(config.turns, round(config.seconds / slowest)), _MOST_TURNS)
    repeats = [min(max(round(slowest / time), 1), 20) for time in single]
    ratios = []
    for turn in range(turns):
        on_progress(f'turn {turn + 1} of {turns}')
        medians = []
        for index, case in enumerate(cases):
            times = [time_once(index) for _ in range(repeats[index])]
            case.times += times
            medians.append(np.median(times))
        ratios.append(np.divide(medians, medians[0]))
    for case, ratio in zip(cases, np.median(ratios, axis=0), strict=True):
        case.ratio = float(ratio)


def synthetic(size: tuple[int, int], points: float) -> CompletionInputs:
    """A noisy image of a slanted ground with measurements at random pixels, and a camera."""
    height, width = size
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    depth = np.linspace(80, 4, height, dtype=np.float32)[:, None].repeat(width, 1)
    sparse = np.where(rng.random((height, width)) < points, depth, np.float32(0))
    K = np.array([[0.6 * width, 0, width / 2], [0, 0.6 * width, height / 2], [0, 0, 1]])
    return CompletionInputs(rgb, sparse, K)


@lru_cache
def cost(name: str, size: tuple[int, int], device: str = 'cpu') -> tuple[int, float]:
    """Parameters of a network, and GFLOP of its convolutions and products for one image.

    Counted is a run of the network with random weights: what compiled graphs do, no one sees.
    """
    network = networks.build(name)
    parameters = sum(tensor.numel() for tensor in network.parameters())
    settings = CompleterConfig(model=name, device=device, precision='float32')
    counter = FlopCounterMode(display=False)
    with counter:
        DepthCompleter(settings, network).complete(*synthetic(size, 0.05))
    return parameters, round(counter.get_total_flops() / 1e9, 2)


def peak_memory(settings: CompleterConfig, size: tuple[int, int], points: float) -> float:
    """MB that a separate process needs for one completion; see Case.memory."""
    # Forked, it would begin with the memory of this one, and could not use a GPU.
    with ProcessPoolExecutor(1, get_context('spawn')) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_complete_once, settings, size, points, threads).result()


def _complete_once(
    settings: CompleterConfig, size: tuple[int, int], points: float, threads: int
) -> float:
    torch.set_num_threads(threads)
    completer, _ = completer_of(settings)
    completer.complete(*synthetic(size, points))
    if completer.device.startswith('cuda'):
        return torch.cuda.max_memory_allocated(completer.device) / 1e6
    return _resident('VmHWM') / 1e3


def _resident(key: str) -> float:
    """A line of /proc/self/status, kB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key))


def machine() -> dict[str, object]:
    """The system that the numbers of a run were measured on."""
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    cpu = next((line.partition(':')[2].strip() for line in lines if 'model name' in line), '')
    found: dict[str, object] = {
        'cpu': cpu or platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'load': round(os.getloadavg()[0], 1),
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    if torch.cuda.is_available():
        found['gpu'] = torch.cuda.get_device_name()
    return found
