"""Means with 95 % intervals, against closed forms."""

import json
import math

import numpy as np
import pytest

from longigen.utils.intervals import Summary


def test_a_summary_of_equal_values_has_no_width() -> None:
    assert Summary.bootstrap([0.75] * 9) == Summary(0.75, 0.75, 0.75, 9)
    assert Summary.bootstrap([3.0]) == Summary(3.0, 3.0, 3.0, 1)


def test_the_interval_is_that_of_the_bootstrap_distribution() -> None:
    # Of {0, 1}, two draws have the mean 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.
    assert Summary.bootstrap([0.0, 1.0]) == Summary(0.5, 0.0, 1.0, 2)
    # Of one 1 and nine 0, ten draws hold Binomial(10, 0.1) ones: P(0) = 0.349, P(≤ 2) = 0.930, P(≤ 3) = 0.987.
    summary = Summary.bootstrap([1.0] + [0.0] * 9)
    assert (summary.mean, summary.low, summary.high) == pytest.approx((0.1, 0.0, 0.3))


def test_the_interval_of_normal_values_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    summary = Summary.bootstrap(values.tolist())
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert summary.mean == pytest.approx(values.mean())
    assert summary.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert Summary.bootstrap(values.tolist()) == summary


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_defined_or_infinite() -> None:
    assert Summary.bootstrap([1.0, math.nan, 1.0]) == Summary(1.0, 1.0, 1.0, 2)
    for nothing in ([], [math.nan]):
        assert Summary.bootstrap(nothing).to_dict() == {"mean": None, "low": None, "high": None, "subjects": 0}
    perfect = Summary.bootstrap([math.inf, math.inf])
    assert perfect == Summary(math.inf, math.inf, math.inf, 2)
    assert json.loads(json.dumps(perfect.to_dict(), allow_nan=False))["mean"] is None
    assert (Summary.bootstrap([math.inf, 1.0]).low, Summary.bootstrap([math.inf, 1.0]).high) == (1.0, math.inf)
