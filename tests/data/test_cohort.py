"""What a cohort measures of its training part."""

import numpy as np
import pytest

from longigen.data.statistics import growth


def test_the_residuals_growth_is_found_again() -> None:
    """Mean squares that are s² + (p Δ)² give s and p; of none of either, none is found."""
    gaps = np.array([1.0, 1.0, 2.0, 3.0, 5.0])
    for still, pace in ((0.02, 0.05), (0.0, 0.1), (0.3, 0.0)):
        found = growth(gaps, still**2 + (pace * gaps) ** 2)
        assert found == pytest.approx((still, pace), abs=1e-6)


def test_where_all_gaps_are_one_the_scale_is_their_deviation() -> None:
    still, pace = growth(np.full(4, 2.0), np.full(4, 0.09))
    assert still**2 + (2 * pace) ** 2 == pytest.approx(0.09)
