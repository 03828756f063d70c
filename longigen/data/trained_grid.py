"""`TrainedGrid`: a model's grid in its training subjects: the size of its voxels, and what lay outside of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from nibabel.affines import voxel_sizes

from longigen.components.ranges import Probability, VoxelSizes
from longigen.data.open_dataset import recorded_subjects

if TYPE_CHECKING:
    from longigen.data.preprocess import Prepared

VOXEL_TOLERANCE = 0.05
"""Voxel sizes that differ by a smaller share are taken as equal."""


@dataclass(frozen=True)
class TrainedGrid:
    """A model's grid in its training subjects, recorded with the model.

    Where the preprocessing has no spacing, the size of the grid's voxels is each subject's own, so that a model cannot
    tell from its preprocessing at which size it was trained.

    Attributes:
        smallest: size of the grid's voxels in mm; the smallest of all training subjects along each axis.
        median: the median along each axis.
        largest: the largest along each axis.
        outside: the largest share of a training subject's foreground that lay outside of the grid, from 0 to 1; see
            `Prepared.outside`.
    """

    smallest: VoxelSizes
    median: VoxelSizes
    largest: VoxelSizes
    outside: Probability = 0.0

    @classmethod
    def of(cls, subjects: Sequence["Prepared"]) -> Self:
        """Return the grid in subjects, of which there is at least one; their first visits are read, or in the cache."""
        sizes = [tuple(voxel_sizes(prepared.placement.affine).tolist()) for prepared in subjects]
        return cls.of_sizes(sizes, max(prepared.outside for prepared in subjects))

    @classmethod
    def of_sizes(cls, sizes: Sequence[Sequence[float]], outside: float = 0.0) -> Self:
        """Return the grid whose voxels have these sizes in mm, three for each of N ≥ 1 subjects."""
        smallest, median, largest = (reduce(sizes, axis=0).tolist() for reduce in (np.min, np.median, np.max))
        return cls(_rounded(smallest), _rounded(median), _rounded(largest), round(outside, 4))

    @classmethod
    def recorded(cls, data: Mapping[str, Any]) -> Self:
        """Return what `record` wrote into the section ``data`` of a model's configuration."""
        smallest, median, largest = (_rounded(size) for size in data["voxels"])
        return cls(smallest, median, largest, float(data.get("outside", 0.0)))

    @classmethod
    def of_simulation(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the grid with the voxels of the data that a model's section ``data`` names, if they are simulated."""
        config = data.get("parameters")
        known = config if isinstance(config, Mapping) else {}
        subjects = recorded_subjects(str(data.get("name")), known, str(data.get("fingerprint")))
        return cls.of_sizes([subject.visits[0].spacing for subject in subjects]) if subjects else None

    @property
    def record(self) -> dict[str, Any]:
        """What `recorded` reads: three sizes of voxels, in mm, and the largest share outside."""
        return {"voxels": [[*self.smallest], [*self.median], [*self.largest]], "outside": self.outside}

    def contains(self, size: Sequence[float], tolerance: float = VOXEL_TOLERANCE) -> bool:
        """Return whether voxels of a size in mm are within the trained ones, give or take a share of them."""
        return all(
            low / (1 + tolerance) <= own <= high * (1 + tolerance)
            for own, low, high in zip(size, self.smallest, self.largest, strict=True)
        )


def _rounded(size: Sequence[float]) -> VoxelSizes:
    width, height, depth = (round(float(step), 4) for step in size)
    return width, height, depth
