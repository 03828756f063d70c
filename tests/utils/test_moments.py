"""Running mean and standard deviation."""

import numpy as np
import pytest

from longigen.utils.moments import Moments


def test_moments_are_mean_and_std_of_all_arrays() -> None:
    arrays = np.random.default_rng(0).normal(1e4, 1e-2, (7, 3, 4, 5))
    moments = Moments()
    for array in arrays:
        moments.add(array)
    np.testing.assert_allclose(moments.mean, arrays.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(moments.std, arrays.std(axis=0, ddof=1), rtol=1e-6)
    with pytest.raises(ValueError, match="two arrays"):
        _ = Moments().std
