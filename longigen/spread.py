"""The spread of samples: their mean and standard deviation, as they come."""

import math

import numpy as np


class Moments:
    """The mean and standard deviation of arrays that are seen one at a time (Welford, Technometrics 1962).

    After K arrays x_k: mean_K = mean_{K-1} + (x_K - mean_{K-1}) / K, and the sum of squares grows by
    (x_K - mean_{K-1}) (x_K - mean_K), so neither the arrays nor the difference of two large sums is needed.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, array: np.ndarray) -> None:
        """See one more array, of the same shape as those before."""
        values = array.astype(np.float64)
        if not self.count:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        self.count += 1
        before = values - self._mean
        self._mean += before / self.count
        self._squares += before * (values - self._mean)

    @property
    def mean(self) -> np.ndarray:
        """The mean, float32."""
        return self._mean.astype(np.float32)

    @property
    def std(self) -> np.ndarray:
        """The standard deviation with the divisor K - 1, float32; K must be at least 2."""
        if self.count < 2:
            raise ValueError(f"a standard deviation needs two arrays, got {self.count}")
        return np.sqrt(self._squares / (self.count - 1)).astype(np.float32)


def caution(samples: int, steps: int, widest: float = math.inf) -> str | None:
    """Return a sentence where the spread of samples is no uncertainty, or None.

    Args:
        samples: of each visit.
        steps: network evaluations per visit.
        widest: the largest standard deviation of all voxels.
    """
    if samples < 2:
        return None
    if widest == 0:
        return (
            f"Caution: the {samples} samples of each visit are identical, since nothing in this model is drawn at "
            "random; a standard deviation of 0 does not mean that it is certain."
        )
    if steps == 1:
        return (
            "Caution: one network evaluation per visit gives about the mean of what may come and not a draw, so the "
            f"spread of the {samples} samples is no uncertainty; take more with --steps."
        )
    return None
