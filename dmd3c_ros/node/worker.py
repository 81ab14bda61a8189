"""A thread that always works on the newest item."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestWins(Generic[T]):
    """A thread that handles items one at a time; while it is busy only the newest one waits.

    Putting an item in, which one thread does, never blocks on the handler. A signal may interrupt
    it at any moment: there is no lock that could stay locked, as with a Condition.
    """

    def __init__(self, handle: Callable[[T], None], name: str = 'worker') -> None:
        self._handle = handle
        self._waiting: deque[tuple[T]] = deque(maxlen=1)
        # One for each item, and one more to look whether it is the end.
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._stopped = self._failed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> bool:
        """Hand over an item; True where it took the place of one that nobody had begun."""
        replaced = self._take() is not None
        self._waiting.append((item,))
        self._calls.put(None)
        return replaced

    def stop(self) -> None:
        """End the thread after the item it is at; one that waits is dropped."""
        self._stopped = True
        self._calls.put(None)
        self._thread.join()

    @property
    def failed(self) -> bool:
        """True once the handler has raised, which ends the thread."""
        return self._failed

    def _take(self) -> tuple[T] | None:
        try:
            return self._waiting.pop()
        except IndexError:
            return None

    def _run(self) -> None:
        while True:
            self._calls.get()
            if self._stopped:
                return
            taken = self._take()
            if taken is None:
                continue  # Replaced; the newer one has been handled.
            try:
                self._handle(taken[0])
            except BaseException:
                self._failed = True
                raise
