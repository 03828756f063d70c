"""One grid for all visits of a subject, and the one interpolation that brings each visit onto it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes

from longigen.data.volume import MAX_VOXELS, Volume
from longigen.errors import LongigenError
from longigen.preparation.images import sitk_image, volume_of
from longigen.preparation.rigid import to_itk

if TYPE_CHECKING:
    from SimpleITK import Image

MARGIN = 3
"""Voxels around what is kept, where the image has so many."""

FWHM = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


@dataclass(frozen=True, eq=False)
class MidwayGrid:
    """A grid in the space midway between the visits of a subject, with axes in RAS order.

    Attributes:
        affine: (4, 4), voxel index to mm.
        shape: (W, H, D).
    """

    affine: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls, visits: Sequence[Volume], transforms: Sequence[np.ndarray], spacing: tuple[float, float, float]
    ) -> "MidwayGrid":
        """Return the grid that holds all voxels of all visits.

        Args:
            visits: volumes in their own spaces.
            transforms: for each the transform (4, 4) to the space midway.
            spacing: size of the voxels in mm.

        Raises:
            LongigenError: if it has too many voxels.
        """
        corners = []
        for visit, transform in zip(visits, transforms, strict=True):
            ends = np.array([(0, size) for size in visit.data.shape], dtype=np.float64) - 0.5
            places = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
            corners.append(apply_affine(transform @ visit.affine, places))
        low, high = np.concatenate(corners).min(axis=0), np.concatenate(corners).max(axis=0)
        sizes = np.maximum(1, np.rint((high - low) / spacing).astype(int))
        if int(np.prod(sizes.astype(object))) > MAX_VOXELS:
            raise LongigenError(
                f"Voxels of {' × '.join(f'{size:g}' for size in spacing)} mm are too many for its images "
                f"({' × '.join(map(str, sizes))}); give larger ones with --spacing."
            )
        first = (low + high - (sizes - 1) * spacing) / 2
        width, height, depth = (int(size) for size in sizes)
        return cls(from_matvec(np.diag(spacing), first), (width, height, depth))

    def cropped(self, keep: np.ndarray) -> tuple["MidwayGrid", tuple[slice, slice, slice]]:
        """Return the part of the grid around the voxels to keep (W, H, D), with `MARGIN` voxels, and where it is."""
        parts = []
        for axis in range(3):
            used = np.flatnonzero(keep.any(axis=tuple(other for other in range(3) if other != axis)))
            parts.append(slice(max(int(used[0]) - MARGIN, 0), min(int(used[-1]) + 1 + MARGIN, keep.shape[axis])))
        first, second, third = parts
        affine = self.affine @ from_matvec(np.eye(3), [float(part.start) for part in parts])
        shape = (first.stop - first.start, second.stop - second.start, third.stop - third.start)
        return MidwayGrid(affine, shape), (first, second, third)

    def image_of(self, visit: Volume, transform: np.ndarray) -> Volume:
        """Return an image on the grid, by one interpolation with cubic B-splines; 0 outside of the image.

        Where the grid's voxels are r > 1 times as large as the image's, the image is smoothed before by a Gaussian with
        a FWHM of √(r² - 1) of its voxels (Cardoso et al., MICCAI 2015), so that it is sampled without aliasing.
        Splines overshoot at edges; values outside of the image's own range are set to its ends.

        Args:
            visit: the image in its own space.
            transform: its transform (4, 4) to the space midway.
        """
        import SimpleITK as sitk
        from scipy.ndimage import gaussian_filter

        axes = np.linalg.inv(transform @ visit.affine) @ self.affine
        ratio = np.maximum(np.linalg.norm(axes[:3, :3], axis=1), 1.0)
        smooth = gaussian_filter(visit.data, np.sqrt(ratio**2 - 1) / FWHM, mode="nearest")
        resampled = self._resampled(replace(visit, data=smooth), transform, sitk.sitkBSpline)
        data = np.clip(resampled.data, min(0.0, float(visit.data.min())), float(visit.data.max()))
        return replace(resampled, data=data)

    def labels_of(self, labels: Volume, transform: np.ndarray) -> Volume:
        """Return a label map or a mask on the grid: each voxel has the nearest one's label, and 0 outside."""
        import SimpleITK as sitk

        return self._resampled(labels, transform, sitk.sitkNearestNeighbor)

    def inside(self, visit: Volume, transform: np.ndarray) -> np.ndarray:
        """Return which voxels (W, H, D) of the grid are inside of the field of view of a visit, as booleans."""
        return self.labels_of(replace(visit, data=np.ones_like(visit.data)), transform).data > 0

    def _resampled(self, volume: Volume, transform: np.ndarray, interpolator: int) -> Volume:
        import SimpleITK as sitk

        grid: Image = sitk_image(Volume(np.zeros(self.shape, dtype=np.float32), self.affine))
        back = to_itk(np.linalg.inv(transform))
        return volume_of(sitk.Resample(sitk_image(volume), grid, back, interpolator, 0.0), self.affine)


def common_spacing(sizes: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Return the median size of voxels along each axis of RAS, in mm and to a thousandth.

    Args:
        sizes: the size of the voxels of each visit of all subjects.
    """
    first, second, third = (round(float(size), 3) for size in np.median(np.array(sizes), axis=0))
    return first, second, third


def coarsest(visits: Sequence[Volume]) -> float:
    """Return how many times as large a voxel of one visit is as one of another, along the axis where it is largest."""
    sizes = np.array([voxel_sizes(visit.affine) for visit in visits])
    return float((sizes.max(axis=0) / sizes.min(axis=0)).max())
