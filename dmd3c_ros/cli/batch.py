"""Completing many frames: reading ahead, writing behind, failures by name."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

from dmd3c_ros.core.completer import Completion
from dmd3c_ros.io.atomic import check_folder, write_together
from dmd3c_ros.io.read_ahead import reading_ahead
from dmd3c_ros.pipeline.arrays import CompletionInputs

from .console import fail, progress_bar, say
from .frame_files import CloudCount, FrameCompleter, Paths

_READ_AHEAD = 2
# Exceptions for bad files. Anything else is a bug and ends the run.
_BAD_FILE = (OSError, ValueError)


@dataclass(frozen=True)
class Job:
    """One frame to complete."""

    name: str
    paths: Paths
    load: Callable[[], CompletionInputs]

    @property
    def is_done(self) -> bool:
        """Whether all of its files exist."""
        return all(path.exists() for path in self.paths.requested())


@dataclass
class Outcome:
    """What became of the jobs."""

    done: int = 0
    skipped: int = 0
    cloud: CloudCount = field(default_factory=CloudCount)
    failures: dict[str, str] = field(default_factory=dict)


def complete_all(
    jobs: Sequence[Job],
    completer: FrameCompleter,
    *,
    resume: bool = False,
    failures: dict[str, str] | None = None,
) -> None:
    """Complete every job and report; ends the command with code 1 if anything failed.

    `failures` are those already found, name -> reason. With `resume`, a job whose files all exist
    is skipped.
    """
    outcome = Outcome(failures=dict(failures or {}))
    pending = [job for job in jobs if not (resume and job.is_done)]
    outcome.skipped = len(jobs) - len(pending)
    started = perf_counter()
    model = completer.completer
    with ThreadPoolExecutor(1) as pool, progress_bar() as progress:
        task = progress.add_task(f'{model.name} on {model.device}', total=len(pending))
        writes: list[tuple[Job, Future]] = []
        for job, loaded in reading_ahead(lambda job: job.load(), pending, _READ_AHEAD):
            try:
                inputs = loaded.result()
                completion = completer.complete(inputs)
                writes.append((job, pool.submit(_write, completer, job.paths, inputs, completion)))
            except _BAD_FILE as error:
                outcome.failures[job.name] = str(error)
            progress.advance(task)
            _settle(writes, outcome, keep=_READ_AHEAD)
        _settle(writes, outcome, keep=0)
    _report(outcome, perf_counter() - started)


def check_folders(jobs: Sequence[Job]) -> None:
    """Find out whether the files of jobs can be written; OSError names a folder that cannot."""
    for folder in dict.fromkeys(path.parent for job in jobs for path in job.paths.requested()):
        check_folder(folder)


def _write(
    completer: FrameCompleter, paths: Paths, inputs: CompletionInputs, completion: Completion
) -> CloudCount:
    files, count = completer.files(paths, inputs, completion)
    write_together(files)
    return count


def _settle(writes: list[tuple[Job, Future]], outcome: Outcome, keep: int) -> None:
    """Wait for the oldest writes until at most `keep` are under way."""
    while len(writes) > keep:
        job, written = writes.pop(0)
        try:
            outcome.cloud.add(written.result())
            outcome.done += 1
        except _BAD_FILE as error:
            outcome.failures[job.name] = str(error)


def _report(outcome: Outcome, seconds: float) -> None:
    rate = f', {outcome.done / seconds:.1f} frames/s' if outcome.done else ''
    skipped = f', {outcome.skipped} skipped' if outcome.skipped else ''
    say(f'{outcome.done} frames in {seconds:.1f} s{rate}{skipped}')
    if outcome.cloud.known:
        say(f'clouds: {outcome.cloud}')
    if not outcome.failures:
        return
    for name, reason in sorted(outcome.failures.items()):
        say(f'failed {name}: {reason}')
    raise fail(f'{len(outcome.failures)} frames failed')
