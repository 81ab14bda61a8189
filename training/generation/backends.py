"""Where the steps of generation run: in this process, in processes of this machine, or on Ray."""

from __future__ import annotations

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from training.generation.maker import (
    Batch,
    GenerateConfig,
    Rejected,
    make_kept,
    make_samples,
    read_and_keep,
    read_images,
    teach,
)
from training.generation.teacher import open_teacher

T, R = TypeVar('T'), TypeVar('R')
Made = list[dict[str, bytes] | Rejected]


class Stages(ABC):
    """Makes batches of samples; ``make`` is called from ``window`` threads at a time.

    The window is what bounds memory: no more batches than that are read, taught or waiting.
    """

    window: int

    @abstractmethod
    def make(self, batch: Batch) -> Made:
        """The encoded samples that are wanted of a batch."""

    @abstractmethod
    def close(self) -> None:
        """End what was started."""

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Local(Stages):
    """In this process; the teacher may be on a GPU."""

    def __init__(self, config: GenerateConfig) -> None:
        self._config = config
        self._teacher = open_teacher(config.teacher)
        self._teaching = Lock()
        self.window = 1

    def make(self, batch: Batch) -> Made:
        images = read_images(self._config, batch)
        predictions = self._teach(images)
        return make_samples(self._config, batch, images, predictions)

    def _teach(self, images: list) -> list:
        with self._teaching:
            return teach(self._teacher, images)

    def close(self) -> None:
        del self._teacher


class _Worker:
    """One process, which keeps the images that it has read until their samples are made."""

    def __init__(self) -> None:
        # Forking a process that has torch's threads, or CUDA, is not safe.
        context = multiprocessing.get_context('spawn')
        self.pool = ProcessPoolExecutor(1, context)
        self.batches = 0


class _Processes(_Local):
    """Reading and simulation in other processes, the teacher in this one.

    Both steps of a batch run in one process: an image goes to the teacher, and not back.
    """

    def __init__(self, config: GenerateConfig, workers: int) -> None:
        super().__init__(config)
        self._workers = [_Worker() for _ in range(workers)]
        self._choosing = Lock()
        self.window = 2 * workers + 2

    def make(self, batch: Batch) -> Made:
        with self._least_busy() as pool:
            images = pool.submit(read_and_keep, self._config, batch).result()
            predictions = self._teach(images)
            del images
            return pool.submit(make_kept, self._config, batch, predictions).result()

    @contextmanager
    def _least_busy(self) -> Iterator[ProcessPoolExecutor]:
        with self._choosing:
            worker = min(self._workers, key=lambda worker: worker.batches)
            worker.batches += 1
        try:
            yield worker.pool
        finally:
            with self._choosing:
                worker.batches -= 1

    def close(self) -> None:
        for worker in self._workers:
            worker.pool.shutdown(cancel_futures=True)
        super().close()


class _TeacherActor:
    """Holds a teacher on one machine of the cluster.

    threads: of torch, as in the process that asks. Ray gives an actor one; sums over another
    number of threads end in other digits, and a sample would depend on where it was made.
    """

    def __init__(self, config: GenerateConfig, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._teacher = open_teacher(config.teacher)

    def teach(self, images: list) -> list:
        return teach(self._teacher, images)


class _Ray(Stages):
    """Tasks on the cluster's CPUs, teachers as actors; no image passes through this process."""

    def __init__(self, config: GenerateConfig, workers: int) -> None:
        # Ray reports its use to its maker unless told otherwise.
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        import ray
        import torch

        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(
                address=config.ray_address or None, include_dashboard=False, log_to_driver=False
            )
        self._config = ray.put(config)
        self._read = ray.remote(read_images)
        self._simulate = ray.remote(make_samples)
        actor = ray.remote(num_gpus=config.teacher_gpus, num_cpus=0)(_TeacherActor)
        self._teachers = [
            actor.remote(config, torch.get_num_threads()) for _ in range(config.teachers)
        ]
        self._turn = 0
        self._lock = Lock()
        self.window = 2 * workers + 2 * config.teachers

    def make(self, batch: Batch) -> Made:
        with self._lock:
            teacher = self._teachers[self._turn % len(self._teachers)]
            self._turn += 1
        images = self._read.remote(self._config, batch)
        predictions = teacher.teach.remote(images)
        return self._ray.get(self._simulate.remote(self._config, batch, images, predictions))

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


def open_stages(config: GenerateConfig) -> Stages:
    """The stages that a configuration asks for."""
    workers = config.workers or os.cpu_count() or 1
    if config.backend == 'ray':
        return _Ray(config, workers)
    return _Processes(config, workers) if workers > 1 else _Local(config)


def in_order(work: Callable[[T], R], items: Iterable[T], window: int) -> Iterator[R]:
    """Results of work(item) in the order of the items, at most ``window`` of them under way."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(window) as threads:
        try:
            for item in items:
                pending.append(threads.submit(work, item))
                if len(pending) == window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
