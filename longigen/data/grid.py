"""The model's voxel grid, and its placement in a subject's space: cropping, padding, resampling and the inverse."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeVar

import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from longigen.components.ranges import MAX_GRID_VOXELS
from longigen.data.dataset import Subject
from longigen.data.issues import BadData, Finding
from longigen.data.volume import SCANNER, Volume, canonical_shape
from longigen.errors import LongigenError

ALIGNMENT_TOLERANCE = 1e-3
"""Two grids are aligned (one is the other, shifted by whole voxels) if they match to this fraction of a voxel."""

RAS = axcodes2ornt("RAS")

FOREGROUND_INTENSITY, MIN_COMPONENT_SIZE = 0.1, 0.01
"""The foreground: voxels above the first share of the intensity range, in connected components of at least the second
share of the largest one."""

STEP_VOXELS, STEP = 32, 4
"""A size that follows from an extent and the subject's own voxels is a multiple of the second from the first on, so
that subjects whose voxels hardly differ have the same shape and can share a batch."""

Number = TypeVar("Number", int, float)

Box = Literal["image", "foreground"]
Fit = Literal["crop", "resize"]


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a model.

    Attributes:
        shape: (W, H, D), in RAS order. A size of 0 is each subject's own: as many voxels as its box has along that
            axis, so that the shape differs between subjects (see `shape_of`).
        spacing: size of the voxels in mm; None keeps each subject's voxel size, so that volumes are only cropped and
            padded.
        box: what the grid is centred on: the first visit's whole ``image``, or the bounding box of its ``foreground``.
        fit: ``crop`` crops and pads the box to the shape; ``resize`` stretches the box to the shape along each axis
            separately, so that the voxel size differs between subjects.
        extent: (W, H, D) in mm of a box around the middle, for axes whose size is 0; None or 0 takes all of the
            subject's box along an axis. Without a `spacing` the number of voxels follows from the subject's own ones.

    Raises:
        LongigenError: if a number is not allowed, a spacing or a size of 0 is given with ``resize``, or an extent is
            given with a shape.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None = None
    box: Box = "image"
    fit: Fit = "crop"
    extent: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(size >= 0 for size in self.shape):
            raise LongigenError(
                "The grid's shape must be three numbers of voxels, 0 for as many as each subject has, got "
                f"{self.shape}."
            )
        _require_possible(self.shape)
        if self.fit == "resize" and not all(self.shape):
            raise LongigenError(
                "With fit=resize the grid needs a size along each axis; a size of 0 and an extent need fit=crop."
            )
        if self.extent is not None and any(self.shape):
            raise LongigenError(
                "The grid's shape follows from its extent in mm; give only one of the two, the other as null."
            )
        if self.extent is not None and not (
            len(self.extent) == 3 and all(math.isfinite(length) and length >= 0 for length in self.extent)
        ):
            raise LongigenError(f"The grid's extent must be three lengths in mm, 0 for all, got {self.extent}.")
        if self.spacing is not None and not (
            len(self.spacing) == 3 and all(math.isfinite(step) and step > 0 for step in self.spacing)
        ):
            raise LongigenError(f"The grid's spacing must be three positive numbers of mm, got {self.spacing}.")
        if self.spacing is not None and self.fit == "resize":
            raise LongigenError("The grid's spacing follows from its shape with fit=resize; leave spacing out.")

    @classmethod
    def default(cls, subjects: Sequence[Subject], spacing: tuple[float, float, float] | None = None) -> Self:
        """Return the smallest grid that contains every visit, with the subjects' voxel size or a given spacing."""
        visits = [visit for subject in subjects for visit in subject.visits]
        if not visits:
            raise LongigenError(
                "The grid cannot be chosen, because there are no visits; give a data set that has some."
            )
        shapes = [visit.shape for visit in visits]
        if spacing is not None:
            cls((1, 1, 1), spacing)  # refuses a spacing that is not positive
            shapes = [_covering_shape(visit.shape, visit.spacing, spacing) for visit in visits]
        width, height, depth = (max(sizes) for sizes in zip(*shapes, strict=True))
        return cls((width, height, depth), spacing)

    def shape_of(self, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return the grid's shape for one subject.

        Along an axis of size 0, the grid covers the subject's box, or `extent` mm around its middle. An extent is
        divided by the voxel size, that of the grid or the subject's own, and rounded. With the subject's own voxels the
        number is rounded to a multiple of 4 if it is at least 32 (in plane, as a rule), so that subjects whose voxels
        hardly differ get one shape.

        Args:
            size: voxels of the subject's box along each axis, in RAS order.
            spacing: size of the subject's voxels in mm.
        """
        steps = self.spacing or spacing
        lengths = self.extent or (0.0, 0.0, 0.0)
        width, height, depth = (
            fixed or (_voxels(length, step, coarse=self.spacing is None) if length else whole)
            for fixed, length, step, whole in zip(
                self.shape, lengths, steps, _covering_shape(size, spacing, steps), strict=True
            )
        )
        _require_possible((width, height, depth))
        return width, height, depth


def _require_possible(shape: tuple[int, int, int]) -> None:
    """Raise a `LongigenError` for a grid that has more than `MAX_GRID_VOXELS`."""
    if math.prod(size or 1 for size in shape) > MAX_GRID_VOXELS:
        raise LongigenError(
            f"A grid of {' × '.join(map(str, shape))} has more than {MAX_GRID_VOXELS:,} voxels; give a smaller "
            "preprocess.shape or extent, or a larger spacing."
        )


@dataclass(frozen=True, eq=False)
class Placement:
    """The position of the model's grid in one subject's world space, computed from the subject's first visit.

    The grid's axes are those of the visit, permuted to RAS order. They are not rotated to the scanner's axes, which
    would interpolate every visit without need. The grid is centred on the visit's field of view, or on its foreground.
    Along an axis on which the grid has the visit's spacing, its voxels coincide with the visit's (for an odd difference
    of sizes it is half a voxel off-centre), so cropping and padding are lossless. Resampling, cropping and padding are
    one step: a visit is interpolated at most once.

    Attributes:
        shape: (W, H, D) of the model's grid in this subject.
        affine: (4, 4), from voxels of the model's grid to mm in world space.
        own_shape: shape of the first visit, as stored in its file.
        own_affine: affine of the first visit, as stored in its file.
        own_form: code of the first visit's space, as stored in its file (`Volume.form`).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    own_shape: tuple[int, int, int]
    own_affine: np.ndarray
    own_form: int = SCANNER

    @classmethod
    def from_first_visit(cls, first: Volume, grid: Grid) -> Self:
        """Place the model's grid in the space of a subject's first visit."""
        canonical = to_canonical(first)
        size, spacing = np.array(canonical.data.shape), voxel_sizes(canonical.affine)
        low, high = (np.zeros(3, int), size) if grid.box == "image" else _foreground_box(canonical.data)
        own = grid.shape_of(_triple((high - low).tolist()), _triple(spacing.tolist()))
        shape = np.array(own)
        step = np.ones(3) if grid.spacing is None else np.divide(grid.spacing, spacing)
        step = (high - low) / shape if grid.fit == "resize" else step
        same = np.isclose(step, 1.0, rtol=ALIGNMENT_TOLERANCE)
        step = np.where(same, 1.0, step)
        start = np.where(same, low + (high - low - shape) // 2, (low + high - 1) / 2 - step * (shape - 1) / 2)
        affine = canonical.affine @ from_matvec(np.diag(step), start)
        return cls(own, affine, _triple(first.data.shape), first.affine.copy(), first.form)

    def to_model(self, volume: Volume, fill: float | None, source: str, subject: str) -> np.ndarray:
        """Return a visit of the subject on the model's grid, (W, H, D) float32.

        If the visit's voxels coincide with the grid's, it is cropped and padded without interpolation; otherwise it is
        resampled in world space.

        Args:
            volume: the visit.
            fill: the intensity outside the visit's field of view; None repeats that of the nearest voxel inside.
            source: name of the visit in messages.
            subject: id of the subject, for messages.

        Raises:
            BadData: if the visit does not overlap with the part of the first visit that is inside the model's grid.
        """
        canonical = to_canonical(volume)
        self._check_overlap(canonical, source, subject)
        return _regrid(canonical, self.affine, self.shape, fill)

    def to_subject(self, array: np.ndarray, fill: float) -> Volume:
        """Return a volume (W, H, D) on the model's grid on the first visit's grid: its shape, axes and affine.

        It is the exact inverse of `to_model` if that only cropped and padded. Voxels outside the model's grid are set
        to `fill`.

        Raises:
            ValueError: if `array` does not have the shape of the model's grid.
        """
        return replace(self._to_grid(array, fill, self.own_affine, self.own_shape), form=self.own_form)

    def to_visit(self, array: np.ndarray, fill: float, visit: Volume) -> np.ndarray:
        """Return a volume (W, H, D) on the model's grid on the grid of any visit of the subject, as `to_subject`."""
        return self._to_grid(array, fill, visit.affine, _triple(visit.data.shape)).data

    def box_in(self, volume: Volume) -> tuple[tuple[int, int], ...]:
        """Return the range of a volume's voxels that lie in the model's grid, along each of the volume's axes.

        Returns:
            The first and one past the last voxel along each axis; equal where there is none. For a volume that is
            rotated to the model's grid, it is the smallest box that contains all such voxels.
        """
        low, high = _field_of_view(self.shape, np.linalg.inv(volume.affine) @ self.affine)
        shape = volume.data.shape[:3]
        first = np.clip(np.ceil(low - ALIGNMENT_TOLERANCE), 0, shape).astype(int)
        end = np.clip(np.floor(high + ALIGNMENT_TOLERANCE) + 1, first, shape).astype(int)
        return tuple(zip(first.tolist(), end.tolist(), strict=True))

    def _to_grid(
        self, array: np.ndarray, fill: float, own_affine: np.ndarray, own_shape: tuple[int, int, int]
    ) -> Volume:
        if array.shape != self.shape:
            raise ValueError(f"the model's grid is {self.shape}, got a volume of {array.shape}")
        own = io_orientation(own_affine)
        affine = own_affine @ inv_ornt_aff(own, own_shape)
        shape = canonical_shape(own_affine, own_shape)
        data = _regrid(Volume(array, self.affine), affine, shape, fill)
        data = apply_orientation(data, ornt_transform(RAS, own))
        return Volume(np.ascontiguousarray(data), own_affine.copy())

    def _check_overlap(self, volume: Volume, source: str, subject: str) -> None:
        """Check that the fields of view of grid, first visit and visit overlap, as boxes along the model's axes."""
        inverse = np.linalg.inv(self.affine)
        first = _field_of_view(self.own_shape, inverse @ self.own_affine)
        grid = _field_of_view(self.shape, np.eye(4))
        visit = _field_of_view(_triple(volume.data.shape), inverse @ volume.affine)
        low = np.max([first[0], grid[0], visit[0]], axis=0)
        high = np.min([first[1], grid[1], visit[1]], axis=0)
        if not (low < high).all():
            problem = "does not overlap with the subject's first visit on the model's grid"
            advice = "register the visits to each other, or correct the affine"
            raise BadData(Finding("no-overlap", source, problem, advice, subject))


def on_grid_of(volume: Volume, other: Volume, fill: float) -> Volume:
    """Return a volume on the grid of another one, with the axes in RAS order.

    It is not interpolated where the two grids are the same, but for flips, permutations and shifts by whole voxels.
    Voxels outside the volume are set to `fill`.
    """
    grid = to_canonical(other)
    return Volume(_regrid(to_canonical(volume), grid.affine, _triple(grid.data.shape), fill), grid.affine)


def labels_on_grid_of(labels: Volume, other: Volume) -> Volume:
    """Return a label map on the grid of another volume, as `on_grid_of`; each voxel gets the nearest one's label.

    Voxels outside the label map are 0.
    """
    grid = to_canonical(other)
    data = _regrid(to_canonical(labels), grid.affine, _triple(grid.data.shape), 0.0, nearest=True)
    return Volume(data, grid.affine)


def to_canonical(volume: Volume) -> Volume:
    """Return a volume with its axes flipped and permuted to RAS, as `nibabel.as_closest_canonical` does."""
    orientation = io_orientation(volume.affine)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.data.shape)
    return Volume(apply_orientation(volume.data, orientation), affine)


def _regrid(
    volume: Volume, affine: np.ndarray, shape: tuple[int, int, int], fill: float | None, *, nearest: bool = False
) -> np.ndarray:
    """Return a volume on another grid, float32: cropped and padded if the grids are aligned, resampled otherwise."""
    mapping = np.linalg.inv(volume.affine) @ affine  # from voxels of the new grid to voxels of the volume
    start = np.rint(mapping[:3, 3])
    ends = _corners(np.zeros(3), np.array(shape) - 1)
    if np.abs(apply_affine(mapping, ends) - (ends + start)).max() < ALIGNMENT_TOLERANCE:
        return _crop_and_pad(volume.data, start.astype(int), shape, fill)
    return _resample(volume, affine, shape, mapping, fill, nearest=nearest)


def _crop_and_pad(data: np.ndarray, start: np.ndarray, shape: tuple[int, int, int], fill: float | None) -> np.ndarray:
    """Return `data[start : start + shape]`, with `fill` (None: the nearest voxel's value) for voxels outside `data`."""
    if fill is None:
        places = [
            np.clip(np.arange(first, first + size), 0, own - 1)
            for first, size, own in zip(start, shape, data.shape, strict=True)
        ]
        return data[np.ix_(*places)].astype(np.float32)
    result = np.full(shape, fill, dtype=np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + shape, data.shape)
    if (low < high).all():
        inside = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
        result[inside] = data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return result


def _resample(
    volume: Volume,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    mapping: np.ndarray,
    fill: float | None,
    *,
    nearest: bool,
) -> np.ndarray:
    """Resample a volume linearly; if the new voxels are more than 1.5 times as large, smooth first against aliasing.

    With `nearest`, each new voxel has the value of the nearest old one, as labels need.

    For new voxels r times as large, the filter is a Gaussian with a FWHM of √(r² - 1) old voxels (Cardoso et al., Scale
    factor point spread function matching, MICCAI 2015). Below r = 1.5, linear interpolation itself smooths as much.
    """
    from nilearn.image import resample_img, smooth_img  # slow to import

    image = volume.image
    ratio = np.linalg.norm(mapping[:3, :3], axis=1)
    if (ratio > 1.5).any() and not nearest:
        width = np.where(ratio > 1.5, np.sqrt(np.maximum(ratio**2 - 1, 0.0)), 0.0)
        image = smooth_img(image, tuple(width * voxel_sizes(volume.affine)))
    # A voxel extends half a voxel beyond its centre, but interpolation ends at the centres. Repeating the outermost
    # voxels avoids a border of `fill`, and gives an image of one slice a thickness. Without a `fill` they are repeated
    # as far as the new grid reaches.
    before, after = np.ones(3, int), np.ones(3, int)
    if fill is None:
        ends = apply_affine(mapping, _corners(np.zeros(3), np.array(shape) - 1))
        before = np.maximum(1, np.ceil(-ends.min(axis=0))).astype(int)
        after = np.maximum(1, np.ceil(ends.max(axis=0) - (np.array(volume.data.shape) - 1))).astype(int)
    data = np.pad(np.asarray(image.dataobj), list(zip(before, after, strict=True)), mode="edge")
    padded = Volume(data, volume.affine @ from_matvec(np.eye(3), -before))
    result = resample_img(
        padded.image,
        target_affine=affine,
        target_shape=shape,
        interpolation="nearest" if nearest else "linear",
        fill_value=0.0 if fill is None else fill,  # nothing is outside then
        clip=False,
        copy_header=True,
        force_resample=True,
    )
    return np.ascontiguousarray(result.dataobj, dtype=np.float32)


def _foreground_box(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounding box of a volume's foreground: the first and one past the last voxel along each axis."""
    from scipy import ndimage  # slow to import

    low, high = np.percentile(data, (0.1, 99.9))
    labels = np.empty(data.shape, dtype=np.int32)
    ndimage.label(data > low + FOREGROUND_INTENSITY * (high - low), output=labels)
    if not labels.any():
        return np.zeros(3, int), np.array(data.shape)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0  # the background
    voxels = np.argwhere((sizes >= max(1, MIN_COMPONENT_SIZE * sizes.max()))[labels])
    return voxels.min(axis=0), voxels.max(axis=0) + 1


def _covering_shape(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], target: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Return the shape of a grid of spacing `target` that covers a grid of another spacing."""
    width, height, depth = (
        math.ceil(round(size * own / step, 3)) for size, own, step in zip(shape, spacing, target, strict=True)
    )
    return width, height, depth


def _field_of_view(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest coordinates of a grid's outer edges, after applying `affine`."""
    corners = apply_affine(affine, _corners(np.full(3, -0.5), np.array(shape) - 0.5))
    return corners.min(axis=0), corners.max(axis=0)


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def _voxels(length: float, step: float, *, coarse: bool) -> int:
    """Return how many voxels of `step` mm make up a length in mm, at least 1; see `Grid.shape_of`."""
    number = length / step
    return STEP * round(number / STEP) if coarse and number >= STEP_VOXELS else max(1, round(number))


def _triple(values: Sequence[Number]) -> tuple[Number, Number, Number]:
    width, height, depth = values
    return width, height, depth
