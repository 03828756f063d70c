"""A mean with its 95 % interval: bootstrap over subjects, jackknife for a value of a whole set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Summary:
    """A metric over subjects: its mean and 95 % interval, by bootstrap; of a `SetMetric` its value, by jackknife."""

    mean: float
    low: float
    high: float
    subjects: int

    @classmethod
    def of(cls, per_subject: Sequence[float]) -> "Summary":
        """Summarise one value per subject; values that are not defined (NaN) are left out."""
        import numpy as np

        values = np.array([value for value in per_subject if not math.isnan(value)])
        if not len(values):
            return cls(math.nan, math.nan, math.nan, 0)
        draws = np.random.default_rng(0).choice(values, (BOOTSTRAPS, len(values))).mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5), method="inverted_cdf")  # no interpolation: inf - inf
        return cls(float(values.mean()), float(low), float(high), len(values))

    @classmethod
    def jackknife(cls, value: float, without: Sequence[float]) -> "Summary":
        """Summarise a value of a whole set by those that it has without each of n subjects.

        The standard error is √((n-1)/n Σ (θ_i - θ̄)²) (Efron and Stein, 1981), the interval θ ± t_{n-1} of it. The
        bootstrap is no good here: a set with repeated subjects is farther from any other. For Gaussians in 8 dimensions
        and 10 or 30 pairs, nine in ten of its draws of a Fréchet or kernel distance lay above the distance itself, and
        its intervals held the expected value in 68 to 80 % of trials, those of the jackknife in 97 %.
        """
        import numpy as np
        from scipy.special import stdtrit

        count = len(without)
        if math.isnan(value):
            return cls(math.nan, math.nan, math.nan, 0)
        if count < 2:
            return cls(value, math.nan, math.nan, count)
        error = math.sqrt((count - 1) * float(np.var(without)))
        half = float(stdtrit(count - 1, 0.975)) * error
        return cls(value, value - half, value + half, count)

    @classmethod
    def of_dict(cls, content: Mapping[str, Any] | None) -> "Summary":
        """Return what `to_dict` gave; of None one that is not defined."""
        given = content or {}
        mean, low, high = (math.nan if (v := given.get(k)) is None else float(v) for k in ("mean", "low", "high"))
        return cls(mean, low, high, int(given.get("subjects", 0)))

    def cell(self, *, signed: bool = False) -> str:
        """Return it as a cell of a table: the mean and the interval."""
        if not self.subjects:
            return "-"
        sign = "+" if signed else ""
        digits = 2 if abs(self.mean) >= 10 else 4
        if math.isnan(self.low):  # too few subjects for an interval
            return f"{self.mean:{sign}.{digits}f}"
        return f"{self.mean:{sign}.{digits}f} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which has no NaN."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(self).items()}
