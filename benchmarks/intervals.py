"""Measure how often 95 % intervals of a mean hold the expected value: ``python benchmarks/intervals.py``.

For normal and skewed values of n subjects, the share of trials in which the interval holds the expected value, and in
brackets the median width relative to the t interval's. `Summary.of` is what evaluations print; the others are Student's
t and the bootstrap of SciPy, percentile and BCa. A star marks shares below 0.93. The standard error of a share is below
0.003, of those of the bootstrap below 0.01.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.stats import bootstrap, ttest_1samp

from longigen.utils.intervals import Summary

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
VALUES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "skewness 1 (gamma 4)": (lambda rng, size: rng.gamma(4, size=size), 4.0),
    "skewness 1.4 (gamma 2)": (lambda rng, size: rng.gamma(2, size=size), 2.0),
    "skewness 2 (exponential)": (lambda rng, size: rng.exponential(size=size), 1.0),
    "skewness 6 (log-normal 1)": (lambda rng, size: rng.lognormal(size=size), float(np.exp(0.5))),
}
"""Distributions of the subjects' values, with their expected values."""
COUNTS = (3, 5, 8, 10, 12, 20, 40)
ENOUGH = 0.93
RESAMPLES, BATCH = 999, 100


def ours(values: np.ndarray) -> np.ndarray:
    """Return the intervals (trials, 2) of `Summary.of`."""
    return np.array([(summary.low, summary.high) for summary in map(Summary.of, values.tolist())])


def student(values: np.ndarray) -> np.ndarray:
    """Return Student's t intervals (trials, 2)."""
    return np.stack(ttest_1samp(values, 0.0, axis=1).confidence_interval(), axis=1)  # type: ignore[attr-defined]


def resampled(method: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of SciPy's bootstrap intervals (trials, 2)."""

    def intervals(values: np.ndarray) -> np.ndarray:
        found = bootstrap(
            (values,), np.mean, axis=1, n_resamples=RESAMPLES, batch=BATCH, method=method, rng=np.random.default_rng(1)
        )
        return np.stack(found.confidence_interval, axis=1)

    return intervals


METHODS = {"Summary.of": ours, "t": student, "percentile": resampled("percentile"), "BCa": resampled("BCa")}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000, help="number of trials; a tenth of it of the bootstrap")
    trials = parser.parse_args().trials
    print(f"{'values':<30}{'n':>4}" + "".join(f"{name:>16}" for name in METHODS))
    for name, (draw, expected) in VALUES.items():
        for count in COUNTS:
            values = draw(np.random.default_rng(count), (trials, count))
            line, unit = f"{name:<30}{count:>4}", np.median(np.diff(student(values)))
            for method, intervals in METHODS.items():
                few = trials // 10 if method in ("percentile", "BCa") else trials
                low, high = intervals(values[:few]).T
                share = float(np.mean((low <= expected) & (expected <= high)))
                line += f"{f'{share:.3f}' + '*' * (share < ENOUGH):>9} ({np.median(high - low) / unit:.2f})"
            print(line, flush=True)


if __name__ == "__main__":
    main()
