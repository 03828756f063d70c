"""From a subject's files to what the model sees, and back."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from longigen.components.base import Settings, checked, parameters
from longigen.components.ranges import Percentile, Voxels, VoxelSize
from longigen.data.cache import VisitCache
from longigen.data.dataset import Subject
from longigen.data.grid import Box, Fit, Grid, Placement
from longigen.data.intensity import FOREGROUND, IntensityRange
from longigen.data.volume import Volume
from longigen.errors import LongigenError, LongigenWarning

VERSION = 1
"""Raised whenever a preprocessed volume changes, so that the cache makes it again."""

Normalise = Literal["subject", "visit"]


@dataclass(frozen=True)
class Preprocess:
    """The pipeline: what is done to every volume before the model sees it; the model's configuration keeps it.

    Its steps, in this order:

    1. ``orientation``: axes to RAS, by flips and permutations.
    2. ``box``: of the first visit, what the grid is centred on.
    3. ``fit``, ``spacing``, ``shape``: cropping and padding, or resampling, to the model's grid (`Placement`), the same
       for all visits of a subject.
    4. ``lower``, ``upper``, ``normalise``: intensities to [-1, 1] (`IntensityRange`), what a visit does not show to -1.

    Writing inverts them: the intensities, then the place on the first visit's own grid.

    Attributes:
        grid: of the model.
        lower: percentile of intensities that becomes -1; with lower 0 and upper 100, min–max.
        upper: percentile of intensities that becomes 1.
        normalise: by the first visit's range for all visits of a subject, or each ``visit`` by its own. The latter
            erases what changed between visits, and warns.

    Raises:
        LongigenError: if the percentiles are not 0 ≤ lower < upper ≤ 100.
    """

    grid: Grid
    lower: float = 0.0
    upper: float = 99.9
    normalise: Normalise = "subject"

    def __post_init__(self) -> None:
        _require_ordered(self.lower, self.upper)
        if self.normalise == "visit":
            warnings.warn(
                "preprocess.normalise=visit scales each visit by itself, which erases changes of intensity between "
                "visits; use normalise=subject unless scanners differ.",
                LongigenWarning,
                stacklevel=2,
            )

    @property
    def config(self) -> dict[str, Any]:
        """What `from_config` makes the same preprocessing from, in the order of its steps, as JSON would hold it."""
        grid = self.grid
        return {
            "orientation": "RAS",
            "box": grid.box,
            "fit": grid.fit,
            "spacing": None if grid.spacing is None else list(grid.spacing),
            "shape": list(grid.shape),
            "lower": self.lower,
            "upper": self.upper,
            "normalise": self.normalise,
        }

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Self:
        """Make the preprocessing of a `config`.

        Raises:
            LongigenError: for an unknown or missing name, or a value that is not allowed.
        """
        return cls._of(**cls.checked_config(given))

    @classmethod
    def checked_config(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `config` with its values converted to their types, and defaults for what is not given.

        Raises:
            LongigenError: for an unknown or missing name, or a value that is not allowed.
        """
        return checked(parameters(cls._of), given, "Section 'preprocess'")

    @classmethod
    def _of(
        cls,
        *,
        shape: tuple[Voxels, Voxels, Voxels],
        orientation: Literal["RAS"] = "RAS",
        box: Box = "image",
        fit: Fit = "crop",
        spacing: tuple[VoxelSize, VoxelSize, VoxelSize] | None = None,
        lower: Percentile = 0.0,
        upper: Percentile = 99.9,
        normalise: Normalise = "subject",
    ) -> Self:
        del orientation  # what every version does; a later one may have a choice
        return cls(Grid(shape, spacing, box, fit), lower, upper, normalise)

    def subject(self, subject: Subject, cache: VisitCache | None = None) -> "Prepared":
        """Return a subject's visits as the model sees them, read when they are asked for.

        Args:
            subject: as the data set has it.
            cache: keeps what was read; without one, every `Prepared.visit` reads its file.
        """
        return Prepared(self, subject, cache)


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings(Settings):
    """What a recipe may say of preprocessing; see `Preprocess`.

    Args:
        shape: W, H, D of the model's grid in RAS order; by default the smallest that holds every visit.
        spacing: millimetres per voxel; None keeps each subject's own voxels.
        box: centre the grid on the whole ``image`` or on its ``foreground``.
        fit: ``crop`` and pad to the shape, or ``resize`` to it.
        lower: percentile of the first visit's intensities that becomes -1.
        upper: percentile of the first visit's intensities that becomes 1.
        normalise: intensities by the ``subject``, or by each ``visit``, which erases change.

    Raises:
        LongigenError: for a value that is not allowed, or percentiles that are not in order.
    """

    shape: tuple[Voxels, Voxels, Voxels] | None = None
    spacing: tuple[VoxelSize, VoxelSize, VoxelSize] | None = None
    box: Box = "image"
    fit: Fit = "crop"
    lower: Percentile = 0.0
    upper: Percentile = 99.9
    normalise: Normalise = "subject"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_ordered(self.lower, self.upper)

    def pipeline(self, subjects: Sequence[Subject]) -> Preprocess:
        """Return the pipeline, its grid chosen for these subjects where the settings leave it open."""
        if self.shape is not None:
            grid = Grid(self.shape, self.spacing, self.box, self.fit)
        elif (self.box, self.fit) != ("image", "crop"):
            raise LongigenError("preprocess.box and preprocess.fit need a shape beside them, such as shape=64,80,64.")
        else:
            grid = Grid.default(subjects, self.spacing)
        return Preprocess(grid, self.lower, self.upper, self.normalise)


class Prepared:
    """A subject as the model sees it: visits on the model's grid in [-1, 1], and the way back.

    Placement and intensity range come from the first visit, which is read, or found in the cache, when any visit is
    first asked for, or `restore` called. Every method raises the `BadData` of a visit that cannot be read or used.
    """

    def __init__(self, pipeline: Preprocess, subject: Subject, cache: VisitCache | None) -> None:
        self.pipeline = pipeline
        self.subject = subject
        self._cache = cache
        self._fitted: tuple[Placement, IntensityRange] | None = None

    def visit(self, index: int) -> Tensor:
        """Return a visit (1, W, H, D), float32, in [-1, 1]."""
        held = self._cache.get(self._key(index)) if self._cache else None
        return self._read(index) if held is None else held[0]

    def restore(self, volume: Tensor) -> Volume:
        """Return a volume (1, W, H, D) of the model on the first visit's grid, affine and intensity scale, float32.

        What the model's grid does not cover gets the intensity of -1. Intensities are not rounded, whatever the type
        of the subject's files: rounding would make small changes vanish.
        """
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(f"a volume is (1, W, H, D), got {tuple(volume.shape)}")
        array = volume[0].detach().to("cpu", torch.float32).numpy()
        return self.placement.to_subject(self.intensity.to_subject(array), self.intensity.low)

    def lost_share(self) -> float:
        """Return the share of the first visit's foreground that lies outside of the model's grid, from 0 to 1."""
        volume = self.subject.visits[0].load()
        span = self.intensity.high - self.intensity.low
        foreground = volume.data > self.intensity.low + FOREGROUND / 2 * span
        covered = self.placement.to_subject(np.ones(self.pipeline.grid.shape, np.float32), 0.0).data > 0
        return float((foreground & ~covered).sum() / max(foreground.sum(), 1))

    @property
    def placement(self) -> Placement:
        return self._fit()[0]

    @property
    def intensity(self) -> IntensityRange:
        """The first visit's range."""
        return self._fit()[1]

    def _fit(self) -> tuple[Placement, IntensityRange]:
        if self._fitted is None:
            held = self._cache.get(self._key(0)) if self._cache else None
            if held is None:
                self._read(0)
            else:
                self._fitted = _from_notes(held[1])
        assert self._fitted is not None
        return self._fitted

    def _read(self, index: int) -> Tensor:
        visit, subject = self.subject.visits[index], self.subject.id
        volume = visit.load()
        if index == 0 and self._fitted is None:
            self._fitted = Placement.of(volume, self.pipeline.grid), self._range(volume, visit.source)
        array = self.placement.to_model(volume, self.intensity.low, visit.source, subject)
        intensity = self.intensity if self.pipeline.normalise == "subject" else self._range(volume, visit.source)
        tensor = torch.from_numpy(intensity.to_model(array))[None]
        if self._cache is not None:
            self._cache.put(self._key(index), tensor, _to_notes(self.placement, self.intensity))
        return tensor

    def _range(self, volume: Volume, source: str) -> IntensityRange:
        pipeline = self.pipeline
        return IntensityRange.of(
            volume.data, lower=pipeline.lower, upper=pipeline.upper, source=source, subject=self.subject.id
        )

    def _key(self, index: int) -> str:
        first, visit = self.subject.visits[0], self.subject.visits[index]
        return VisitCache.key(str(VERSION), json.dumps(self.pipeline.config), first.identity, visit.identity)


def _require_ordered(lower: float, upper: float) -> None:
    if not 0 <= lower < upper <= 100:
        raise LongigenError(f"The intensity percentiles must satisfy 0 ≤ lower < upper ≤ 100, got {lower} and {upper}.")


def _to_notes(placement: Placement, intensity: IntensityRange) -> dict[str, str]:
    """Return what was fitted to the first visit as text, digit for digit."""
    plain = {name: np.asarray(value).tolist() for name, value in vars(placement).items()}
    return {"placement": json.dumps(plain), "intensity": json.dumps(vars(intensity))}


def _from_notes(notes: Mapping[str, str]) -> tuple[Placement, IntensityRange]:
    plain = json.loads(notes["placement"])
    shape, own_shape = tuple(plain["shape"]), tuple(plain["own_shape"])
    placement = Placement(shape, np.array(plain["affine"]), own_shape, np.array(plain["own_affine"]))
    return placement, IntensityRange(**json.loads(notes["intensity"]))
