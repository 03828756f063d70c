"""Running mean and standard deviation of arrays (Welford's algorithm)."""

import numpy as np


class Moments:
    """The mean and standard deviation of arrays that are added one at a time (Welford, Technometrics 1962).

    After K arrays x_k: mean_K = mean_{K-1} + (x_K - mean_{K-1}) / K, and the sum of squared deviations grows by
    (x_K - mean_{K-1}) (x_K - mean_K). So the arrays are not stored, and no large sums are subtracted.
    """

    def __init__(self) -> None:
        self.count: int = 0

    def add(self, array: np.ndarray) -> None:
        """Include one more array, of the same shape as the others."""
        values = array.astype(np.float64)
        if not self.count:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        self.count += 1
        deviation = values - self._mean
        self._mean += deviation / self.count
        self._squares += deviation * (values - self._mean)

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
