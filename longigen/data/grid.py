"""The model's grid, and its place in a subject's space."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from longigen.data.dataset import Subject
from longigen.data.issues import BadData, Finding
from longigen.data.volume import Volume, canonical_shape
from longigen.errors import LongigenError

ALIGNED = 1e-3
"""Two grids whose voxels lie within this fraction of a voxel of each other are the same grid, shifted."""

RAS = axcodes2ornt("RAS")

BRIGHT, SPECKS = 0.1, 0.01
"""The foreground: voxels above this share of the intensity range, in pieces of at least this share of the largest."""

Box = Literal["image", "foreground"]
Fit = Literal["crop", "resize"]


@dataclass(frozen=True)
class Grid:
    """The grid of a model.

    Attributes:
        shape: (W, H, D), in RAS order.
        spacing: of the voxels, in millimetres; None keeps each subject's own voxels, which are then only cropped and
            padded.
        box: what the grid is centred on: the first visit's whole field of view, or the box around its foreground.
        fit: ``crop`` cuts off or pads what differs from the box; ``resize`` stretches the box to the shape, each axis
            on its own, so that voxels differ in size between subjects.

    Raises:
        LongigenError: if a number is not positive, or a spacing is given with ``resize``, which chooses it.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None = None
    box: Box = "image"
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(size >= 1 for size in self.shape):
            raise LongigenError(f"The grid's shape must be three positive numbers of voxels, got {self.shape}.")
        if self.spacing is not None and not (
            len(self.spacing) == 3 and all(math.isfinite(step) and step > 0 for step in self.spacing)
        ):
            raise LongigenError(f"The grid's spacing must be three positive numbers of mm, got {self.spacing}.")
        if self.spacing is not None and self.fit == "resize":
            raise LongigenError("The grid's spacing follows from its shape with fit=resize; leave spacing out.")

    @classmethod
    def default(cls, subjects: Sequence[Subject], spacing: tuple[float, float, float] | None = None) -> Self:
        """Return the smallest grid that holds every visit, in the subjects' own voxels or in those of a spacing."""
        visits = [visit for subject in subjects for visit in subject.visits]
        if not visits:
            raise LongigenError("There is no subject, so there is no grid to choose; give a data set with visits.")
        shapes = [visit.shape for visit in visits]
        if spacing is not None:
            cls((1, 1, 1), spacing)  # refuses what is not positive
            shapes = [_extent(visit.shape, visit.spacing, spacing) for visit in visits]
        width, height, depth = (max(sizes) for sizes in zip(*shapes, strict=True))
        return cls((width, height, depth), spacing)


@dataclass(frozen=True, eq=False)
class Placement:
    """A subject's model grid in the world, made from the subject's first visit.

    The model's axes are the visit's own, in RAS order: its directions are kept, since turning it to the scanner's axes
    would interpolate every visit for nothing. The centre of the grid is that of the visit's field of view, or of its
    foreground. Along an axis on which the model has the visit's own spacing, voxels fall on voxels (for an odd
    difference of sizes, half a voxel off the centre), so that cropping and padding lose nothing. Resampling, cropping
    and padding are one step: a visit is interpolated once at most.

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
        shape, size = np.array(grid.shape), np.array(canonical.data.shape)
        low, high = (np.zeros(3, int), size) if grid.box == "image" else _foreground(canonical.data)
        step = np.ones(3) if grid.spacing is None else np.divide(grid.spacing, own)
        step = (high - low) / shape if grid.fit == "resize" else step
        kept = np.isclose(step, 1.0, rtol=ALIGNED)
        step = np.where(kept, 1.0, step)
        start = np.where(kept, low + (high - low - shape) // 2, (low + high - 1) / 2 - step * (shape - 1) / 2)
        affine = canonical.affine @ from_matvec(np.diag(step), start)
        return cls(grid.shape, affine, _shape(first.data), first.affine.copy())

    def to_model(self, volume: Volume, fill: float, source: str, subject: str) -> np.ndarray:
        """Return any visit of the subject on the model's grid, (W, H, D) float32, with `fill` outside what it shows.

        A visit whose voxels fall on the grid's is cropped and padded, exactly; any other is resampled in the world.

        Args:
            volume: the visit.
            fill: the intensity of what the visit does not show.
            source: what to call the visit in a message.
            subject: whose it is, for the message.

        Raises:
            BadData: if the visit shows nothing of what the first visit shows inside the model's grid.
        """
        canonical = _canonical(volume)
        self._check_overlap(canonical, source, subject)
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

    def _check_overlap(self, volume: Volume, source: str, subject: str) -> None:
        """Compare the visit's field of view, as a box along the model's axes, with what grid and first visit share."""
        inverse = np.linalg.inv(self.affine)
        first = _field_of_view(self.own_shape, inverse @ self.own_affine)
        grid = _field_of_view(self.shape, np.eye(4))
        visit = _field_of_view(_shape(volume.data), inverse @ volume.affine)
        low = np.max([first[0], grid[0], visit[0]], axis=0)
        high = np.min([first[1], grid[1], visit[1]], axis=0)
        if not (low < high).all():
            problem = "shows no part of what the subject's first visit shows on the model's grid"
            advice = "register the visits to each other, or correct the affine"
            raise BadData(Finding("no-overlap", source, problem, advice, subject))


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


def _foreground(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and one past the last voxel, along each axis, of the box around the bright part of a volume."""
    from scipy import ndimage  # slow to import

    low, high = np.percentile(data, (0.1, 99.9))
    pieces = np.empty(data.shape, dtype=np.int32)
    ndimage.label(data > low + BRIGHT * (high - low), output=pieces)
    if not pieces.any():
        return np.zeros(3, int), np.array(data.shape)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # what is not bright
    places = np.argwhere((sizes >= max(1, SPECKS * sizes.max()))[pieces])
    return places.min(axis=0), places.max(axis=0) + 1


def _extent(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], target: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Return how many voxels of another size cover a grid."""
    width, height, depth = (
        math.ceil(round(size * own / step, 3)) for size, own, step in zip(shape, spacing, target, strict=True)
    )
    return width, height, depth


def _field_of_view(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest coordinates of a grid's outer edges, mapped by `affine`."""
    corners = apply_affine(affine, _corners(np.full(3, -0.5), np.array(shape) - 0.5))
    return corners.min(axis=0), corners.max(axis=0)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def _shape(array: np.ndarray) -> tuple[int, int, int]:
    width, height, depth = array.shape
    return width, height, depth
