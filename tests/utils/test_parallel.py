"""Tests of longigen.utils.parallel: order of results, exceptions, lazy consumption."""

import threading
import time

import pytest

from longigen.utils.parallel import in_parallel


def test_results_have_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(in_parallel(slow_first, range(20), workers=4)) == [item * item for item in range(20)]


def test_exception_is_raised_at_its_item() -> None:
    def refuse_three(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    results = in_parallel(refuse_three, range(10), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_items_are_consumed_lazily() -> None:
    taken = 0
    lock = threading.Lock()

    def items():
        nonlocal taken
        for item in range(1000):
            with lock:
                taken += 1
            yield item

    results = in_parallel(lambda item: item, items(), workers=2)
    assert next(results) == 0
    assert taken < 20
