"""Preprocess a subject's visits for the model (grid and intensities), and map generated volumes back."""

import json
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from longigen.components.base import Settings, checked, parameters
from longigen.components.ranges import GridSize, Millimetres, Percentile, VoxelSizes
from longigen.data.cache import VisitCache
from longigen.data.dataset import Subject
from longigen.data.detail import changed
from longigen.data.grid import FOREGROUND_INTENSITY, Box, Fit, Grid, Placement
from longigen.data.intensity import IntensityRange, without_padding
from longigen.data.trained_grid import TrainedGrid
from longigen.data.volume import Volume, voxel_digest
from longigen.errors import LongigenError, LongigenWarning

CACHE_VERSION = 7
"""Part of the cache's keys; raised whenever preprocessing changes its results, their notes, or what it refuses."""

DIGEST = "voxels"
"""The note in the cache that holds the hash of a visit's own voxels."""

Normalise = Literal["subject", "visit"]
Pad = Literal["background", "edge"]

_latest = threading.local()
"""The visit that each thread read last, and its volume: a subject's visits are often needed several times in a row."""


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing pipeline that is applied to every volume; it is stored in a model's configuration.

    Its steps, in this order:

    1. ``orientation``: axes to RAS, by flips and permutations.
    2. ``box``: what the grid is centred on in the first visit.
    3. ``fit``, ``spacing``, ``shape``, ``extent``: cropping and padding, or resampling, to the model's grid
       (`Placement`), the same for all visits of a subject.
    4. ``lower``, ``upper``, ``normalise``: intensities to [-1, 1] (`IntensityRange`). A padding value, such as -32768
       around the field of view, is background and not part of the range (`Padding`).
    5. ``pad``: voxels outside the visit's field of view become -1, or repeat the nearest voxel inside.

    `Prepared.restore` inverts them: first the intensities, then the grid. `Prepared.restore_change` restores only what
    differs from a visit, and keeps that visit's own voxels otherwise.

    Attributes:
        grid: the model's voxel grid.
        lower: percentile of intensities that is mapped to -1; lower 0 and upper 100 is min–max scaling.
        upper: percentile of intensities that is mapped to 1.
        normalise: ``subject`` scales all visits by the first visit's range; ``visit`` scales each visit by its own,
            which removes changes of intensity between visits and gives a warning.
        pad: what voxels outside a visit's field of view hold: ``background``, -1, or ``edge``, the nearest voxel's
            value, which leaves no band around images that are smaller than the grid.
        trained: the grid in a model's training subjects, if its voxels are meant to be of those sizes: a subject with
            others is resampled to their median. It is no part of the `config`. None keeps each subject's voxels.

    Raises:
        LongigenError: if the percentiles are not 0 ≤ lower < upper ≤ 100.
    """

    grid: Grid
    lower: float = 0.0
    upper: float = 99.9
    normalise: Normalise = "subject"
    pad: Pad = "background"
    trained: TrainedGrid | None = None

    def __post_init__(self) -> None:
        _require_ordered(self.lower, self.upper)
        if self.normalise == "visit":
            warnings.warn(
                "preprocess.normalise=visit scales each visit separately, which removes changes of intensity between "
                "visits; use normalise=subject unless scanners differ.",
                LongigenWarning,
                stacklevel=2,
            )

    @property
    def config(self) -> dict[str, Any]:
        """The configuration for `from_config`, in the order of the steps, as JSON values.

        ``extent`` and ``pad`` are left out where they are not used, so that the hashes of earlier protocols and the
        cache's keys stay as they are.
        """
        grid = self.grid
        return {
            "orientation": "RAS",
            "box": grid.box,
            "fit": grid.fit,
            "spacing": None if grid.spacing is None else list(grid.spacing),
            "shape": list(grid.shape),
            **({} if grid.extent is None else {"extent": list(grid.extent)}),
            "lower": self.lower,
            "upper": self.upper,
            "normalise": self.normalise,
            **({} if self.pad == "background" else {"pad": self.pad}),
        }

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Self:
        """Create the pipeline from a `config`.

        Raises:
            LongigenError: for an unknown or missing key, or an invalid value.
        """
        return cls._from_values(**cls.checked_config(given))

    @classmethod
    def checked_config(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `config` with its values converted to their types, and defaults for missing ones.

        Raises:
            LongigenError: for an unknown or missing key, or an invalid value.
        """
        return checked(parameters(cls._from_values), given, "Section 'preprocess'")

    @classmethod
    def _from_values(
        cls,
        *,
        shape: tuple[GridSize, GridSize, GridSize],
        orientation: Literal["RAS"] = "RAS",
        box: Box = "image",
        fit: Fit = "crop",
        spacing: VoxelSizes | None = None,
        extent: tuple[Millimetres, Millimetres, Millimetres] | None = None,
        lower: Percentile = 0.0,
        upper: Percentile = 99.9,
        normalise: Normalise = "subject",
        pad: Pad = "background",
    ) -> Self:
        del orientation  # RAS is the only choice
        return cls(Grid(shape, spacing, box, fit, extent), lower, upper, normalise, pad)

    def subject(self, subject: Subject, cache: VisitCache | None = None, *, time_factor: float = 1.0) -> "Prepared":
        """Return a subject whose visits are preprocessed lazily.

        Args:
            subject: a subject of the data set.
            cache: stores preprocessed visits; without one, every call of `Prepared.visit` reads the file.
            time_factor: what the subject's times are multiplied by to be in the model's unit.
        """
        from longigen.data.channels import PreparedChannels  # which is made of those of this module

        resampled = self.trained is not None and not self.trained.contains(subject.visits[0].spacing)
        prepared = PreparedChannels if subject.channels else Prepared
        return prepared(self._resampling if resampled else self, subject, cache, time_factor)

    @cached_property
    def _resampling(self) -> Self:
        """The pipeline that resamples to the median of the trained voxels, for subjects that have others."""
        spacing = None if self.trained is None else self.trained.median
        return replace(self, grid=replace(self.grid, spacing=spacing), trained=None)


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings(Settings):
    """Settings of preprocessing in a recipe; see `Preprocess`.

    Args:
        shape: W, H, D of the model's grid in RAS order; by default the smallest that contains every visit. With
            fit=crop, 0 takes as many voxels along an axis as each subject's first visit has (its foreground with
            box=foreground): 100,100,0 for stacks of different numbers of slices.
        spacing: voxel size in mm; None keeps each subject's voxel size.
        extent: W, H, D in mm of a box around the middle, instead of the shape; 0 takes all of an axis. The shape is
            the extent divided by the spacing; without a spacing, by each subject's own voxel size, and rounded to a
            multiple of 4 voxels where there are 32 or more.
        box: centre the grid on the whole ``image`` or on its ``foreground``.
        fit: ``crop`` and pad to the shape, or ``resize`` to it.
        lower: percentile of the first visit's intensities that is mapped to -1.
        upper: percentile of the first visit's intensities that is mapped to 1.
        normalise: scale intensities per ``subject``, or per ``visit``, which removes changes of intensity.
        pad: fill voxels outside a visit's field of view with ``background`` (-1), or with the nearest voxel's value,
            ``edge``.

    Raises:
        LongigenError: for an invalid value, or if lower is not below upper.
    """

    shape: tuple[GridSize, GridSize, GridSize] | None = None
    spacing: VoxelSizes | None = None
    extent: tuple[Millimetres, Millimetres, Millimetres] | None = None
    box: Box = "image"
    fit: Fit = "crop"
    lower: Percentile = 0.0
    upper: Percentile = 99.9
    normalise: Normalise = "subject"
    pad: Pad = "background"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_ordered(self.lower, self.upper)
        self._fixed_grid()  # raises an error for values that do not fit each other, before data are read

    def _fixed_grid(self) -> Grid | None:
        """Return the grid, or None if it is chosen for the subjects."""
        if self.shape is None and self.extent is None:
            return None
        return Grid(self.shape or (0, 0, 0), self.spacing, self.box, self.fit, self.extent)

    def pipeline(self, subjects: Sequence[Subject]) -> Preprocess:
        """Return the pipeline; without a `shape` or an `extent`, its grid is chosen for these subjects.

        Raises:
            LongigenError: if `box` or `fit` is set without either, or a value is invalid.
        """
        grid = self._fixed_grid()
        if grid is None and (self.box, self.fit) != ("image", "crop"):
            raise LongigenError("preprocess.box and preprocess.fit need a shape; set preprocess.shape=64,80,64, say.")
        return Preprocess(
            grid or Grid.default(subjects, self.spacing), self.lower, self.upper, self.normalise, self.pad
        )


class Prepared:
    """A preprocessed subject: visits on the model's grid in [-1, 1], times in its unit, and the inverse mapping.

    Placement and intensity range are computed from the first visit, which is read (or found in the cache) at the first
    call of `visit` or `restore`. Every method raises the `BadData` of a visit that cannot be read or used.

    Args:
        pipeline: the preprocessing.
        subject: the subject, with one image per visit; see `longigen.data.channels` for several.
        cache: stores preprocessed visits.
        time_factor: what the subject's times are multiplied by to be in the model's unit.
        placed_by: another channel of the subject, whose placement of the grid holds for this one too.
    """

    def __init__(
        self,
        pipeline: Preprocess,
        subject: Subject,
        cache: VisitCache | None,
        time_factor: float = 1.0,
        *,
        placed_by: "Prepared | None" = None,
    ) -> None:
        self.pipeline = pipeline
        self.subject = subject
        self.time_factor = time_factor
        self._placed_by = placed_by
        self._cache = cache
        self._fitted: _Fitted | None = None
        self._digests: dict[int, str] = {}

    @property
    def channels(self) -> "tuple[Prepared, ...]":
        """The channels that the subject has, each a subject with one image per visit; itself if it is one."""
        return (self,)

    def has(self, index: int) -> tuple[bool, ...]:
        """Return for each channel whether a visit has it."""
        return (True,)

    def model_time(self, time: float) -> float:
        """Return a time in the subject's unit as one in the model's."""
        return time * self.time_factor

    def visit(self, index: int) -> Tensor:
        """Return a visit (C, W, H, D), float32, in [-1, 1]; a channel that it lacks is background, -1."""
        cached = self._cache.get(self._key(index)) if self._cache else None
        return self._read(index)[0] if cached is None else cached[0]

    def derived(self, index: int, key: str, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what `make` makes of a visit (C, W, H, D), which the cache then keeps.

        Args:
            index: index of the visit.
            key: what the result depends on besides the visit.
            make: makes it.
        """
        if self._cache is None:
            return make(self.visit(index))
        place = VisitCache.key(self._key(index), key)
        cached = self._cache.get(place)
        if cached is not None:
            return cached[0]
        made = make(self.visit(index))
        self._cache.put(place, made, {})
        return made

    @property
    def digests(self) -> list[str]:
        """The `digest` of each visit."""
        return [self.digest(index) for index in range(len(self.subject.visits))]

    def digest(self, index: int) -> str:
        """Return a hash of a visit's own voxels (`voxel_digest`), from the cache or by reading them."""
        if index not in self._digests:
            cached = self._cache.get(self._key(index)) if self._cache else None
            self._digests[index] = cached[1][DIGEST] if cached else voxel_digest(self.own(index)).hex()
        return self._digests[index]

    def restore(self, volume: Tensor) -> Volume:
        """Map a volume (1, W, H, D) in [-1, 1] to the first visit's grid, affine and intensity scale, float32.

        Voxels outside the model's grid get the intensity that corresponds to -1. Intensities are not rounded, whatever
        the data type of the subject's files, since rounding would remove small changes.

        Raises:
            ValueError: if the volume does not have that shape.
        """
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(f"a volume is (1, W, H, D), got {tuple(volume.shape)}")
        array = volume[0].detach().to("cpu", torch.float32).numpy()
        return self.placement.to_subject(self.intensity.to_subject(array), self.intensity.low)

    def restore_change(self, change: Tensor, displacement: Tensor | None, reference: int) -> Volume:
        """Return a visit's own voxels, moved and changed, with its grid and affine, float32; see `detail.changed`.

        Voxels outside the model's grid, and those that neither move nor change, keep their values exactly. Intensities
        are clipped to what the visit's own voxels and the intensity range span together.

        Args:
            change: what is added after moving (1, W, H, D), in model intensities.
            displacement: where each voxel comes from (3, W, H, D), in voxels of the model's grid; None if none moves.
            reference: index of the visit.

        Raises:
            ValueError: if `change` does not have that shape.
        """
        if change.ndim != 4 or change.shape[0] != 1:
            raise ValueError(f"a change is (1, W, H, D), got {tuple(change.shape)}")
        own, span = self.own(reference), self.range_of(reference)
        field = None if displacement is None else displacement.detach().to("cpu", torch.float32).numpy()
        difference = change[0].detach().to("cpu", torch.float32).numpy() * np.float32((span.high - span.low) / 2)
        low, high = min(float(own.data.min()), span.low), max(float(own.data.max()), span.high)
        data = np.clip(changed(own, self.placement, difference, field), low, high)
        return replace(own, data=data.astype(np.float32, copy=False))

    def own(self, index: int) -> Volume:
        """Return a visit as it is stored: its own voxels, in its own intensities."""
        visit = self.subject.visits[index]
        if getattr(_latest, "visit", None) is not visit:
            _latest.volume, _latest.visit = visit.read(self.subject.id), visit
        return _latest.volume

    def range_of(self, index: int) -> IntensityRange:
        """Return the intensity range by which a visit is scaled: the first visit's, or its own (`normalise`)."""
        if self.pipeline.normalise == "subject":
            return self.intensity
        return self._range(without_padding(self.own(index)), self.subject.visits[index].source)

    @property
    def outside(self) -> float:
        """The share of the first visit's foreground that is outside the model's grid, from 0 to 1.

        Its foreground are the voxels above a tenth of its intensity range.
        """
        return self._fit().outside

    @property
    def placement(self) -> Placement:
        """The position of the model's grid in the subject's space, from the first visit."""
        return self._fit().placement

    @property
    def intensity(self) -> IntensityRange:
        """The intensity range of the first visit."""
        return self._fit().intensity

    def _fit(self) -> "_Fitted":
        """Return what follows from the first visit, which is read at the first call."""
        if self._fitted is None:
            cached = self._cache.get(self._key(0)) if self._cache else None
            self._fitted = self._read(0)[1] if cached is None else _Fitted.from_notes(cached[1])
        return self._fitted

    def _read(self, index: int) -> "tuple[Tensor, _Fitted]":
        """Read, preprocess and cache a visit; return it with what follows from the first visit."""
        visit, subject = self.subject.visits[index], self.subject.id
        own = self.own(index)
        volume = without_padding(own)
        if volume is not own:
            warnings.warn(
                "Some volumes have a padding value around the field of view, which is taken as background; "
                "'longigen doctor' names them.",
                LongigenWarning,
                stacklevel=2,
            )
        own_range = self._range(volume, visit.source)  # of each visit, since one without a range is no scan
        if index == 0 and self._fitted is None:
            by = self._placed_by
            placement = Placement.from_first_visit(volume, self.pipeline.grid) if by is None else by.placement
            self._fitted = _Fitted(placement, own_range, _outside(volume, placement, own_range))
        fitted = self._fit()
        placement, first_range = fitted.placement, fitted.intensity
        fill = first_range.low if self.pipeline.pad == "background" else None
        array = placement.to_model(volume, fill, visit.source, subject)
        intensity = first_range if self.pipeline.normalise == "subject" else own_range
        tensor = torch.from_numpy(intensity.to_model(array))[None]
        self._digests[index] = voxel_digest(own).hex()
        if self._cache is not None:
            self._cache.put(self._key(index), tensor, {**fitted.notes, DIGEST: self._digests[index]})
        return tensor, fitted

    def _range(self, volume: Volume, source: str) -> IntensityRange:
        """Return the intensity range of a visit's volume, without its padding value."""
        lower, upper = self.pipeline.lower, self.pipeline.upper
        return IntensityRange.from_percentiles(
            volume.data, lower=lower, upper=upper, source=source, subject=self.subject.id
        )

    def _key(self, index: int) -> str:
        first, visit = self.subject.visits[0], self.subject.visits[index]
        placed_by = () if self._placed_by is None else (self._placed_by.subject.visits[0].identity,)
        config = json.dumps(self.pipeline.config)
        return VisitCache.key(str(CACHE_VERSION), config, first.identity, visit.identity, *placed_by)


def _require_ordered(lower: float, upper: float) -> None:
    if not 0 <= lower < upper <= 100:
        raise LongigenError(f"The intensity percentiles must satisfy 0 ≤ lower < upper ≤ 100, got {lower} and {upper}.")


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What follows from a subject's first visit: placement, intensity range, share of the foreground outside."""

    placement: Placement
    intensity: IntensityRange
    outside: float

    @property
    def notes(self) -> dict[str, str]:
        """The values as JSON texts, with all digits."""
        values = {name: np.asarray(value).tolist() for name, value in vars(self.placement).items()}
        texts = {"placement": values, "intensity": vars(self.intensity), "outside": self.outside}
        return {name: json.dumps(value) for name, value in texts.items()}

    @classmethod
    def from_notes(cls, notes: Mapping[str, str]) -> Self:
        """Return the values that `notes` serialised."""
        values = json.loads(notes["placement"])
        shape, own_shape = tuple(values["shape"]), tuple(values["own_shape"])
        affine, own_affine = np.array(values["affine"]), np.array(values["own_affine"])
        placement = Placement(shape, affine, own_shape, own_affine, values["own_form"])
        return cls(placement, IntensityRange(**json.loads(notes["intensity"])), json.loads(notes["outside"]))


def _outside(first: Volume, placement: Placement, intensity: IntensityRange) -> float:
    """Return the share of a first visit's foreground outside of the grid, whose axes are parallel to the visit's."""
    foreground = first.data > intensity.low + FOREGROUND_INTENSITY * (intensity.high - intensity.low)
    box = tuple(slice(*ends) for ends in placement.box_in(first))
    total = np.count_nonzero(foreground)
    return float(1 - np.count_nonzero(foreground[box]) / total) if total else 0.0
