"""How many volumes are generated at once: a number, or as many as memory holds."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Self, TypeVar

import torch

from longigen.errors import LongigenError, LongigenWarning

T = TypeVar("T")

Size = int | Literal["auto"]
"""A number of volumes, or ``auto``."""

ON_CPU, ON_GPU = 4, 64
"""What ``auto`` begins with. On a CPU more at once is hardly faster, and a process without memory is killed."""


class BatchSize:
    """The number of volumes that are generated at once.

    ``auto`` begins with `ON_GPU` on a GPU and `ON_CPU` on a CPU, and halves the number as often as memory does not hold
    it (`accelerate.utils.find_executable_batch_size`); a `LongigenWarning` says so. What was found holds afterwards.
    The result of generation does not depend on it.

    Args:
        given: the number, or ``auto``.
        device: the device that the model is on.
    """

    def __init__(self, given: Size, device: torch.device) -> None:
        self.found: bool = given == "auto"
        self.size: int = given if given != "auto" else ON_CPU if device.type == "cpu" else ON_GPU

    @classmethod
    def of(cls, given: "Size | BatchSize", device: torch.device) -> "Self | BatchSize":
        """Return a batch size that was given as a number or ``auto``, or is one already."""
        return given if isinstance(given, BatchSize) else cls(given, device)

    def run(self, function: Callable[[int], T]) -> T:
        """Return ``function(size)``, with a smaller size where memory does not hold it and the size is ``auto``.

        Raises:
            LongigenError: if memory does not hold the number that was given, or not even one volume.
        """
        from accelerate.utils.memory import find_executable_batch_size

        def smaller() -> int:
            if self.size == 1:
                raise LongigenError(
                    "Memory does not hold one volume; compute in --precision bf16, or choose a smaller grid with "
                    "--set preprocess.shape."
                )
            self.size //= 2
            warnings.warn(
                f"Memory does not hold {2 * self.size} volumes at once; {self.size} are generated at once instead. "
                "What is generated does not depend on it.",
                LongigenWarning,
                stacklevel=6,
            )
            return self.size

        if self.found:
            return find_executable_batch_size(function, self.size, smaller)()
        with memory_errors(f"{self.size} volumes at once; give --batch-size auto, or a smaller one."):
            return function(self.size)


@contextmanager
def memory_errors(rest: str) -> Iterator[None]:
    """Raise a `LongigenError` where memory runs out inside the context: "Memory does not hold", and the `rest`."""
    try:
        yield
    except RuntimeError as error:
        from accelerate.utils.memory import should_reduce_batch_size

        if not should_reduce_batch_size(error):
            raise
        raise LongigenError(f"Memory does not hold {rest}") from error
