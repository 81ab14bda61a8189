"""Reading ahead in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar('Key')
Item = TypeVar('Item')


def read_ahead(load: Callable[[Key], Item], keys: Iterable[Key], ahead: int) -> Iterator[Item]:
    """Yield `load(key)` of each key in order, with up to `ahead` of the next ones loaded already.

    The first comes when all of its followers are there, so that they start with their whole lead.
    An error of `load` is raised in its turn.
    """
    for _, reading in reading_ahead(load, keys, ahead, with_lead=True):
        yield reading.result()


def reading_ahead(
    load: Callable[[Key], Item], keys: Iterable[Key], ahead: int, *, with_lead: bool = False
) -> Iterator[tuple[Key, Future[Item]]]:
    """As `read_ahead`, each key with the future of what is loaded, which may be an error.

    with_lead: the first comes when all of its followers are there.
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
