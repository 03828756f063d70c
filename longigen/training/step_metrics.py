"""The losses of training steps, which stay on the device until they are read."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longigen.errors import LongigenError


class _Step(NamedTuple):
    number: int
    names: Sequence[str]
    losses: Tensor
    gradient_norm: Tensor | None
    learning_rate: float


class StepMetrics:
    """The metrics of the steps since the last reading.

    Reading makes the CPU wait until the device has done the steps. Between readings it goes on to start the next ones,
    and no loss is looked at; a NaN is found at the next reading, with its step.

    Args:
        peak_rate: peak learning rate, for the advice where a loss is NaN.
    """

    def __init__(self, peak_rate: float) -> None:
        self._peak_rate = peak_rate
        self._unread: list[_Step] = []
        self._last: dict[str, float] = {}

    def add(
        self, number: int, names: Sequence[str], losses: Tensor, gradient_norm: Tensor | None, learning_rate: float
    ) -> None:
        """Add a step: its losses (N,) by their names, the norm of the gradient (), and the learning rate."""
        self._unread.append(_Step(number, names, losses, gradient_norm, learning_rate))

    def read(self) -> dict[str, float]:
        """Return the metrics of the last step.

        Raises:
            LongigenError: if a loss of a step since the last reading is NaN.
        """
        if self._unread:
            norms = [
                step.losses.new_zeros(()) if step.gradient_norm is None else step.gradient_norm for step in self._unread
            ]
            rows = [torch.cat([step.losses, norm[None]]) for step, norm in zip(self._unread, norms, strict=True)]
            for step, (*losses, norm) in zip(self._unread, torch.stack(rows).tolist(), strict=True):
                if any(math.isnan(loss) for loss in losses):
                    raise LongigenError(
                        f"The loss became NaN at step {step.number}; lower training.learning_rate "
                        f"({self._peak_rate:g}), or resume the run from its last checkpoint."
                    )
                rates = {"learning_rate": step.learning_rate, "gradient_norm": norm}
                self._last = {**dict(zip(step.names, losses, strict=True)), **rates}
            self._unread.clear()
        return dict(self._last)

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last step that was read."""
        return dict(self._last)
