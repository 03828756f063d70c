"""The volumes that metrics compare: a generated visit, the true one and the last given one, on one grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from torch import Tensor

from longigen.data.grid import on_grid_of
from longigen.data.intensity import IntensityRange, foreground_mask
from longigen.data.volume import Volume
from longigen.models.predict import Generated

Space = Literal["subject", "model", "stored"]

UNIT = IntensityRange(0.0, 1.0)
"""The range of intensities of images that are compared as they are stored."""

COARSE, THIN = 2.0, 3
"""A blurred copy is not blurred along an axis whose voxels are more than `COARSE` times as long as the shortest, or are
fewer than those of the longest axis over `THIN`: headers of some stacks of thick slices say that voxels are cubes."""


@dataclass(frozen=True)
class Comparison:
    """One visit, as generated and as it was, on one grid with axes in RAS order.

    Attributes:
        generated: K samples of the visit (K, C, W, H, D), in model intensities.
        true: the true visit (C, W, H, D).
        previous: the last given visit (C, W, H, D).
        first: the subject's first visit (C, W, H, D).
        affine: from voxels of the grid to mm (4, 4).
        intensity: the intensities that are -1 and 1 here.
    """

    generated: Tensor
    true: Tensor
    previous: Tensor
    first: Tensor
    affine: np.ndarray
    intensity: IntensityRange

    @classmethod
    def of(cls, samples: Sequence[Generated], index: int, space: Space, *, grid: int | None = None) -> Self:
        """Return the volumes of a generated visit, by its index among the targets of its task.

        Args:
            samples: K samples of the same task.
            index: of the visit.
            space: ``subject`` for the last given visit's own voxel grid: that visit as it is stored, the true visit
                (interpolated only if its grid is another), and the generated visit as it is written for a user, all
                scaled by the subject's intensity range and not clipped; ``stored`` for the same, of images whose data
                set stores intensities from 0 to 1, scaled by that range; ``model`` for the model's grid.
            grid: index, among the subject's visits, of the visit whose voxel grid it is in the subject's space, to
                compare several visits on one; by default the last given visit.
        """
        if space == "model":
            return cls._on_model_grid(samples, index)
        return cls._in_subject_space(samples, index, grid, UNIT if space == "stored" else None)

    @classmethod
    def _on_model_grid(cls, samples: Sequence[Generated], index: int) -> Self:
        first = samples[0]
        prepared = first.prepared
        return cls(
            torch.stack([sample.images[index] for sample in samples]),
            first.true(index),
            prepared.visit(first.given_before(index)),
            prepared.visit(0),
            prepared.placement.affine,
            prepared.range_of(first.given_before(index)),
        )

    @classmethod
    def _in_subject_space(
        cls, samples: Sequence[Generated], index: int, grid: int | None, fixed: IntensityRange | None
    ) -> Self:
        first = samples[0]
        prepared, reference, target = first.prepared, first.given_before(index), first.task.targets[index]
        place = reference if grid is None else grid
        # In this order, so that the last given visit is read once for itself and for all samples.
        true, start, placed, previous = (prepared.own(visit) for visit in (target, 0, place, reference))

        def scaled(volume: Volume, visit: int) -> Tensor:
            intensity = fixed or prepared.range_of(visit)
            data = on_grid_of(volume, placed, intensity.low).data
            return torch.from_numpy(np.ascontiguousarray(intensity.to_unclipped(data)))[None]

        return cls(
            torch.stack([scaled(sample.volume(index), reference) for sample in samples]),
            scaled(true, target),
            scaled(previous, reference),
            scaled(start, 0),
            on_grid_of(placed, placed, 0.0).affine,
            prepared.range_of(reference),
        )

    @cached_property
    def foreground(self) -> Tensor:
        """The foreground of the subject's first visit (W, H, D), bool."""
        return foreground_mask(self.first)

    def volume(self, image: Tensor) -> Volume:
        """Return one of these images (C, W, H, D) as a volume in the intensities of the subject's last given visit."""
        return Volume(self.intensity.to_subject(image[0].numpy()), self.affine)

    def blurred(self, sigma: float) -> Tensor:
        """Return the last given visit, smoothed by a Gaussian (C, W, H, D), not along axes of thick slices.

        Args:
            sigma: standard deviation of the Gaussian, in voxels.
        """
        from scipy.ndimage import gaussian_filter  # slow to import

        spacing = voxel_sizes(self.affine)
        finest, longest = min(spacing), max(self.previous.shape[1:])
        sigmas = [
            sigma if step <= COARSE * finest and THIN * size >= longest else 0.0
            for step, size in zip(spacing, self.previous.shape[1:], strict=True)
        ]
        return torch.from_numpy(gaussian_filter(self.previous.numpy(), (0.0, *sigmas), mode="nearest"))
