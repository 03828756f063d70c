"""Metrics of the change since the last given visit: correlation, relative error, and a map of where it is."""

import math
from typing import Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef

from longigen import Metric

TOP = 0.05
"""The share of the foreground's voxels that count as those of the largest changes."""


class ChangeCorrelation(Metric):
    """Correlation of the generated with the true change since the last given visit.

    Most of a follow-up image equals the visit before, and similarity metrics reward a copy of it; this metric does not.
    Noise of the last visit is a part of the true change, so a blurred copy is above 0 too: compare with those in the
    table. It is NaN if one of the changes is constant, as for a copy, or the foreground has fewer than two voxels.

    Args:
        coefficient: ``pearson``, or ``spearman`` for that of the ranks (equal values have the mean of their ranks),
            which a few voxels of large change do not decide. Tables and protocols call the metric
            ``change-correlation`` and ``change-correlation-spearman``.
    """

    default = True

    def __init__(self, *, coefficient: Literal["pearson", "spearman"] = "pearson") -> None:
        self.coefficient = coefficient

    @property
    def variant(self) -> str:
        return "" if self.coefficient == "pearson" else self.coefficient

    @property
    def definition(self) -> str:
        of = f"{self.coefficient.capitalize()} correlation of (generated - previous) with (true - previous)"
        return f"{of} inside the foreground{', equal values have the mean of their ranks' if self.variant else ''}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        changes = _changes(generated, true, previous, foreground)
        if changes.shape[1] < 2 or bool((changes.amin(dim=1) == changes.amax(dim=1)).any()):
            return math.nan
        if self.coefficient == "spearman":
            changes = torch.from_numpy(rankdata(changes.cpu().numpy(), axis=1))
        return float(pearson_corrcoef(changes[0], changes[1]))


class DeltaRMAE(Metric):
    """Relative mean absolute error of the change (Δ-RMAE): 0 for the true visit, 1 for a copy of the last given one.

    It is the share of the change that a model leaves unexplained. Above 1 it would have been better to copy. Noise
    counts as change: where it is most of it, no model comes far below 1. NaN if nothing changed.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return "mean |generated - true| over mean |previous - true|, both inside the foreground"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        generated_change, true_change = _changes(generated, true, previous, foreground)
        change = true_change.abs().sum()
        return float((generated_change - true_change).abs().sum() / change) if bool(change > 0) else math.nan


class ChangeAUROC(Metric):
    """Area under the ROC curve of the generated change, as a map of where the true one is largest.

    It is the probability that a voxel of the largest true increases has a larger generated change than another voxel:
    1 for the true visit, 0.5 for a copy or chance. How large the generated change is does not matter, only where.
    Noise of the last visit is a part of the true change, so a blurred copy is above 0.5: compare with those in the
    table.

    Args:
        direction: ``increase``: the voxels with the largest 5 % of the true changes, as far as they are above 0;
            ``decrease``: the same of the changes times -1; ``both``: the mean of the two, or the one that there is.
            Tables and protocols add a direction to the name ``change-auroc``.
    """

    def __init__(self, *, direction: Literal["both", "increase", "decrease"] = "both") -> None:
        self.direction = direction

    @property
    def variant(self) -> str:
        return "" if self.direction == "both" else self.direction

    @property
    def definition(self) -> str:
        one = (
            f"area under the ROC curve of (generated - previous) for the voxels with (true - previous) at or above its "
            f"{1 - TOP:.0%} quantile, and above 0, inside the foreground"
        )
        return {
            "increase": one,
            "decrease": f"{one}; both changes times -1",
            "both": f"{one}; mean of that and of the same for both changes times -1, where there are such voxels",
        }[self.direction]

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        generated_change, true_change = _changes(generated, true, previous, foreground).cpu().numpy()
        signs = {"increase": (1,), "decrease": (-1,), "both": (1, -1)}[self.direction]
        areas = [_area(sign * generated_change, sign * true_change) for sign in signs]
        defined = [area for area in areas if not math.isnan(area)]
        return sum(defined) / len(defined) if defined else math.nan


def _changes(generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
    """Return the generated and the true change inside the foreground (2, N), float64."""
    before = previous[:, foreground].double()
    return torch.stack([(volume[:, foreground].double() - before).flatten() for volume in (generated, true)])


def _area(predicted: np.ndarray, change: np.ndarray) -> float:
    """Return the area under the ROC curve of `predicted` for the largest values of `change`, by the sum of ranks."""
    largest = (change > 0) & (change >= np.quantile(change, 1 - TOP)) if change.size else change > 0
    count = int(largest.sum())
    rest = change.size - count
    if not count or not rest:
        return math.nan
    return float((rankdata(predicted)[largest].sum() - count * (count + 1) / 2) / count / rest)
