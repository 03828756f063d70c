"""The random parameters of a simulated subject."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Timing = Literal["yearly", "uneven"]
"""When a subject is visited: about once a year with some visits missed, or at random times."""

CLOSEST = 0.2
"""Smallest gap between two visits at uneven times, in years."""

MEDIAN_RATE = 0.08
"""Median rate of ageing, per year."""

RATE_SIGMA = 0.6
"""Standard deviation of the logarithm of the rate of ageing."""

RATE_LIMIT = 1.25
"""The log-normal rate of ageing is clipped at this many standard deviations."""

KNOTS = 36.0
"""Distance between the knots of the subject's shape, in mm."""

BIAS_KNOTS = 90.0
"""Distance between the knots of the bias field, in mm."""


@dataclass(frozen=True)
class Cohort:
    """What the traits of all subjects are drawn with.

    Attributes:
        seed: random seed.
        visits: fewest and most planned visits of a subject.
        timing: when they take place.
    """

    seed: int = 0
    visits: tuple[int, int] = (4, 8)
    timing: Timing = "yearly"


@dataclass(frozen=True)
class Traits:
    """The random parameters of a subject, drawn from its cohort's and its index only.

    Attributes:
        age: age at the first visit, in years.
        times: times of the visits, in years since the first.
        rate: rate of ageing: approximate growth of the logarithm of the ventricle volume per year, at the first visit.
        acceleration: relative growth of `rate` is twice this value per year.
        baseline: ageing before the first visit, relative to the template, in units of `amount`. It is independent of
            `rate`, so that the rate cannot be estimated from one visit.
        sulcal: rate of widening of the sulci, as a fraction of that of the ventricles.
        size: size (3,) along x, y and z, relative to the template, which is larger than most brains.
        shape: coefficients (3, n, n, n), in mm, of a free-form deformation.
        white: intensity of white matter, which determines the gain of all visits.
        bias: coefficients (1, m, m, m) of the logarithm of the bias field of all visits.
    """

    age: float
    times: tuple[float, ...]
    rate: float
    acceleration: float
    baseline: float
    sulcal: float
    size: np.ndarray
    shape: np.ndarray
    white: float
    bias: np.ndarray

    @classmethod
    def draw(cls, cohort: "Cohort", index: int) -> "Traits":
        """Draw the traits of subject `index`."""
        rng = np.random.default_rng((cohort.seed, index))

        def normal(sd: float, limit: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            return np.clip(sd * rng.standard_normal(shape), -limit * sd, limit * sd)

        age = round(float(rng.uniform(60, 85)), 1)
        return cls(
            age=age,
            times=_TIMES[cohort.timing](rng, *cohort.visits),
            rate=float(MEDIAN_RATE * np.exp(normal(RATE_SIGMA, RATE_LIMIT))),
            acceleration=float(rng.uniform(0, 0.03)),
            baseline=float(0.015 * (age - 72.5) + normal(0.2, 2)),
            sulcal=float(0.5 * np.exp(normal(0.25, 2))),
            size=0.93 + normal(0.015, 2, (3,)),
            shape=normal(5.5, 2.5, (3, 7, 7, 7)),
            white=float(rng.uniform(800, 1200)),
            bias=normal(0.15, 2, (1, 5, 5, 5)),
        )

    def amount(self, time: float) -> float:
        """Return the amount of ageing at `time` since the first visit: rate · (t + acceleration · t²)."""
        return self.rate * (time + self.acceleration * time**2)


def _yearly(rng: np.random.Generator, fewest: int, most: int) -> tuple[float, ...]:
    """Draw the times of yearly visits, of which some are missed: the fewest remain, and no two in a row miss."""
    number = int(rng.integers(fewest, most + 1))
    planned = np.arange(number) + rng.uniform(-0.2, 0.2, number)
    missed: list[int] = []
    for visit in rng.permutation(np.arange(1, number - 1)).tolist():
        isolated = all(abs(visit - other) > 1 for other in missed)
        if rng.random() < 0.2 and isolated and number - len(missed) > fewest:
            missed.append(visit)
    attended = np.delete(planned, missed)
    return tuple(round(float(time), 2) for time in attended - attended[0])


def _uneven(rng: np.random.Generator, fewest: int, most: int) -> tuple[float, ...]:
    """Draw the times of visits uniformly from the years that yearly visits would take, at least `CLOSEST` apart."""
    gaps = int(rng.integers(fewest, most + 1)) - 1
    # Sorted uniform draws from what the smallest gaps leave, moved apart by them, are uniform given those gaps.
    free = np.sort(rng.uniform(0, gaps * (1 - CLOSEST), gaps))
    return (0.0, *(round(float(time), 2) for time in free + CLOSEST * np.arange(1, gaps + 1)))


_TIMES = {"yearly": _yearly, "uneven": _uneven}
