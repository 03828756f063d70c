"""Means with 95 % intervals, against closed forms."""

import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from longigen.utils.intervals import Estimate, Summary, holm


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


def test_one_seed_without_skewness_is_the_paired_t_test() -> None:
    one, two = [3.0, 5.0, 4.0, 9.0, 8.0], [2.0, 3.0, 0.0, 3.0, 1.0]  # differences 1, 2, 4, 6, 7
    found, expected = Estimate.of([one], [two]), ttest_rel(one, two)
    interval = expected.confidence_interval()  # type: ignore[attr-defined]
    assert found.p == pytest.approx(expected.pvalue)  # type: ignore[attr-defined]
    assert (found.summary.low, found.summary.high) == pytest.approx((interval.low, interval.high))
    assert found.effect == pytest.approx(4.0 / np.std([1, 2, 4, 6, 7], ddof=1) * (1 - 3 / 15))
    assert (found.higher, found.lower, found.subjects) == (5, 0, 5)
    assert Estimate.of([two], [one]).p == pytest.approx(found.p)


def test_a_mean_over_subjects_and_seeds_has_the_variance_of_its_mean_squares() -> None:
    values = np.array([[1.0, 4.0, 2.0, 7.0], [2.0, 6.0, 4.0, 8.0], [4.0, 6.0, 7.0, 9.0]])  # 3 seeds, 4 subjects
    seeds, subjects, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_subjects = 3 * ((subjects - mean) ** 2).sum() / 3
    of_seeds = 4 * ((seeds - mean) ** 2).sum() / 2
    of_rest = ((values - subjects - seeds[:, None] + mean) ** 2).sum() / 6
    found = Estimate.of(values.tolist())
    assert found.mean == pytest.approx(mean)
    assert found.error**2 == pytest.approx((of_subjects + of_seeds - of_rest) / 12)
    freedom = (of_subjects + of_seeds - of_rest) ** 2 / (of_subjects**2 / 3 + of_seeds**2 / 2 + of_rest**2 / 6)
    assert found.freedom == pytest.approx(freedom)
    both = Estimate.of(values.tolist(), values[:, ::-1].tolist())  # each method has its own seeds
    assert both.error**2 > 2 * (of_seeds - of_rest) / 12


def test_what_seeds_hardly_add_has_the_degrees_of_freedom_of_few_seeds_and_no_fewer() -> None:
    """Two methods of 3 seeds and 10 subjects, whose seeds differ by just more than the rest explains."""
    rest = np.outer([1.0, -1.0, 0.0], [1.0, -1.0] * 5)
    of_rest = (rest**2).sum() / 18  # its mean square; a row of seeds with this variance over 10 adds nothing
    seeds = np.sqrt(1.001 * of_rest / 10) * np.array([[1.0], [0.0], [-1.0]])
    found = Estimate.of((rest + seeds).tolist(), (rest[::-1] - seeds + 0.5).tolist())
    terms = [(1.001 * of_rest / 30, 2), (of_rest / 30, 18)] * 2
    bare = found.error**4 / sum(term**2 / freedom for term, freedom in terms)
    assert bare < 0.01  # Satterthwaite's, whose interval would have no end
    assert found.freedom == 2
    assert -0.6 < found.summary.low < -0.5 < found.summary.high < -0.4


def test_subjects_and_seeds_without_a_value_or_a_difference() -> None:
    assert Estimate.of([[1.0, math.nan, 2.0, 4.0]], [[0.0, 1.0, 1.0, math.nan]]).subjects == 2
    assert math.isnan(Estimate.of([[1.0, 2.0]], [[0.0, 1.0]]).p)
    equal = Estimate.of([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]])
    assert (equal.mean, equal.p, equal.summary.low, equal.summary.high) == (0.0, 1.0, 0.0, 0.0)
    assert math.isnan(equal.effect)
    infinite = Estimate.of([[math.inf, 2.0, 3.0]], [[math.inf, 2.0, 3.0]])
    assert math.isnan(infinite.p)
    twice = Estimate.of([[1.0, 2.0, 4.0]] * 2)  # a method without randomness: the seeds add nothing
    assert twice == Estimate.of([[1.0, 2.0, 4.0]])


def test_a_p_value_is_below_5_percent_where_the_interval_excludes_0() -> None:
    rng = np.random.default_rng(3)
    shifts = np.linspace(-1, 1, 200)
    found = [Estimate.of((rng.gamma(2, size=(2, 8)) - 2 + shift).tolist()) for shift in shifts]
    excluded = [each.summary.low > 0 or each.summary.high < 0 for each in found]
    assert excluded == [each.p < 0.05 for each in found]
    assert 20 < sum(excluded) < 180


@pytest.mark.parametrize(("subjects", "seeds", "effect"), [(20, 3, 0.3), (20, 2, 1.0), (6, 5, 0.0)])
def test_two_equal_methods_are_called_different_in_5_of_100_trials_whatever_their_seeds_do(
    subjects: int, seeds: int, effect: float
) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(600):
        shared = rng.normal(size=subjects)
        one, two = (
            shared + effect * rng.normal(size=(seeds, 1)) + 0.4 * rng.normal(size=(seeds, subjects)) for _ in range(2)
        )
        found.append(Estimate.of(one.tolist(), two.tolist()).p < 0.05)
    assert np.mean(found) < 0.07


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm([]) == []
