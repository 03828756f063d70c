"""Micro-batches: the equal parts of a batch that are computed one after the other where memory does not hold it whole.

Their gradients are added up, so the size of a micro-batch changes what is learnt only by rounding.
"""

from collections.abc import Callable
from typing import Literal

import torch

from longigen.errors import LongigenError
from longigen.models.batch_size import ON_CPU

MicroBatch = Literal["all", "auto"]
"""``all`` pairs that a process has of a batch are computed at once, or, with ``auto``, as many as memory holds."""


def divisor(size: int, most: int) -> int:
    """Return the largest divisor of `size` that is not larger than `most`."""
    return next(number for number in range(min(size, most), 0, -1) if size % number == 0)


def find_micro_batch(attempt: Callable[[int], None], size: int, device: torch.device) -> int:
    """Return the largest micro-batch that memory holds, by trying, from large to small.

    On a CPU it begins with `ON_CPU` at most: more at once is hardly faster, and a process without memory is killed.

    Args:
        attempt: computes as many training pairs as it is given, and leaves everything as it was.
        size: pairs that a process has of a batch, of which a micro-batch is a divisor.
        device: where they are computed.

    Raises:
        LongigenError: if memory does not hold one pair.
    """
    from accelerate.utils.memory import find_executable_batch_size

    tried = divisor(size, ON_CPU if device.type == "cpu" else size)

    def smaller() -> int:
        nonlocal tried
        if tried == 1:
            raise LongigenError(
                "Memory does not hold a training step of one pair with the longest history; 'longigen plan' says which "
                "settings make it fit, such as denoiser.checkpointing=true."
            )
        tried = divisor(size, tried - 1)
        return tried

    def run(pairs: int) -> int:
        attempt(pairs)
        return pairs

    return find_executable_batch_size(run, tried, smaller)()
