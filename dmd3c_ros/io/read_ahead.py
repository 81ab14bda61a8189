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
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix='reading')
    waiting: deque[Future[Item]] = deque()
    first = True
    try:
        for key in keys:
            waiting.append(pool.submit(load, key))
            if len(waiting) > ahead:
                if first:
                    waiting[-1].exception()
                    first = False
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
