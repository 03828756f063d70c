"""Means and medians over subjects with 95 % confidence intervals; jackknife for a metric of a set of visits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 3
"""The smallest number of subjects for which there is an interval."""
LEAST_FOR_MEDIAN = 6
"""The same for the interval of a median."""
INTERVAL = "95 % t interval, corrected for skewness"
"""What `Summary.of` computes, for the notes below tables."""


@dataclass(frozen=True)
class Summary:
    """A metric over subjects: its mean (or median; of a `SetMetric`, its value) and 95 % confidence interval.

    Attributes:
        mean: the mean or median; NaN where the metric is not defined.
        low: lower end of the interval; NaN where there are too few subjects for one.
        high: upper end of the interval.
        subjects: number of subjects for which the metric is defined.
    """

    mean: float
    low: float
    high: float
    subjects: int

    @classmethod
    def of(cls, per_subject: Sequence[float]) -> "Summary":
        """Summarise one value per subject by its mean and a t interval corrected for skewness, ignoring NaN values.

        With the mean m of n values, its standard error s, their skewness γ and A = γ / √n, the interval is from
        m - s g(t) to m - s g(-t), where t is Student's quantile for n - 1 degrees of freedom and
        g(y) = 3 (∛(1 + A (y - A/6)) - 1) / A (Hall, "On the removal of skewness by transformation", JRSS B 1992).
        Without skewness it is the t interval. ``benchmarks/intervals.py`` measures how often intervals hold the
        expected value.

        Args:
            per_subject: one value per subject. There is no interval (NaN) for fewer than `LEAST` subjects, nor if a
                value is infinite.
        """
        import numpy as np
        from scipy.special import stdtrit

        values = np.array([value for value in per_subject if not math.isnan(value)])
        count = len(values)
        mean = float(values.mean()) if count else math.nan
        if count < LEAST or not np.isfinite(values).all():
            return cls(mean, math.nan, math.nan, count)
        deviation = float(values.std())
        if deviation <= 1e-12 * abs(mean):  # equal values, but for rounding
            return cls(mean, mean, mean, count)
        a = float((((values - mean) / deviation) ** 3).mean()) / math.sqrt(count)
        error = deviation / math.sqrt(count - 1)
        quantile = float(stdtrit(count - 1, 0.975))
        low, high = (mean - error * _without_skewness(y, a) for y in (quantile, -quantile))
        return cls(mean, low, high, count)

    @classmethod
    def median(cls, per_subject: Sequence[float]) -> "Summary":
        """Summarise one value per subject by its median, ignoring NaN values.

        The interval is from the k-th smallest to the k-th largest value, with the largest k for which fewer than k of n
        tosses of a coin are heads with a probability of at most 2.5 %: it holds the median of any distribution with at
        least 95 %. Below `LEAST_FOR_MEDIAN` subjects there is none.
        """
        import numpy as np
        from scipy.special import bdtr

        values = np.sort([value for value in per_subject if not math.isnan(value)])
        count = len(values)
        middle = float(np.median(values)) if count else math.nan
        ends = [k for k in range(1, count // 2 + 1) if bdtr(k - 1, count, 0.5) <= 0.025]
        if not ends:
            return cls(middle, math.nan, math.nan, count)
        return cls(middle, float(values[ends[-1] - 1]), float(values[-ends[-1]]), count)

    @classmethod
    def jackknife(cls, value: float, leave_one_out: Sequence[float]) -> "Summary":
        """Summarise a metric of a set of visits, such as FID, by its jackknife interval over subjects.

        The standard error is √((n-1)/n Σ (θ_i - θ̄)²) (Efron and Stein, 1981), and the interval is θ ± t_{n-1} times it.
        The bootstrap is not used, because repeating subjects increases the distance between sets: for Gaussians in 8
        dimensions and 10 or 30 pairs, nine in ten bootstrap draws of a Fréchet or kernel distance lay above the
        distance itself, and bootstrap intervals covered the expected value in 68 to 80 % of trials, jackknife intervals
        in 97 %.

        Args:
            value: θ, the metric of all subjects.
            leave_one_out: θ_i, the metric without subject i, for each of the n subjects. There is no interval (NaN) for
                n < `LEAST`.
        """
        import numpy as np
        from scipy.special import stdtrit

        count = len(leave_one_out)
        if math.isnan(value):
            return cls(math.nan, math.nan, math.nan, 0)
        if count < LEAST:
            return cls(value, math.nan, math.nan, count)
        error = math.sqrt((count - 1) * float(np.var(leave_one_out)))
        half = float(stdtrit(count - 1, 0.975)) * error
        return cls(value, value - half, value + half, count)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any] | None) -> "Summary":
        """Return the summary that `to_dict` stored; an undefined one (NaN, 0 subjects) for None."""
        stored = content or {}
        mean, low, high = (math.nan if (v := stored.get(k)) is None else float(v) for k in ("mean", "low", "high"))
        return cls(mean, low, high, int(stored.get("subjects", 0)))

    def cell(self, *, signed: bool = False) -> str:
        """Return the text of a table cell: the mean and the interval."""
        if not self.subjects:
            return "-"
        sign = "+" if signed else ""
        digits = 2 if abs(self.mean) >= 10 else 4
        if math.isnan(self.low):  # too few subjects for an interval
            return f"{self.mean:{sign}.{digits}f}"
        return f"{self.mean:{sign}.{digits}f} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN and infinity become None."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(self).items()}


@dataclass(frozen=True)
class Average:
    """How a table averages subjects.

    Attributes:
        name: ``mean`` or ``median``.
        interval: what the brackets of a table are.
        least: the smallest number of subjects for which there is an interval.
        of: summarises one value per subject.
    """

    name: str
    interval: str
    least: int
    of: Callable[[Sequence[float]], Summary]


MEAN = Average("mean", INTERVAL, LEAST, Summary.of)
MEDIAN = Average("median", "95 % interval between two of the ordered values", LEAST_FOR_MEDIAN, Summary.median)
AVERAGES = {average.name: average for average in (MEAN, MEDIAN)}


def _without_skewness(y: float, a: float) -> float:
    """Return Hall's g(y), see `Summary.of`; written without a difference that cancels for small A."""
    root = math.cbrt(1 + a * (y - a / 6))
    return 3 * (y - a / 6) / (1 + root + root**2)
