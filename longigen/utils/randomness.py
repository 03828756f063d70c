"""Seeds derived from (seed, subject, visit, sample), independent of batch, order and process."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for a batch, or one per sample, so that a sample's noise does not depend on its batch."""


class SharedGenerator(torch.Generator):
    """The generator of a batch that several processes share, each with as many of its samples.

    All processes seed it alike. `draw_rows` and `randn_like` draw with it for the whole batch and keep this process's
    samples, so that a sample has the noise that it would have in one process. What is drawn with it in other ways is
    the same in all processes.

    Args:
        device: where it draws.
        process: number of this process, from 0.
        processes: number of processes.
    """

    process: int
    processes: int

    def __new__(cls, device: torch.device | str, **shared: Any) -> Self:
        return super().__new__(cls, device)  # pyright: ignore[reportCallIssue]

    def __init__(self, device: torch.device | str, *, process: int, processes: int) -> None:
        self.process, self.processes = process, processes


def draw_rows(draw: Callable[[int], Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Return what `draw` draws for `count` samples with a generator, whatever the number of processes.

    Args:
        draw: returns random numbers (N, ...) for N samples, drawn with the generator.
        count: number of samples of this process.
        generator: one generator, which processes may share.
    """
    if not isinstance(generator, SharedGenerator):
        return draw(count)
    return draw(count * generator.processes)[count * generator.process :][:count]


@contextmanager
def randomness_kept(device: torch.device) -> Iterator[None]:
    """Restore, after the context, the global random generators of Python, numpy and torch, on the CPU and a device."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) hashed from the text of `parts`, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derived_generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded with `derive_seed(*parts)`; its noise is the same whatever the device."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def randn_like(x: Tensor, generator: Generators) -> Tensor:
    """Return standard normal noise of the shape of `x`; a CPU generator gives the same noise on every device."""
    from diffusers.utils.torch_utils import randn_tensor  # slow to import

    if not isinstance(generator, torch.Generator):
        return randn_tensor(tuple(x.shape), generator=list(generator), device=x.device, dtype=x.dtype)

    def draw(count: int) -> Tensor:
        return randn_tensor((count, *x.shape[1:]), generator=generator, device=x.device, dtype=x.dtype)

    return draw_rows(draw, x.shape[0], generator)
