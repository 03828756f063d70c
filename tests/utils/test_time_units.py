"""Tests of time units."""

import numpy as np
import pytest

from longigen import COUNT_UNITS, TIME_UNITS, LongigenError, time_unit
from longigen.utils.time_units import conversion_text, time_factor, time_text


def test_every_unit_is_accepted() -> None:
    assert [time_unit(name) for name in TIME_UNITS] == list(TIME_UNITS)


def test_unknown_unit_is_refused_with_a_suggestion() -> None:
    with pytest.raises(LongigenError, match=r"visits\.csv.*'year'.*Did you mean 'years'"):
        time_unit("year", "visits.csv, column time")


@pytest.mark.parametrize(
    ("unit", "other", "factor", "text"),
    [
        ("days", "years", 1 / 365.25, "1 year is 365.25 days"),
        ("years", "months", 12, "1 year is 12 months"),
        ("weeks", "days", 7, "1 week is 7 days"),
        ("milliseconds", "seconds", 1e-3, "1 second is 1000 milliseconds"),
        ("hours", "minutes", 60, "1 hour is 60 minutes"),
    ],
)
def test_known_units_are_converted(unit: str, other: str, factor: float, text: str) -> None:
    assert time_factor(unit, other) == pytest.approx(factor, rel=1e-12)
    assert conversion_text(unit, other) == conversion_text(other, unit) == text


@pytest.mark.parametrize("unit", [*COUNT_UNITS, "cycle"])
def test_counts_and_cycles_have_no_length(unit: str) -> None:
    assert time_factor(unit, "years") is time_factor("seconds", unit) is None
    assert time_factor(unit, unit) == 1


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (2.2, "2.2"),
        (np.float32(2.2), "2.2"),  # as a model reads it
        (3, "3"),
        (1e-7, "1e-07"),
        (738010.1, "738010.1"),
        (np.float32(738010.1), "738010.1"),
        (20200101.0, "20200101"),
        (1 / 3, "0.3333333333333333"),
    ],
)
def test_the_text_of_a_time_is_exact(time: float, text: str) -> None:
    assert time_text(time) == text
    assert type(time)(time_text(time)) == time


def test_two_times_have_two_texts_and_short_ones_are_as_before() -> None:
    draw = np.random.default_rng(0)
    times = (draw.standard_normal(500) * 10.0 ** draw.integers(-6, 9, 500)).astype(np.float32)
    for time in times:
        assert time_text(time) != time_text(np.nextafter(time, np.float32(0)))
        short = float(f"{time:.6g}")
        assert time_text(short) == time_text(np.float32(short)) == f"{short:.6g}"
