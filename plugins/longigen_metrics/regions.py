"""Metrics of regions: overlap, volume, change of volume, and ejection fraction."""

import math

from torch import Tensor

from longigen import RegionMasks, RegionMetric

VENTRICLES = ("left ventricle", "right ventricle")
"""The regions that eject blood."""


class Dice(RegionMetric):
    """Overlap of the region in the generated visit with the true one, from 0 to 1; NaN if both are empty."""

    higher_is_better = True

    @property
    def definition(self) -> str:
        return f"Dice of the region '{self.region}': 2 |A and B| / (|A| + |B|) of the generated and the true visit"

    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        if generated.visit is None or true.visit is None:
            return math.nan
        size = _voxels(generated.visit) + _voxels(true.visit)
        return 2 * _voxels(generated.visit & true.visit) / size if size else math.nan


class VolumeError(RegionMetric):
    """Error of the region's volume, in percent of the true volume; NaN if the true region is empty."""

    higher_is_better = False

    @property
    def definition(self) -> str:
        return f"volume of the region '{self.region}': 100 |generated - true| / true"

    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        if generated.visit is None or true.visit is None or not _voxels(true.visit):
            return math.nan
        return 100 * abs(_voxels(generated.visit) / _voxels(true.visit) - 1)


class VolumeChangeError(RegionMetric):
    """Error of the change of the region's volume since the last given visit, in percent of the volume at that visit.

    Both volumes of a change are measured in one way: those of the generated change by the segmenter, in which an error
    that it makes at every visit cancels, and those of the true change in the true label maps. NaN if the region is
    empty at the last given visit.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            f"change of the volume of the region '{self.region}' since the last given visit, in percent of the volume "
            "there: |generated - true|, both volumes of the generated change by the segmenter"
        )

    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        return abs(
            _change(generated.previous, generated.visit) - _change(true.previous, true.visit)
        )  # NaN where one of them is


class EjectionFractionError(RegionMetric):
    """Error of the ejection fraction, in percentage points.

    It is the fraction of the ventricle's volume at the subject's first visit, end diastole, that has left at the scored
    visit; at the last visit of a series that ends at end systole it is the ejection fraction of the heart. Volumes are
    measured as for `VolumeChangeError`. It is made for the ventricles of the heart unless a region is chosen.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            f"ejection fraction of the region '{self.region}', 100 (1 - volume / volume at the first visit): "
            "|generated - true|, both volumes of the generated one by the segmenter"
        )

    def covers(self, region: str) -> bool:
        return region in VENTRICLES

    def of_region(self, generated: RegionMasks, true: RegionMasks) -> float:
        return abs(_change(generated.first, generated.visit) - _change(true.first, true.visit))


def _voxels(mask: Tensor) -> int:
    return int(mask.sum())


def _change(before: Tensor | None, after: Tensor | None) -> float:
    """Return the change of a volume in percent of the volume before; NaN if a mask is not known or empty before."""
    if before is None or after is None or not _voxels(before):
        return math.nan
    return 100 * (_voxels(after) / _voxels(before) - 1)
