"""The units of time that a data set's visit times may have."""

from longigen.errors import LongigenError, did_you_mean

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
