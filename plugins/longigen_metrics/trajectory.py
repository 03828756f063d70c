"""Metrics of a series of visits: the slope of the change, whether it keeps its direction, and whether it flickers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from longigen import SeriesMetric


class SlopeError(SeriesMetric):
    """Relative error of the slopes over time: 0 for the true series, 1 for copies of the last given visit.

    Each voxel of the foreground has a least-squares line through its visits, the last given one among them. So the
    noise of a single visit weighs less than in the errors of visits. NaN if no true slope differs from 0.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            "sum |generated - true slope| over sum |true slope|: least-squares lines over time of each voxel inside "
            "the foreground, through the visits that were generated together and the last given one before them"
        )

    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        slope = _slopes(true, foreground, times)
        size = float(slope.abs().sum())
        return float((_slopes(generated, foreground, times) - slope).abs().sum()) / size if size else math.nan


class Monotonicity(SeriesMetric):
    """How straight the generated series goes from its first to its last visit, over how straight the true one goes.

    The net change divided by the way there is 1 if no voxel ever turns back, as in steady atrophy, and near 0 for a
    heart that returns. The true series has noise in each visit, and its way is longer: a model that leaves noise out
    has values above 1, one that draws each visit's noise or anatomy anew has values below. NaN for copies, which do not
    move.
    """

    higher_is_better = None

    @property
    def definition(self) -> str:
        return (
            "sum |last - first visit| over the sum of |visit - visit before|, inside the foreground, of the generated "
            "over that of the true series; the last given visit is the first"
        )

    def aim(self, samples: int) -> float | None:
        return 1.0

    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        straight = _straightness(true, foreground)
        return _straightness(generated, foreground) / straight if straight else math.nan


class Flicker(SeriesMetric):
    """The curvature over time of the generated series over that of the true one: 1 if as smooth, above if it flickers.

    0 for a series that changes at one rate, such as copies or a line in time. Models that draw each visit by itself
    flicker. NaN if the true series changes at one rate.
    """

    higher_is_better = None

    @property
    def definition(self) -> str:
        return (
            "sum of the absolute second divided differences over time, inside the foreground, of the generated over "
            "that of the true series; the last given visit is the first"
        )

    def aim(self, samples: int) -> float | None:
        return 1.0

    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        curvature = _curvature(true, foreground, times)
        return _curvature(generated, foreground, times) / curvature if curvature else math.nan


def _inside(series: Tensor, foreground: Tensor) -> Tensor:
    """Return the values of a series inside the foreground (N, V), float64."""
    return series[:, :, foreground].double().flatten(1)


def _slopes(series: Tensor, foreground: Tensor, times: Sequence[float]) -> Tensor:
    """Return the slope of each voxel (V,), in intensity per unit of time."""
    time = torch.tensor(times, dtype=torch.float64, device=series.device)
    time = time - time.mean()
    values = _inside(series, foreground)
    return time @ (values - values[0]) / time.square().sum()  # exactly 0 where nothing changes


def _straightness(series: Tensor, foreground: Tensor) -> float:
    """Return the net change over the way there, or NaN where nothing moves."""
    values = _inside(series, foreground)
    way = float(values.diff(dim=0).abs().sum())
    return float((values[-1] - values[0]).abs().sum()) / way if way else math.nan


def _curvature(series: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
    """Return the sum of the absolute second divided differences."""
    time = torch.tensor(times, dtype=torch.float64, device=series.device)[:, None]
    rates = _inside(series, foreground).diff(dim=0) / time.diff(dim=0)
    return float((rates.diff(dim=0) / (time[2:] - time[:-2])).abs().sum())
