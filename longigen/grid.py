"""The model's grid, and its place in a subject's space."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from longigen.dataset import Subject
from longigen.errors import LongigenError
from longigen.volume import Volume, canonical_shape

ALIGNED = 1e-3
"""Two grids whose voxels lie within this fraction of a voxel of each other are the same grid, shifted."""

RAS = axcodes2ornt("RAS")


@dataclass(frozen=True)
class Grid:
    """The grid of a model.

    Attributes:
        shape: (W, H, D), in RAS order.
        spacing: of the voxels, in millimetres; None keeps each subject's own voxels, which are then only cropped and
            padded.

    Raises:
        LongigenError: if a number is not positive.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(size >= 1 for size in self.shape):
            raise LongigenError(f"The grid's shape must be three positive numbers of voxels, got {self.shape}.")
        if self.spacing is not None and not (
            len(self.spacing) == 3 and all(math.isfinite(step) and step > 0 for step in self.spacing)
        ):
            raise LongigenError(f"The grid's spacing must be three positive numbers of mm, got {self.spacing}.")

    @classmethod
    def default(cls, subjects: Sequence[Subject]) -> Self:
        """Return the smallest grid of the subjects' own voxels that holds every visit (`Visit.shape`, in RAS order)."""
        shapes = [visit.shape for subject in subjects for visit in subject.visits]
        if not shapes:
            raise LongigenError("There is no subject, so there is no grid to choose; give a data set with visits.")
        width, height, depth = (max(sizes) for sizes in zip(*shapes, strict=True))
        return cls((width, height, depth))


@dataclass(frozen=True, eq=False)
class Placement:
    """A subject's model grid in the world, made from the subject's first visit.

    The model's axes are the visit's own, in RAS order: its directions are kept, since turning it to the scanner's axes
    would interpolate every visit for nothing. The centre of the grid is the centre of the visit's field of view. Along
    an axis on which the model has the visit's own spacing, voxels fall on voxels (for an odd difference of sizes, half
    a voxel off the centre), so that cropping and padding lose nothing.

    Attributes:
        shape: (W, H, D) of the model's grid.
        affine: (4, 4), from the model's grid to the world.
        own_shape: of the first visit, as it was read.
        own_affine: of the first visit, as it was read.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    own_shape: tuple[int, int, int]
    own_affine: np.ndarray

    @classmethod
    def of(cls, first: Volume, grid: Grid) -> Self:
        """Place a grid in the space of a subject's first visit."""
        canonical = _canonical(first)
        own = voxel_sizes(canonical.affine)
        step = np.ones(3) if grid.spacing is None else np.divide(grid.spacing, own)
        kept = np.isclose(step, 1.0, rtol=ALIGNED)
        step = np.where(kept, 1.0, step)
        shape, size = np.array(grid.shape), np.array(canonical.data.shape)
        start = np.where(kept, (size - shape) // 2, (size - 1) / 2 - step * (shape - 1) / 2)
        affine = canonical.affine @ from_matvec(np.diag(step), start)
        return cls(grid.shape, affine, _shape(first.data), first.affine.copy())

    def to_model(self, volume: Volume, fill: float, source: str) -> np.ndarray:
        """Return any visit of the subject on the model's grid, (W, H, D) float32, with `fill` outside what it shows.

        A visit whose voxels fall on the grid's is cropped and padded, exactly; any other is resampled in the world.

        Args:
            volume: the visit.
            fill: the intensity of what the visit does not show.
            source: what to call the visit in a message: its file and its subject.

        Raises:
            LongigenError: if the visit shows nothing of what the first visit shows inside the model's grid.
        """
        canonical = _canonical(volume)
        self._check_overlap(canonical, source)
        return _regridded(canonical, self.affine, self.shape, fill)

    def to_subject(self, array: np.ndarray, fill: float) -> Volume:
        """Return a volume (W, H, D) of the model on the first visit's own grid: its shape, axes and affine.

        It is the exact inverse of `to_model`, voxel by voxel, where that only cropped and padded. What the model's grid
        does not cover is set to `fill`.

        Raises:
            ValueError: if `array` is not of the model's shape.
        """
        if array.shape != self.shape:
            raise ValueError(f"the model's grid is {self.shape}, got a volume of {array.shape}")
        own = io_orientation(self.own_affine)
        affine = self.own_affine @ inv_ornt_aff(own, self.own_shape)
        shape = canonical_shape(self.own_affine, self.own_shape)
        data = _regridded(Volume(array, self.affine), affine, shape, fill)
        data = apply_orientation(data, ornt_transform(RAS, own))
        return Volume(np.ascontiguousarray(data), self.own_affine.copy())

    def _check_overlap(self, volume: Volume, source: str) -> None:
        """Compare the visit's field of view, as a box along the model's axes, with what grid and first visit share."""
        inverse = np.linalg.inv(self.affine)
        first = _field_of_view(self.own_shape, inverse @ self.own_affine)
        grid = _field_of_view(self.shape, np.eye(4))
        visit = _field_of_view(_shape(volume.data), inverse @ volume.affine)
        low = np.max([first[0], grid[0], visit[0]], axis=0)
        high = np.min([first[1], grid[1], visit[1]], axis=0)
        if not (low < high).all():
            raise LongigenError(
                f"{source} shows no part of what the subject's first visit shows on the model's grid; register the "
                "visits to each other, or correct the affine."
            )


def _canonical(volume: Volume) -> Volume:
    """Return a volume with its axes flipped and permuted to RAS, as `nibabel.as_closest_canonical` does."""
    orientation = io_orientation(volume.affine)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.data.shape)
    return Volume(apply_orientation(volume.data, orientation), affine)


def _regridded(volume: Volume, affine: np.ndarray, shape: tuple[int, int, int], fill: float) -> np.ndarray:
    """Return a volume on another grid, float32: cropped and padded where the voxels coincide, resampled elsewhere."""
    mapping = np.linalg.inv(volume.affine) @ affine  # from the voxels asked for to the volume's
    start = np.rint(mapping[:3, 3])
    ends = _corners(np.zeros(3), np.array(shape) - 1)
    if np.abs(apply_affine(mapping, ends) - (ends + start)).max() < ALIGNED:
        return _cropped(volume.data, start.astype(int), shape, fill)
    return _resampled(volume, affine, shape, mapping, fill)


def _cropped(data: np.ndarray, start: np.ndarray, shape: tuple[int, int, int], fill: float) -> np.ndarray:
    """Return `data[start : start + shape]`, where voxels outside `data` are `fill`."""
    result = np.full(shape, fill, dtype=np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + shape, data.shape)
    if (low < high).all():
        inside = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
        result[inside] = data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return result


def _resampled(
    volume: Volume, affine: np.ndarray, shape: tuple[int, int, int], mapping: np.ndarray, fill: float
) -> np.ndarray:
    """Interpolate linearly; going to voxels more than 1.5 times as large, smooth first against aliasing.

    The filter widens the old voxel to the new one: a Gaussian whose FWHM is √(r² - 1) old voxels for r times as large
    ones (Cardoso et al., Scale factor point spread function matching, MICCAI 2015). Below 1.5, linear interpolation
    itself smooths as much.
    """
    from nilearn.image import resample_img, smooth_img  # slow to import

    image = volume.image
    ratio = np.linalg.norm(mapping[:3, :3], axis=1)
    if (ratio > 1.5).any():
        width = np.where(ratio > 1.5, np.sqrt(np.maximum(ratio**2 - 1, 0.0)), 0.0)
        image = smooth_img(image, tuple(width * voxel_sizes(volume.affine)))
    # A voxel reaches half a voxel beyond its centre, but interpolation ends at the centres. Repeating the rim keeps a
    # frame of `fill` out of the result, and gives an image of one slice a thickness.
    padded = Volume(np.pad(np.asarray(image.dataobj), 1, mode="edge"), volume.affine @ from_matvec(np.eye(3), [-1] * 3))
    result = resample_img(
        padded.image,
        target_affine=affine,
        target_shape=shape,
        interpolation="linear",
        fill_value=fill,
        clip=False,
        copy_header=True,
        force_resample=True,
    )
    return np.ascontiguousarray(result.dataobj, dtype=np.float32)


def _field_of_view(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest coordinates of a grid's outer edges, mapped by `affine`."""
    corners = apply_affine(affine, _corners(np.full(3, -0.5), np.array(shape) - 0.5))
    return corners.min(axis=0), corners.max(axis=0)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def _shape(array: np.ndarray) -> tuple[int, int, int]:
    width, height, depth = array.shape
    return width, height, depth
