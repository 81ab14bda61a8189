"""Completing many frames: reading ahead, writing behind, failures by name."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.io.atomic import check_folder
from dmd3c_ros.io.depth_png import KITTI_SCALE, write_depth_png
from dmd3c_ros.io.read_ahead import reading_ahead
from dmd3c_ros.pipeline.arrays import CompletionInputs, complete_sparse

from .console import fail, progress_bar, say
from .options import make_completer

_READ_AHEAD = 2
# What a bad file raises. Anything else is a fault of the program and ends the run.
_BAD_FILE = (OSError, ValueError)


@dataclass(frozen=True)
class Job:
    """One frame to complete."""

    name: str
    output: Path
    load: Callable[[], CompletionInputs]


@dataclass
class Outcome:
    """What became of the jobs."""

    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def complete_inputs(
    completer: DepthCompleter, inputs: CompletionInputs, filtering: str
) -> Completion:
    """Complete one frame; ValueError where nothing was measured, or nothing comes out.

    filtering: of hidden points, as `DepthCompleter.filter_hidden` takes it.
    """
    if not inputs.sparse.any():
        raise ValueError('expected measured depth in the image, got none')
    completion = complete_sparse(completer, *inputs, filtering)[1]
    if not completion.depth.any():
        raise ValueError(f'the model {completer.name} gave no depth anywhere')
    return completion


def complete_all(
    jobs: Sequence[Job],
    options: Mapping[str, Any],
    *,
    resume: bool = False,
    depth_scale: float | None = None,
    failures: dict[str, str] | None = None,
) -> None:
    """Complete every job and report; ends the command with code 1 if anything failed.

    `failures` are those found before, name -> reason. With `resume`, a job whose output exists
    is skipped. `options` are of the groups COMPLETION and HIDDEN_POINTS.
    """
    for folder in dict.fromkeys(job.output.parent for job in jobs):
        try:
            check_folder(folder)
        except OSError as error:
            raise fail(error) from error
    completer = make_completer(options)
    filtering = options.get('filter_hidden_points', 'auto')
    outcome = Outcome(failures=dict(failures or {}))
    pending = [job for job in jobs if not (resume and job.output.exists())]
    outcome.skipped = len(jobs) - len(pending)
    started = perf_counter()
    with ThreadPoolExecutor(1) as pool, progress_bar() as progress:
        task = progress.add_task(f'{completer.name} on {completer.device}', total=len(pending))
        writes: list[tuple[Job, Future]] = []
        for job, loaded in reading_ahead(lambda job: job.load(), pending, _READ_AHEAD):
            try:
                inputs = loaded.result()
                depth = complete_inputs(completer, inputs, filtering).depth
                writes.append((job, pool.submit(_write, job.output, depth, depth_scale)))
            except _BAD_FILE as error:
                outcome.failures[job.name] = str(error)
            progress.advance(task)
            _settle(writes, outcome, keep=_READ_AHEAD)
        _settle(writes, outcome, keep=0)
    _report(outcome, perf_counter() - started)


def _write(path: Path, depth: np.ndarray, scale: float | None) -> None:
    write_depth_png(path, depth, KITTI_SCALE if scale is None else scale)


def _settle(writes: list[tuple[Job, Future]], outcome: Outcome, keep: int) -> None:
    """Wait for the oldest writes until at most `keep` are under way."""
    while len(writes) > keep:
        job, written = writes.pop(0)
        try:
            written.result()
            outcome.done += 1
        except _BAD_FILE as error:
            outcome.failures[job.name] = str(error)


def _report(outcome: Outcome, seconds: float) -> None:
    rate = f', {outcome.done / seconds:.1f} frames/s' if outcome.done else ''
    skipped = f', {outcome.skipped} skipped' if outcome.skipped else ''
    say(f'{outcome.done} frames in {seconds:.1f} s{rate}{skipped}')
    if not outcome.failures:
        return
    for name, reason in sorted(outcome.failures.items()):
        say(f'failed {name}: {reason}')
    raise fail(f'{len(outcome.failures)} frames failed')
