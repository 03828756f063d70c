"""A subject's intensity range."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from longigen.errors import LongigenError


@dataclass(frozen=True)
class IntensityRange:
    """The intensities that become -1 and 1, the same for all visits of a subject.

    One range per visit would hide what changed between visits. It is taken from the subject's first visit, the one
    that is given in every setting: a range over all visits would tell generation something about its target.
    """

    low: float
    high: float

    @classmethod
    def of(cls, array: np.ndarray, *, lower: float, upper: float, source: str) -> Self:
        """Take two percentiles of a subject's first visit.

        Args:
            array: the visit's voxels, as they were read, in any shape.
            lower: percentile that becomes -1.
            upper: percentile that becomes 1.
            source: what to call the visit in a message: its file and its subject.

        Raises:
            LongigenError: if both percentiles are one intensity.
        """
        low, high = (float(value) for value in np.percentile(array, (lower, upper)))
        if not low < high:
            extent = "everywhere" if array.min() == array.max() else "almost everywhere"
            raise LongigenError(
                f"{source} has one intensity {extent} ({low:g} is its percentile {lower:g} and {upper:g}), so it has "
                "no range; replace it, or remove the visit."
            )
        return cls(low, high)

    def to_model(self, array: np.ndarray) -> np.ndarray:
        """Return intensities in [-1, 1], float32; those outside the range are clipped."""
        scaled = (array.astype(np.float32, copy=False) - np.float32(self.low)) * np.float32(
            2.0 / (self.high - self.low)
        )
        return np.clip(scaled - 1, -1, 1)

    def to_subject(self, array: np.ndarray) -> np.ndarray:
        """Return intensities on the subject's own scale, float32."""
        half = np.float32((self.high - self.low) / 2)
        return (array.astype(np.float32, copy=False) + 1) * half + np.float32(self.low)
