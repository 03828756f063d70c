"""Means with 95 % intervals, against closed forms."""

import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from longigen.utils.intervals import Summary


def test_a_summary_of_equal_values_has_no_width() -> None:
    assert Summary.of([0.75] * 9) == Summary(0.75, 0.75, 0.75, 9)
    assert Summary.of([0.1, 0.1, 0.1]).high == pytest.approx(0.1)  # whose mean is rounded


def test_without_skewness_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 6.0, 7.0]
    interval = ttest_1samp(values, 0.0).confidence_interval()  # type: ignore[attr-defined]
    summary = Summary.of(values)
    assert (summary.mean, summary.low, summary.high) == pytest.approx((4.0, interval.low, interval.high))


def test_the_interval_reaches_to_the_side_of_the_tail() -> None:
    values = [0.0, 0.1, 0.2, 0.3, 2.0]
    summary, mirrored = Summary.of(values), Summary.of([-value for value in values])
    assert summary.high - summary.mean > 2 * (summary.mean - summary.low)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((summary.low, summary.high))


@pytest.mark.parametrize("count", [5, 8, 11])
@pytest.mark.parametrize(("draw", "expected"), [("normal", 0.0), ("gamma", 4.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_intervals_hold_the_expected_value_in_95_of_100_trials(
    draw: str, expected: float, sign: int, count: int
) -> None:
    rng = np.random.default_rng(7)
    trials = sign * (rng.normal(size=(4000, count)) if draw == "normal" else rng.gamma(4, size=(4000, count)))
    inside = [summary.low <= sign * expected <= summary.high for summary in map(Summary.of, trials.tolist())]
    assert 0.93 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [1.0, 2.0, math.nan]])
def test_there_is_no_interval_below_three_subjects(values: list[float]) -> None:
    for summary in (Summary.of(values), Summary.jackknife(1.0, values[:2])):
        assert math.isnan(summary.low)
        assert math.isnan(summary.high)
        assert "[" not in summary.cell()
    assert not math.isnan(Summary.of([1.0, 2.0, 3.0]).low)


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_defined_or_infinite() -> None:
    assert Summary.of([1.0, math.nan, 1.0, 1.0]) == Summary(1.0, 1.0, 1.0, 3)
    for nothing in ([], [math.nan]):
        assert Summary.of(nothing).to_dict() == {"mean": None, "low": None, "high": None, "subjects": 0}
    perfect = Summary.of([math.inf] * 4)
    assert (perfect.mean, perfect.subjects, perfect.cell()) == (math.inf, 4, "inf")
    assert json.loads(json.dumps(perfect.to_dict(), allow_nan=False))["mean"] is None
    assert math.isnan(Summary.of([math.inf, 1.0, 2.0]).low)
