"""Metric of the change since the last given visit."""

import math

from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef

from longigen import Metric


class ChangeCorrelation(Metric):
    """Pearson correlation of the generated with the true change since the last given visit.

    Most of a follow-up image equals the visit before, and similarity metrics reward a copy of it; this metric does not.
    It is NaN if one of the changes is constant, as for a copy, or the foreground has fewer than two voxels.
    """

    default = True

    @property
    def definition(self) -> str:
        return "Pearson correlation of (generated - previous) with (true - previous) inside the foreground"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        before = previous[:, foreground].double()
        generated_change = (generated[:, foreground].double() - before).flatten()
        true_change = (true[:, foreground].double() - before).flatten()
        changes = generated_change, true_change
        if len(true_change) < 2 or any(bool(change.min() == change.max()) for change in changes):
            return math.nan
        return float(pearson_corrcoef(generated_change, true_change))
