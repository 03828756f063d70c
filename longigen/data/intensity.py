"""A subject's intensity range, and its foreground."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from longigen.components.visit_sequence import BACKGROUND
from longigen.data.issues import BadData, Finding

FOREGROUND = 0.05
"""A voxel is foreground where the first visit is above background by this much, in model intensities."""


@dataclass(frozen=True)
class IntensityRange:
    """The intensities that become -1 and 1, the same for all visits of a subject.

    One range per visit would hide what changed between visits. It is taken from the subject's first visit, the one
    that is given in every setting: a range over all visits would tell generation something about its target.
    """

    low: float
    high: float

    @classmethod
    def of(cls, array: np.ndarray, *, lower: float, upper: float, source: str, subject: str) -> Self:
        """Take two percentiles of a visit, a subject's first as a rule.

        Args:
            array: the visit's voxels, as they were read, in any shape.
            lower: percentile that becomes -1.
            upper: percentile that becomes 1.
            source: what to call the visit in a message.
            subject: whose it is, for the message.

        Raises:
            BadData: if both percentiles are one intensity.
        """
        low, high = (float(value) for value in np.percentile(array, (lower, upper)))
        if not low < high:
            extent = "everywhere" if array.min() == array.max() else "almost everywhere"
            problem = (
                f"has one intensity {extent} ({low:g} is its percentile {lower:g} and {upper:g}), so it has no range"
            )
            raise BadData(Finding("constant", source, problem, "replace it, or remove the visit", subject))
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


def foreground_of(first: Tensor) -> Tensor:
    """Return the foreground (W, H, D), bool, of a subject's first visit (C, W, H, D); all of it where there is none."""
    mask = (first > BACKGROUND + FOREGROUND).any(dim=0)
    return mask if bool(mask.any()) else torch.ones_like(mask)
