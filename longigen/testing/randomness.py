"""Global random generators: torch's, NumPy's and Python's, which components must not draw from."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from longigen.utils.randomness import randomness_kept


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for a while, and put their states back afterwards."""
    with randomness_kept(torch.device("cpu")):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        yield


def assert_draws_nothing_global(answer: Callable[[], Sequence[Tensor]]) -> None:
    """Check that an answer neither draws from the global generators nor depends on their states.

    Args:
        answer: makes the component and returns what it makes; called with the generators in different states.
    """
    first, second = _answered(answer, seed=1), _answered(answer, seed=2)
    if not _same(first, second):
        again = _answered(answer, seed=1)
        assert _same(first, again), "the result is another each time, whatever the states of the global generators"
        raise AssertionError("the result depends on the states of the global generators")


def _answered(answer: Callable[[], Sequence[Tensor]], seed: int) -> Sequence[Tensor]:
    """Return an answer given with seeded global generators, whose states it must leave as they are."""
    with seeded(seed):
        before = _states()
        given = answer()
        drawn = [name for name, state in _states().items() if state != before[name]]
    assert not drawn, f"draws from {' and '.join(drawn)}, so that the result depends on all that was drawn before"
    return given


def _same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Say whether tensors are equal, a NaN being equal to another."""
    pairs = zip(first, second, strict=True)
    return all(one.shape == two.shape and torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in pairs)


def _states() -> dict[str, object]:
    return {
        "Python's global generator (random)": random.getstate(),
        "NumPy's global generator (numpy.random)": [str(part) for part in map(_plain, np.random.get_state())],
        "torch's global generator": torch.get_rng_state().tolist(),
    }


def _plain(part: object) -> object:
    return part.tolist() if isinstance(part, np.ndarray) else part
