"""Units of time."""

from longigen.errors import LongigenError, did_you_mean

TIME_UNITS = ("years", "months", "weeks", "days", "hours", "seconds", "cycle", "frames", "index")
"""What a data set's times may be in. A ``cycle`` is a fraction of the heart's, ``frames`` and ``index`` count."""


def time_unit(name: str, where: str = "") -> str:
    """Return `name` if it is a unit of time.

    Args:
        name: of the unit.
        where: it was said, for the message: a file and a column.

    Raises:
        LongigenError: if it is none.
    """
    if name not in TIME_UNITS:
        place = f"{where}: there" if where else "There"
        raise LongigenError(
            f"{place} is no time unit '{name}'.{did_you_mean(name, TIME_UNITS)} There is: {', '.join(TIME_UNITS)}."
        )
    return name
