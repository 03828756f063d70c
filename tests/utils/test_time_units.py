"""Units of time."""

import pytest

from longigen import TIME_UNITS, LongigenError, time_unit


def test_every_unit_is_one() -> None:
    assert [time_unit(name) for name in TIME_UNITS] == list(TIME_UNITS)


def test_another_is_refused_with_the_nearest() -> None:
    with pytest.raises(LongigenError, match=r"visits\.csv.*'year'.*Did you mean 'years'"):
        time_unit("year", "visits.csv, column time")
