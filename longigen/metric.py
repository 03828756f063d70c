"""The interface of metrics."""

import abc
from typing import ClassVar

from torch import Tensor

from longigen.component import Component


class Metric(Component, abc.ABC):
    """One number for a generated volume beside the true one.

    Contract:

    - `__call__(generated, true, previous, foreground)`: volumes (C, W, H, D) in [-1, 1]; `previous` is the last visit
      that was given; `foreground` (W, H, D), bool. The result is a float, NaN where the metric is not defined.
    - `higher_is_better` says which way is good; `definition` is one line that pins the metric down, and becomes part
      of the protocol that is printed and hashed with every result.
    """

    kind: ClassVar[str] = "metric"
    higher_is_better: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def definition(self) -> str:
        """What exactly is computed, in one line."""

    @abc.abstractmethod
    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        """Return the metric."""
