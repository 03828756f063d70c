"""Work in parallel, in threads: reading files, and arithmetic on arrays, which leave the interpreter free."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None) -> Iterator[R]:
    """Yield the result of `work` on each item, in the order of the items.

    An error of `work` is raised in its turn, and nothing more is begun. At most a few items per worker are under way
    or waiting to be taken, so that memory does not grow with their number.

    Args:
        work: on one item.
        items: taken as they are needed.
        workers: threads; by default as many as the machine has processors.
    """
    workers = workers or os.cpu_count() or 1
    under_way: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
