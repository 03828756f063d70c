"""`Range`: the allowed values of a number, declared in its annotation; and common ranges, such as `Probability`."""

import math
from dataclasses import dataclass, field
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The range of allowed values of a number: ``Annotated[float, Range(0, 1)]``.

    A limit that is not given is infinite. NaN and the infinities are in no range.

    Args:
        low: smallest allowed value.
        high: largest allowed value.
        above: exclusive lower limit, instead of `low`.
        below: exclusive upper limit, instead of `high`.

    Raises:
        ValueError: if no limit is given, a limit is given twice, or the range is empty.
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
        """Return whether a number is in the range."""
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
            return f"from {_number_text(self.low)} to {_number_text(self.high)}"
        words = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {_number_text(end)}" for word, end in words.items() if end is not None)

    def of(self, noun: str) -> str:
        """Return a noun and the range, for messages: ``a number from 0 to 1``, ``numbers of at least 1``."""
        return f"{noun} of {self}" if str(self).startswith("at ") else f"{noun} {self}"


def _number_text(end: float) -> str:
    return str(end) if isinstance(end, int) else f"{end:g}"


Channels = Annotated[int, Range(1, 64)]
"""Number of channels of a volume."""

Count = Annotated[int, Range(1)]
"""A positive number of items."""

Evaluations = Annotated[int, Range(1, 100_000)]
"""Network evaluations per visit."""

GuidanceWeight = Annotated[float, Range(0, 1000)]
"""The weight w of classifier-free guidance."""

LogSNR = Annotated[float, Range(-60, 60)]
"""λ at an end of the cosine schedule; double precision cannot represent larger values accurately."""

NoiseLevels = tuple[LogSNR, LogSNR]
"""An interval of noise levels: the lowest and the highest λ."""

Percentile = Annotated[float, Range(0, 100)]

Probability = Annotated[float, Range(0, 1)]

Scale = Annotated[float, Range(1e-12, 1e12)]
"""A divisor, such as a standard deviation."""

Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A random seed, as NumPy and torch accept it."""

VoxelSize = Annotated[float, Range(0.001, 1000)]
"""Size of a voxel in mm."""

VoxelSizes = tuple[VoxelSize, VoxelSize, VoxelSize]
"""Size of a voxel in mm along the three axes."""

Voxels = Annotated[int, Range(1, 100_000)]
"""Number of voxels along one axis of a grid."""

MAX_GRID_VOXELS = 2**28
"""The most voxels of a grid; a volume on it then takes 1 GiB."""

GridSize = Annotated[int, Range(0, 100_000)]
"""Number of voxels along one axis of a grid, or 0 for as many as each subject has."""

Millimetres = Annotated[float, Range(0, 10_000)]
"""Length of one axis of a box in mm, or 0 for as much as each subject has."""
