"""Times of visits: their units, conversion, and the one text that tells them apart in noise seeds and file names."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from longigen.errors import LongigenError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

SECONDS: Mapping[str, float] = {
    "years": 365.25 * 86_400,
    "months": 365.25 * 86_400 / 12,
    "weeks": 7 * 86_400,
    "days": 86_400,
    "hours": 3_600,
    "minutes": 60,
    "seconds": 1,
    "milliseconds": 0.001,
}
"""The units that can be converted to each other, from long to short, and how many seconds each has."""

COUNT_UNITS = ("frames", "index")
"""The units of images whose times are not known: they count 0, 1, 2, …"""

TIME_UNITS = (*SECONDS, "cycle", *COUNT_UNITS)
"""Units of visit times: ``cycle`` is a fraction of the cardiac cycle, ``frames`` and ``index`` are counts."""


def time_unit(name: str, where: str = "") -> str:
    """Return `name` if it is one of `TIME_UNITS`.

    Args:
        name: the name of a unit.
        where: where the name was read, for the message, such as a file and a column.

    Raises:
        LongigenError: if `name` is not a unit of time.
    """
    if name not in TIME_UNITS:
        start = f"{where}: there" if where else "There"
        raise LongigenError(
            f"{start} is no time unit '{name}'.{did_you_mean(name, TIME_UNITS)} Choose one of: {', '.join(TIME_UNITS)}."
        )
    return name


def time_factor(unit: str, other: str) -> float | None:
    """Return the number by which times in one unit are multiplied to be in another; None if it is not known.

    A year has 365.25 days, and 12 months. A cycle is as long as each subject's, and counts have no length.
    """
    if unit == other:
        return 1.0
    return SECONDS[unit] / SECONDS[other] if unit in SECONDS and other in SECONDS else None


def conversion_text(unit: str, other: str) -> str:
    """Return how two units of `SECONDS` are converted, such as ``1 year is 365.25 days``."""
    long, short = sorted((unit, other), key=lambda each: -SECONDS[each])
    return f"1 {long.removesuffix('s')} is {SECONDS[long] / SECONDS[short]:g} {short}"


def time_text(time: "float | np.floating") -> str:
    """Return a time as the shortest decimal that reads back as exactly this number in its own precision.

    Different times have different texts. Those of up to six significant digits are written as by ``:g``, such as 2.2.
    """
    short = f"{time:.6g}"
    return short if type(time)(short) == time else str(time).removesuffix(".0")
