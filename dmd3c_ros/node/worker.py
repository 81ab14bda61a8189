"""A thread that always works on the newest item."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class NewestWins(Generic[T]):
    """A thread that handles items one at a time; while it is busy only the newest one waits.

    Whoever puts items in never waits for the handler.
    """

    def __init__(self, handle: Callable[[T], None], name: str = 'worker') -> None:
        self._handle = handle
        self._ready = threading.Condition()
        self._waiting: list[T] = []
        self._stopped = self._failed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> bool:
        """Hand over an item; True where it took the place of one that nobody had begun."""
        with self._ready:
            replaced = bool(self._waiting)
            self._waiting = [item]
            self._ready.notify()
        return replaced

    def stop(self) -> None:
        """End the thread after the item it is at; one that waits is dropped."""
        with self._ready:
            self._stopped = True
            self._ready.notify()
        self._thread.join()

    @property
    def failed(self) -> bool:
        """True once the handler has raised, which ends the thread."""
        return self._failed

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                item = self._waiting.pop()
            try:
                self._handle(item)
            except BaseException:
                self._failed = True
                raise
