"""Global random generators: torch's, NumPy's and Python's, which components must not draw from."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for a while, and put their states back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def assert_draws_nothing_global(answer: Callable[[], Sequence[Tensor]]) -> None:
    """Check that an answer neither draws from the global generators nor depends on their states.

    Args:
        answer: returns what a component makes; called twice, with the global generators in different states.
    """
    answers = []
    for seed in (1, 2):
        with seeded(seed):
            before = _states()
            answers.append(answer())
            drawn = [name for name, state in _states().items() if state != before[name]]
        assert not drawn, f"draws from {' and '.join(drawn)}: the result would depend on all that was drawn before"
    assert all(map(torch.equal, *answers)), "depends on the state of the global generators"


def _states() -> dict[str, object]:
    return {
        "Python's global generator (random)": random.getstate(),
        "NumPy's global generator (numpy.random)": [str(part) for part in map(_plain, np.random.get_state())],
        "torch's global generator": torch.get_rng_state().tolist(),
    }


def _plain(part: object) -> object:
    return part.tolist() if isinstance(part, np.ndarray) else part
