"""Change since the last visit that was given."""

import math

from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef

from longigen import Metric


class ChangeCorrelation(Metric):
    """Pearson correlation of the generated with the true change since the last visit that was given.

    Most of a follow-up is a copy of the visit before, and similarity rewards the copy; this does not. It is NaN where
    either change is constant, as is that of a copy, or the foreground has less than two voxels.
    """

    default = True

    @property
    def definition(self) -> str:
        return "Pearson correlation of (generated - previous) with (true - previous) inside the foreground"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        before = previous[:, foreground].double()
        made = (generated[:, foreground].double() - before).flatten()
        real = (true[:, foreground].double() - before).flatten()
        if made.numel() < 2 or any(bool(change.min() == change.max()) for change in (made, real)):
            return math.nan
        return float(pearson_corrcoef(made, real))
