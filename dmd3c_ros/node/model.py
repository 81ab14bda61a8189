"""The model of a node: exchanged between two frames, and made smaller where memory runs out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.memory import MEMORY_ERRORS, is_out_of_memory

# Errors of loading a model; all are reported to whoever requested the model.
LOAD_ERRORS = (ValueError, OSError, ImportError, *MEMORY_ERRORS)
_FALLBACK_SCALE = 0.5


class Model:
    """Completes frames for one thread while another one prepares the next model.

    size: (height, width) that each model is run at when it is loaded, until frames come. warn:
    called when memory runs out. make: loads a model. Raises what `make` raises: LOAD_ERRORS.
    """

    def __init__(
        self,
        config: CompleterConfig,
        size: tuple[int, int],
        warn: Callable[[str], None],
        make: Callable[[CompleterConfig], DepthCompleter] = DepthCompleter,
    ) -> None:
        self._warn, self._make = warn, make
        self._lock, self._preparing = threading.Lock(), threading.Lock()
        self._prepared: tuple[CompleterConfig, DepthCompleter | Exception] | None = None
        self._size = size
        self._ways = _cheaper_ways(config)
        # Why no model is left, after one was released for another that could not be loaded.
        self._lost = ''
        self._completer = self._what_fits(config, lambda c: self._load(c, self._size))

    @property
    def completer(self) -> DepthCompleter:
        """What completes now."""
        return self._completer

    def complete(
        self, rgb: np.ndarray, sparse: np.ndarray, K: np.ndarray, scale_limit: float = 1.0
    ) -> Completion:
        """As `DepthCompleter.complete`; if memory runs out, this frame and all after it are
        completed with a cheaper configuration. MemoryError if there is none left.
        """
        with self._lock:
            self._size = sparse.shape
            if self._lost:
                raise MemoryError(self._lost)
            while True:
                try:
                    return self._completer.complete(rgb, sparse, K, scale_limit)
                except MEMORY_ERRORS as error:
                    if not is_out_of_memory(error):
                        raise
                    reason = _first_line(error)
                # Outside the handler: the traceback kept the memory of the frame alive.
                self._fall_back(reason)

    def ready(self, scale_limit: float) -> bool:
        """See ``DepthCompleter.ready``."""
        with self._lock:
            return self._completer.ready(scale_limit)

    def prepare(self, config: CompleterConfig) -> None:
        """Load another model next to this one; errors are kept for `exchange`."""
        with self._preparing:
            self._discard_prepared()
            try:
                found = self._load(config, self._size)
            except LOAD_ERRORS as error:
                # Without its traceback, which holds what was allocated.
                found = error.with_traceback(None)
            self._prepared = config, found

    def exchange(self, config: CompleterConfig) -> None:
        """Switch to another model, prepared or not, between two frames.

        Raises LOAD_ERRORS; then nothing changes.
        """
        if self._prepared is None or self._prepared[0] != config:
            self.prepare(config)
        (_, found), self._prepared = self._prepared, None
        if not isinstance(found, DepthCompleter):
            raise found
        with self._lock:
            found, self._completer = self._completer, found
            self._ways, self._lost = _cheaper_ways(config), ''
        found.close()

    def close(self) -> None:
        """Release the model, after the frame that it is at, and one that is being prepared."""
        with self._preparing:
            self._discard_prepared()
        with self._lock:
            self._completer.close()

    def _discard_prepared(self) -> None:
        if self._prepared is not None and isinstance(self._prepared[1], DepthCompleter):
            self._prepared[1].close()
        self._prepared = None

    def _load(self, config: CompleterConfig, size: tuple[int, int]) -> DepthCompleter:
        """A warmed-up model: the first run at a size prepares kernels, which takes seconds on a
        GPU and a minute if they are compiled, and frames would be dropped meanwhile.
        """
        completer = self._make(config)
        try:
            sparse = np.zeros(size, np.float32)
            sparse[::8, ::8] = 10.0
            # From the second image of a size on, OpenVINO runs a network compiled for that size.
            for _ in range(2):
                completer.complete(np.zeros((*size, 3), np.uint8), sparse, np.eye(3))
        except LOAD_ERRORS:
            completer.close()
            raise
        return completer

    def _what_fits(
        self, config: CompleterConfig, load: Callable[[CompleterConfig], DepthCompleter]
    ) -> DepthCompleter:
        """Without a working model, a cheaper one is better than none."""
        while True:
            try:
                return load(config)
            except MEMORY_ERRORS as error:
                if not is_out_of_memory(error):
                    raise
                reason = _first_line(error)
            config = self._next_way(reason)

    def _fall_back(self, reason: str) -> None:
        config = self._next_way(reason)
        # First, because it holds the memory that the other one needs.
        self._completer.close()
        try:
            self._completer = self._what_fits(config, self._make)
        except LOAD_ERRORS as error:
            reason = _first_line(error)
        else:
            return
        self._lost = f'out of memory, and no smaller configuration loads: {reason}'
        raise MemoryError(self._lost)

    def _next_way(self, reason: str) -> CompleterConfig:
        config = next(self._ways, None)
        if config is None:
            raise MemoryError(f'out of memory: {reason}')
        self._warn(
            f'out of memory: frames are now completed on {config.device} with '
            f'inference_scale {config.inference_scale:g}; set any model parameter to reload '
            f'the model ({reason})'
        )
        return config


def _cheaper_ways(config: CompleterConfig) -> Iterator[CompleterConfig]:
    """The same model with less memory, by fewer pixels, or without the GPU's."""
    if config.inference_scale > _FALLBACK_SCALE:
        yield replace(config, inference_scale=_FALLBACK_SCALE)
    if config.device != 'cpu' and torch.cuda.is_available():
        yield replace(config, device='cpu', precision='auto')


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition('\n')[0]
