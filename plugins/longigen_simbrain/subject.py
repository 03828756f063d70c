"""One simulated subject: the numbers that make it, drawn without reading a voxel."""

from dataclasses import dataclass

import numpy as np

MEDIAN_RATE = 0.08
"""Per year."""

RATE_SIGMA = 0.6
RATE_LIMIT = 1.25
"""The rate of ageing is log-normal, cut at this many standard deviations either side."""

KNOTS = 36.0
"""The distance of the knots of the subject's shape, in mm."""

BIAS_KNOTS = 90.0
"""The distance of the knots of the bias field, in mm."""


@dataclass(frozen=True)
class Traits:
    """What is drawn for a subject, from (seed, index) alone.

    Attributes:
        age: at the first visit, in years.
        times: of the visits, in years since the first.
        rate: of ageing: about the growth of the logarithm of the ventricles' volume per year, at the first visit.
        acceleration: `rate` grows by twice this fraction of itself per year.
        baseline: how far the subject has aged by the first visit, in units of `amount`, from the template. It has
            nothing to do with `rate`, so that one visit cannot tell it.
        sulcal: how fast the sulci widen, as a fraction of the ventricles' rate.
        size: (3,), along x, y and z, over the template's, which is larger than most brains.
        shape: (3, n, n, n), in mm: coefficients of a free-form deformation.
        white: the intensity of white matter, which sets the gain of all visits.
        bias: (1, m, m, m): coefficients of the logarithm of the bias field of all visits.
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
    def draw(cls, seed: int, index: int) -> "Traits":
        """Draw the traits of subject `index`."""
        rng = np.random.default_rng((seed, index))

        def normal(sd: float, limit: float, shape: tuple[int, ...] = ()) -> np.ndarray:
            return np.clip(sd * rng.standard_normal(shape), -limit * sd, limit * sd)

        age = round(float(rng.uniform(60, 85)), 1)
        return cls(
            age=age,
            times=_times(rng),
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
        """Return how far the subject has aged at `time` since the first visit: rate · (t + acceleration · t²)."""
        return self.rate * (time + self.acceleration * time**2)


def _times(rng: np.random.Generator) -> tuple[float, ...]:
    """Draw 4 to 8 yearly visits, of which up to as many are missed as leaves 4, never two in a row."""
    number = int(rng.integers(4, 9))
    planned = np.arange(number) + rng.uniform(-0.2, 0.2, number)
    missed: list[int] = []
    for visit in rng.permutation(np.arange(1, number - 1)).tolist():
        alone = all(abs(visit - other) > 1 for other in missed)
        if rng.random() < 0.2 and alone and number - len(missed) > 4:
            missed.append(visit)
    kept = np.delete(planned, missed)
    return tuple(round(float(time), 2) for time in kept - kept[0])
