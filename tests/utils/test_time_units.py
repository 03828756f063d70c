"""Tests of time units."""

import pytest

from longigen import TIME_UNITS, LongigenError, time_unit


def test_every_unit_is_accepted() -> None:
    assert [time_unit(name) for name in TIME_UNITS] == list(TIME_UNITS)


def test_unknown_unit_is_refused_with_a_suggestion() -> None:
    with pytest.raises(LongigenError, match=r"visits\.csv.*'year'.*Did you mean 'years'"):
        time_unit("year", "visits.csv, column time")
