"""Child processes that always end: with the block, on Ctrl-C and on errors."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .config import DemoError

_log = logging.getLogger(__name__)
_PATIENCE_S = {signal.SIGINT: 10.0, signal.SIGTERM: 3.0, signal.SIGKILL: 3.0}
_TAIL_LINES = 15


@contextlib.contextmanager
def _interrupt_deferred(clean_up: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C in the block takes effect at its end, after `clean_up`.

    Between the start of a process and the note of its number, an exception would lose it.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        clean_up()
        raise KeyboardInterrupt


class Child:
    """A Python module that runs in a separate process, with its output in a log file.

    A context manager: leaving the block stops the process, gracefully at first. folder: where it
    runs, which is where Python looks for the module first; None: where this process does.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        log: Path,
        folder: Path | None = None,
    ) -> None:
        self.name = module.rpartition('.')[2]
        self._command = [sys.executable, '-m', module, *arguments]
        self._log = log
        self._folder = folder
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> 'Child':
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open('wb') as log, _interrupt_deferred(self.stop):
            # A separate session keeps the terminal's Ctrl-C away from it: the parent stops its
            # children in order. Unbuffered output keeps the log complete if it has to be killed.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, 'PYTHONUNBUFFERED': '1'},
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise DemoError, with the end of the log, if the process has failed."""
        if self.exit_code not in (None, 0):
            raise DemoError(
                f'{self.name} exited with code {self.exit_code}; {self._log} ends with:\n'
                f'{self.log_tail()}'
            )

    def log_tail(self) -> str:
        """Last lines of the output."""
        lines = self._log.read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join(lines[-_TAIL_LINES:])

    def stop(self) -> int | None:
        """End the process and return its exit code: by SIGINT, and by force if it does not."""
        for number, patience in _PATIENCE_S.items():
            if self._process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                _log.warning(
                    '%s did not exit on %s within %.0f s', self.name, number.name, patience
                )
        return self._process.poll()
