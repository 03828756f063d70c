"""Ranges: which numbers a parameter may have, declared in its annotation."""

import math
from dataclasses import dataclass, field
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The numbers that a parameter may have: ``Annotated[float, Range(0, 1)]``.

    An end that is not given is open. NaN and the infinities are in no range.

    Args:
        low: the smallest number that is allowed.
        high: the largest number that is allowed.
        above: instead of `low`, a number that must be exceeded.
        below: instead of `high`, a number that must not be reached.

    Raises:
        ValueError: if no end is given, an end is given twice, or no number lies between the two.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = field(default=None, kw_only=True)
    below: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        lowest = [end for end in (self.low, self.above) if end is not None]
        highest = [end for end in (self.high, self.below) if end is not None]
        if len(lowest) > 1 or len(highest) > 1 or not lowest + highest:
            raise ValueError("a range has one end or two: low or above, high or below")
        if lowest and highest and not (lowest < highest or (self.low is not None and self.low == self.high)):
            raise ValueError(f"no number is {self}")

    def __contains__(self, number: float) -> bool:
        """Say whether a number lies in the range."""
        if isinstance(number, float) and not math.isfinite(number):
            return False
        return (
            (self.low is None or self.low <= number)
            and (self.high is None or number <= self.high)
            and (self.above is None or self.above < number)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        """Return the range in words: ``from 0 to 1``, ``at least 1``, ``above 0``."""
        if self.low is not None and self.high is not None:
            return f"from {_plain(self.low)} to {_plain(self.high)}"
        words = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {_plain(end)}" for word, end in words.items() if end is not None)

    def of(self, noun: str) -> str:
        """Return what must lie in the range, and the range: ``a number from 0 to 1``, ``numbers of at least 1``."""
        return f"{noun} of {self}" if str(self).startswith("at ") else f"{noun} {self}"


def _plain(end: float) -> str:
    return str(end) if isinstance(end, int) else f"{end:g}"


Channels = Annotated[int, Range(1, 64)]
"""Channels of a volume."""

Count = Annotated[int, Range(1)]
"""How many of something there are, or are done at a time."""

Evaluations = Annotated[int, Range(1, 100_000)]
"""Network evaluations per visit."""

GuidanceWeight = Annotated[float, Range(0, 1000)]
"""w of classifier-free guidance."""

LogSNR = Annotated[float, Range(-60, 60)]
"""λ at an end of the cosine schedule; beyond, double precision does not tell it from the next number."""

Percentile = Annotated[float, Range(0, 100)]

Probability = Annotated[float, Range(0, 1)]

Scale = Annotated[float, Range(1e-12, 1e12)]
"""What other numbers are divided by."""

Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A random seed, such as numpy and torch take."""

VoxelSize = Annotated[float, Range(0.001, 1000)]
"""In millimetres."""

Voxels = Annotated[int, Range(1, 100_000)]
"""Along one axis of a grid."""
