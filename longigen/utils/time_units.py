"""Times of visits: their units, and the one text that tells them apart in noise seeds and file names."""

from typing import TYPE_CHECKING

from longigen.errors import LongigenError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

TIME_UNITS = ("years", "months", "weeks", "days", "hours", "seconds", "cycle", "frames", "index")
"""Units of visit times: ``cycle`` is a fraction of the cardiac cycle, ``frames`` and ``index`` are counts."""

COUNT_UNITS = ("frames", "index")
"""The units of images whose times are not known: they count 0, 1, 2, …"""


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


def time_text(time: "float | np.floating") -> str:
    """Return a time as the shortest decimal that reads back as exactly this number in its own precision.

    Different times have different texts. Those of up to six significant digits are written as by ``:g``, such as 2.2.
    """
    short = f"{time:.6g}"
    return short if type(time)(short) == time else str(time).removesuffix(".0")
