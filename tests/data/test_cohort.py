"""Tests of the residual statistics of a cohort's training part."""

import numpy as np
import pytest

from longigen.data.statistics import fit_residual_variance


def test_residual_variance_fit_recovers_parameters() -> None:
    """Mean squares s² + (p Δ)² give s and p, also if one of them is 0."""
    gaps = np.array([1.0, 1.0, 2.0, 3.0, 5.0])
    for still, pace in ((0.02, 0.05), (0.0, 0.1), (0.3, 0.0)):
        found = fit_residual_variance(gaps, still**2 + (pace * gaps) ** 2)
        assert found == pytest.approx((still, pace), abs=1e-6)


def test_equal_gaps_give_the_standard_deviation() -> None:
    still, pace = fit_residual_variance(np.full(4, 2.0), np.full(4, 0.09))
    assert still**2 + (2 * pace) ** 2 == pytest.approx(0.09)
