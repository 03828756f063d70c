"""Map a function over items in threads, in order; for file reading and NumPy work, which release the GIL."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None) -> Iterator[R]:
    """Yield the result of `work` for each item, in the order of the items.

    An exception in `work` is raised when its item's turn comes, and no further items are started. At most a few items
    per worker are in progress or waiting to be consumed, so memory does not grow with the number of items.

    Args:
        work: the function, called with one item.
        items: consumed lazily.
        workers: number of threads; by default the number of processors.
    """
    workers = workers or os.cpu_count() or 1
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
