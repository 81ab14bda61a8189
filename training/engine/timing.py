"""What one iteration of a run costs, step by step."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from dmd3c_ros.core.networks import NetworkOutput
from training.data.guard import checked, collate
from training.engine.module import Training, pad
from training.engine.schedule import make_optimizer
from training.engine.settings import TrainConfig
from training.losses.objectives import Objective, ObjectiveConfig, RecipeLoss
from training.losses.recipes import TERMS

DAYS = 86400.0
LOADING, STEP = 'loading', 'clipping, AdamW, average'


class Watch:
    """Time by step, s: of the GPU until it is done, or CPU time of this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.spent: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = self._now()
        yield
        self.spent[step].append(self._now() - start)

    def means(self) -> dict[str, float]:
        """Of each step."""
        return {step: sum(times) / len(times) for step, times in self.spent.items()}

    def _now(self) -> float:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
            return time.perf_counter()
        return time.process_time()


class Timing(NamedTuple):
    """Of a run's iterations.

    seconds: of each step, the mean over iterations, of the part of a batch that goes through the
        network at once; ``STEP`` comes once for all parts.
    alone: of each term of the losses, which may share work, such as the alignment of Eq. 7 and 8.
    samples: of a part. parts: of a batch. gigabytes: at the most, of the GPU or of this process.
    """

    seconds: dict[str, float]
    alone: dict[str, float]
    samples: int
    parts: int
    gigabytes: float

    @property
    def iteration(self) -> float:
        """Seconds of an iteration of the whole batch on one device, loading apart."""
        part = sum(s for step, s in self.seconds.items() if step not in (LOADING, STEP))
        return self.parts * part + self.seconds[STEP]

    @property
    def loading(self) -> float:
        """Seconds of one core for the samples of an iteration."""
        return self.parts * self.seconds[LOADING]

    def days(self, iterations: int, devices: int) -> float:
        """By calculation: each device has its share of the batch, with perfect scaling."""
        shared = self.iteration - self.seconds[STEP]
        return iterations * (shared / devices + self.seconds[STEP]) / DAYS


def time_training(config: TrainConfig, count: int, warm_up: int = 1) -> Timing:
    """Measure ``count`` iterations of a part of the batch after ``warm_up`` others.

    On a CPU in one thread. Losses are measured down to the gradient at the network's output; what
    is left of the backward pass is the network's. Where they want a teacher and the data have
    none, exact inverse depth stands for it: time does not depend on it.
    """
    device = _device(config)
    if device.type == 'cpu':
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    task = Training(config).to(device).train()
    task.on_train_start()
    samples = config.data.open(config.seed, task.network.convention)
    optimizer = make_optimizer(config, task.trained())
    watch, alone, size = Watch(device), Watch(device), config.batch // config.accumulate
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    for number in range(warm_up + count):
        if number == warm_up:
            watch.spent.clear()
            alone.spent.clear()
        with watch(LOADING):
            batch = checked(collate([samples[number * size + i] for i in range(size)]))
        _iterate(task, optimizer, _taught(batch, device), watch, alone)
    return Timing(watch.means(), alone.means(), size, config.accumulate, _gigabytes(device))


def _iterate(
    task: Training,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    watch: Watch,
    alone: Watch,
) -> None:
    """One iteration as Lightning makes it, with a look at the clock between."""
    config = task.config
    batch = pad(batch, task.network.convention.size_multiple)
    mixed = config.precision == 'bf16-mixed'
    with watch('forward'), torch.autocast(task.device.type, torch.bfloat16, enabled=mixed):
        output = task.complete(task.network, batch)
    for name, term in _terms(config.loss).items():
        leaves = _leaves(output)
        with alone(name):
            term(leaves, batch).total.backward()
    leaves, losses = _leaves(output), config.loss.build()
    with watch('losses, both ways'):
        losses(leaves, batch).total.backward()
    pairs = [
        (tensor, leaf.grad)
        for tensor, leaf in zip(_tensors(output), _tensors(leaves), strict=True)
        if leaf.grad is not None
    ]
    with watch('backward'):
        torch.autograd.backward(*zip(*pairs, strict=True))
    with watch(STEP):
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(task.trained(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        task.average.update_parameters(task.network)


def _terms(loss: ObjectiveConfig) -> dict[str, Objective]:
    """The parts of a recipe, each alone; none of other objectives."""
    recipe = loss.weights
    if recipe is None:
        return {}
    return {
        name: RecipeLoss(replace(recipe, **{n: 0.0 for n in TERMS if n != name}))
        for name in TERMS
        if getattr(recipe, name)
    }


def _tensors(output: NetworkOutput) -> list[Tensor]:
    given = (output.depth, output.confidence, *output.pyramid)
    return [tensor for tensor in given if tensor is not None]


def _leaves(output: NetworkOutput) -> NetworkOutput:
    """The same values, cut off from the network."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().requires_grad_()

    confidence = None if output.confidence is None else leaf(output.confidence)
    return NetworkOutput(leaf(output.depth), confidence, tuple(map(leaf, output.pyramid)))


def _taught(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    if 'disparity' not in batch:
        inverse = 1 / batch['depth'].clamp(min=1.0)
        batch['disparity'] = inverse.where(batch['depth'] > 0, inverse.new_tensor(float('nan')))
    return batch


def _device(config: TrainConfig) -> torch.device:
    cuda = config.accelerator != 'cpu' and torch.cuda.is_available()
    return torch.device('cuda' if cuda else 'cpu')


def _gigabytes(device: torch.device) -> float:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
