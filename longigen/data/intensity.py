"""Scale a subject's intensities to [-1, 1] by the range of its first visit; find padding values and the foreground."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from longigen.components.visit_sequence import BACKGROUND
from longigen.data.issues import BadData, Finding
from longigen.data.volume import Volume

FOREGROUND = 0.05
"""A voxel is foreground if the first visit is brighter than background by more than this, in model intensities."""

LEAST_SPAN, LARGEST_SPAN = 1e-30, 1e30
"""Intensity ranges beyond these overflow when they are scaled in float32."""

PADDING_GAP, PADDING_SHARE, PADDING_LEVELS = 4, 0.001, 16
"""A value is padding if it is further from all others than this many times their range, and has at least this share of
the voxels; and if the others have at least so many levels, since a label mask has no padding."""


@dataclass(frozen=True)
class Padding:
    """A value that stands for voxels outside of the scanner's field of view.

    Attributes:
        value: the value: the lowest of all, and negative, or the highest.
        share: the share of voxels that have it.
        low: the lowest of the other intensities.
        high: the highest of the other intensities.
    """

    value: float
    share: float
    low: float
    high: float

    @classmethod
    def find(cls, data: np.ndarray) -> "Padding | None":
        """Return the padding of a volume's intensities, in any shape; None if there is none."""
        for value, sign in ((float(data.min()), -1), (float(data.max()), 1)):
            if sign * value <= 0:
                continue
            others = data[data != value]
            share = 1 - others.size / data.size
            if not others.size or share < PADDING_SHARE:
                continue
            low, high = float(others.min()), float(others.max())
            gap = low - value if sign < 0 else value - high
            levels = len(np.unique(others[:: 1 + others.size // 10**5])) if gap > PADDING_GAP * (high - low) else 0
            if levels >= PADDING_LEVELS:
                return cls(value, share, low, high)
        return None


def without_padding(volume: Volume) -> Volume:
    """Return a volume with the darkest other intensity in the place of a padding value, if it has one."""
    padding = Padding.find(volume.data)
    if padding is None:
        return volume
    return replace(volume, data=np.where(volume.data == padding.value, np.float32(padding.low), volume.data))


@dataclass(frozen=True)
class IntensityRange:
    """The intensities that are mapped to -1 and 1, the same for all visits of a subject.

    A range per visit would hide changes of intensity between visits. The range is that of the subject's first visit,
    which the model is given in every scenario: a range over all visits would leak information on the target.
    """

    low: float
    high: float

    @classmethod
    def from_percentiles(cls, array: np.ndarray, *, lower: float, upper: float, source: str, subject: str) -> Self:
        """Compute the range from two percentiles of a visit, usually a subject's first.

        Args:
            array: the visit's intensities as stored in the file, in any shape.
            lower: percentile that is mapped to -1.
            upper: percentile that is mapped to 1.
            source: name of the visit in messages.
            subject: id of the subject, for messages.

        Raises:
            BadData: if both percentiles are the same intensity, or too close or too far apart for float32.
        """
        low, high = (float(value) for value in np.percentile(array, (lower, upper)))
        if not low < high:
            extent = "everywhere" if array.min() == array.max() else "almost everywhere"
            problem = (
                f"has the same intensity {extent} (percentiles {lower:g} and {upper:g} are both {low:g}), so it has no "
                "intensity range"
            )
            raise BadData(Finding("constant", source, problem, "replace it, or remove the visit", subject))
        if not LEAST_SPAN < high - low < LARGEST_SPAN:
            problem = f"has intensities from {low:g} to {high:g}, which cannot be scaled in 32-bit numbers"
            advice = "correct the slope in its header (scl_slope), or rescale it"
            raise BadData(Finding("extreme-range", source, problem, advice, subject))
        return cls(low, high)

    def to_model(self, array: np.ndarray) -> np.ndarray:
        """Map intensities to [-1, 1], float32; values outside the range are clipped."""
        return np.clip(self.to_unclipped(array), -1, 1)

    def to_unclipped(self, array: np.ndarray) -> np.ndarray:
        """Map the range to [-1, 1], float32; values outside the range stay outside."""
        scaled = (array.astype(np.float32, copy=False) - np.float32(self.low)) * np.float32(
            2.0 / (self.high - self.low)
        )
        return scaled - 1

    def to_subject(self, array: np.ndarray) -> np.ndarray:
        """Map model intensities back to the subject's intensity scale, float32."""
        half = np.float32((self.high - self.low) / 2)
        return (array.astype(np.float32, copy=False) + 1) * half + np.float32(self.low)


def foreground_mask(first: Tensor) -> Tensor:
    """Return the foreground (W, H, D), bool, of a subject's first visit (C, W, H, D); all voxels if it is empty."""
    mask = (first > BACKGROUND + FOREGROUND).any(dim=0)
    return mask if bool(mask.any()) else torch.ones_like(mask)
