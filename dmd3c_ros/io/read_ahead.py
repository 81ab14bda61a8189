"""Reading ahead in a separate thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar('Key')
Item = TypeVar('Item')


def read_ahead(load: Callable[[Key], Item], keys: Iterable[Key], ahead: int) -> Iterator[Item]:
    """Yield `load(key)` of each key in order, with up to `ahead` of the next ones loaded already.

    The first is yielded once all of those are loaded, so that reading starts with its full lead.
    An error of `load` is raised when its key is due.
    """
    for _, reading in reading_ahead(load, keys, ahead, with_lead=True):
        yield reading.result()


def reading_ahead(
    load: Callable[[Key], Item], keys: Iterable[Key], ahead: int, *, with_lead: bool = False
) -> Iterator[tuple[Key, Future[Item]]]:
    """As `read_ahead`, each key with the future of its result, which may be an error.

    with_lead: the first is yielded once all of the next ones are loaded.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix='reading')
    waiting: deque[tuple[Key, Future[Item]]] = deque()
    try:
        for key in keys:
            waiting.append((key, pool.submit(load, key)))
            if len(waiting) > ahead:
                if with_lead:
                    waiting[-1][1].exception()
                    with_lead = False
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
