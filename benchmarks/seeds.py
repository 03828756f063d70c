"""Measure how often two equal methods are called different: ``python benchmarks/seeds.py``.

Both methods have the same expected value. A subject's effect is shared, but for a part of standard deviation .5; each
seed of a method has an effect of its own, of the given standard deviation; the rest has .3. The table has the share of
trials in which the 95 % interval of the difference excludes 0, which should be .05, and in brackets the median width
relative to that of `Estimate`, which is what ``longigen compare`` prints. The others: a paired t test of values that
are averaged over seeds, as if these seeds were all there are, and the hierarchical bootstrap (percentile), which draws
subjects and, for each method, seeds. A star marks shares above .07. The standard error of a share is .005, of the
bootstrap's .010.
"""

import argparse

import numpy as np

from longigen.utils.intervals import Estimate

SUBJECTS, SEEDS, EFFECTS = (5, 20), (1, 2, 3, 5), (0.0, 0.1, 0.3, 1.0)
INTERACTION, REST = 0.5, 0.3
RESAMPLES = 500
TOO_MANY = 0.07


def draw(rng: np.random.Generator, subjects: int, seeds: int, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values of two methods (S, n) that have the same expected value."""
    shared = rng.normal(size=subjects)
    both = [
        shared
        + INTERACTION / np.sqrt(2) * rng.normal(size=subjects)
        + effect * rng.normal(size=(seeds, 1))
        + REST * rng.normal(size=(seeds, subjects))
        for _ in range(2)
    ]
    return both[0], both[1]


def bootstrapped(rng: np.random.Generator, one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of the hierarchical bootstrap."""
    seeds, subjects = one.shape
    chosen = rng.integers(subjects, size=(RESAMPLES, subjects))
    means = [
        each[rng.integers(seeds, size=(RESAMPLES, seeds))[:, :, None], chosen[:, None, :]].mean(axis=(1, 2))
        for each in (one, two)
    ]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="number of trials; a quarter of it of the bootstrap")
    trials = parser.parse_args().trials
    print(f"{'n':>3}{'seeds':>7}{'effect':>8}{'Estimate':>12}{'averaged':>16}{'bootstrap':>16}")
    for subjects in SUBJECTS:
        for seeds in SEEDS:
            for effect in EFFECTS:
                rng = np.random.default_rng(7)
                found: list[list[tuple[float, float]]] = [[], [], []]
                for trial in range(trials):
                    one, two = draw(rng, subjects, seeds, effect)
                    ours = Estimate.of(one.tolist(), two.tolist()).summary
                    averaged = Estimate.of([one.mean(axis=0).tolist()], [two.mean(axis=0).tolist()]).summary
                    found[0].append((ours.low, ours.high))
                    found[1].append((averaged.low, averaged.high))
                    if trial < trials // 4:
                        found[2].append(bootstrapped(rng, one, two))
                line = f"{subjects:>3}{seeds:>7}{effect:>8}"
                ends = [np.array(each).T for each in found]
                unit = np.median(ends[0][1] - ends[0][0])
                for place, (low, high) in enumerate(ends):
                    share = float(np.mean((low > 0) | (high < 0)))
                    line += f"{f'{share:.3f}' + '*' * (share > TOO_MANY):>{9 if place else 12}}"
                    line += f" ({np.median(high - low) / unit:.2f})" if place else ""
                print(line, flush=True)


if __name__ == "__main__":
    main()
