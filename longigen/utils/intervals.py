"""Means and medians over subjects with 95 % confidence intervals, means over seeds too, and tests of differences.

Intervals are t intervals, or jackknife for a metric of a set of visits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np

LEAST = 3
"""The smallest number of subjects for which there is an interval."""
ROUNDING = 1e-12
"""Values that differ by less than this, relative to their mean, are equal."""
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
        return Estimate.of([per_subject]).summary

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
class Estimate:
    """A mean over subjects and seeds, or a difference of two, with its standard error.

    Model: a value is a mean plus the effect of its subject, the effect of its seed (of training), and a rest; subjects
    and seeds are drawn at random. Of a difference, both methods have the same subjects, so that it is paired by
    subject, and each has seeds of its own. With one seed that is the paired t test. With several it is a crossed mixed
    model, analysed by its mean squares, as studies with several readers and cases are (Hillis, "A marginal-mean ANOVA
    approach for analyzing multireader multicase radiological imaging data", Statistics in Medicine 2014): the variance
    of the mean is the subjects' plus, for each method, the seeds', and its degrees of freedom are Satterthwaite's. The
    bootstrap is not used, because of two to five seeds it gives too short intervals (``benchmarks/seeds.py``).

    Attributes:
        mean: NaN where no subject has values.
        error: the standard error; NaN for fewer than `LEAST` subjects, or if a value is infinite.
        freedom: degrees of freedom of Student's t.
        asymmetry: skewness of the mean, Hall's A (see `Summary.of`).
        spread: standard deviation over subjects, of values that are averaged over seeds.
        subjects: number of subjects.
        higher: number of subjects whose value is above 0.
        lower: number of subjects whose value is below 0.
    """

    mean: float
    error: float
    freedom: float
    asymmetry: float
    spread: float
    subjects: int
    higher: int
    lower: int

    @classmethod
    def of(cls, values: Sequence[Sequence[float]], minus: Sequence[Sequence[float]] | None = None) -> Self:
        """Estimate the mean of values, or the mean of values minus others.

        Args:
            values: for each seed, one value per subject (S, n). A subject with a NaN is left out.
            minus: values of another method (T, n) of the same subjects, to be subtracted.
        """
        import numpy as np

        groups = [np.array(each, dtype=float) for each in (values, minus) if each is not None]
        missing = [np.isnan(group).any(axis=0) for group in groups]
        if any(each.any() for each in missing):
            groups = [group[:, ~np.any(missing, axis=0)] for group in groups]
        finite = all(math.isfinite(group.sum()) for group in groups)
        averages = [group[0] if len(group) == 1 else group.mean(axis=0) for group in groups]
        with nullcontext() if finite else np.errstate(invalid="ignore"):
            of_subjects = averages[0] - averages[1] if minus is not None else averages[0]
        count = len(of_subjects)
        mean = float(of_subjects.sum()) / count if count else math.nan
        signs = int((of_subjects > 0).sum()), int((of_subjects < 0).sum())
        if count < LEAST or not finite:
            return cls(mean, math.nan, math.nan, 0.0, math.nan, count, *signs)
        away = of_subjects - mean
        deviation = math.sqrt(float(away @ away) / count)
        if deviation <= ROUNDING * max(abs(float(average.sum())) / count for average in averages):
            deviation = 0.0
        terms = [(deviation**2 / (count - 1), count - 1.0)]
        for group in groups:
            terms += _of_seeds(group)
        variance = sum(term for term, _ in terms)
        if variance <= 0:
            return cls(mean, 0.0, count - 1.0, 0.0, 0.0, count, *signs)
        # Where what is taken off the seeds' variance leaves little of it, the formula gives less than any part has, and
        # intervals without end. A sum of variances has at least the degrees of freedom of its poorest part.
        least = min(freedom for term, freedom in terms if term > 0)
        freedom = max(least, variance**2 / sum(term**2 / freedom for term, freedom in terms))
        asymmetry = 0.0
        if deviation:
            skewness = float((away * away) @ away) / count / deviation**3
            asymmetry = skewness / math.sqrt(count) * (terms[0][0] / variance) ** 1.5
        spread = deviation * math.sqrt(count / (count - 1))
        return cls(mean, math.sqrt(variance), freedom, asymmetry, spread, count, *signs)

    @property
    def summary(self) -> Summary:
        """The mean with its 95 % interval."""
        from scipy.special import stdtrit

        if math.isnan(self.error):
            return Summary(self.mean, math.nan, math.nan, self.subjects)
        if self.error == 0:
            return Summary(self.mean, self.mean, self.mean, self.subjects)
        quantile = float(stdtrit(self.freedom, 0.975))
        low, high = (self.mean - self.error * _without_skewness(y, self.asymmetry) for y in (quantile, -quantile))
        return Summary(self.mean, low, high, self.subjects)

    @property
    def p(self) -> float:
        """Two-sided p-value of a mean of 0, below .05 where the interval excludes 0; NaN without an interval."""
        from scipy.special import stdtr

        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        t, a = self.mean / self.error, self.asymmetry
        y = t + a / 6 + a * t**2 / 3 + a**2 * t**3 / 27  # the inverse of Hall's g
        return 2 * float(stdtr(self.freedom, -abs(y)))

    @property
    def effect(self) -> float:
        """Effect size: the mean divided by its standard deviation over subjects, unbiased (Hedges' g of pairs).

        The factor 1 - 3 / (4 (n - 1) - 1) is that of Hedges, "Distribution theory for Glass's estimator of effect size
        and related estimators", Journal of Educational Statistics 1981. NaN where all subjects have one value.
        """
        if math.isnan(self.error) or not self.spread:
            return math.nan
        return self.mean / self.spread * (1 - 3 / (4 * (self.subjects - 1) - 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979); NaN stays and counts
    for nothing.

    If all hypotheses hold, the probability that any adjusted value is below .05 is at most .05.
    """
    order = sorted((place for place, value in enumerate(values) if not math.isnan(value)), key=lambda i: values[i])
    adjusted, largest = list(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def _of_seeds(values: "np.ndarray") -> list[tuple[float, float]]:
    """Return what several seeds (S, n) add to the variance of a mean: terms with their degrees of freedom.

    That is the variance of the seeds' averages, without the rest's part in it, which the subjects' variance has too;
    nothing where that would be below 0.
    """
    seeds, count = values.shape
    if seeds < 2:
        return []
    averages = values.mean(axis=1)
    rest = values - averages[:, None] - values.mean(axis=0) + values.mean()
    of_seeds = float(averages.var(ddof=1)) / seeds
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (count - 1)) / (seeds * count)
    if of_seeds <= of_rest or of_seeds <= (ROUNDING * float(values.mean())) ** 2:
        return []
    return [(of_seeds, seeds - 1.0), (-of_rest, (seeds - 1.0) * (count - 1))]


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
