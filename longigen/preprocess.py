"""From a subject's files to what the model sees, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from longigen.cache import VisitCache
from longigen.component import checked, parameters
from longigen.dataset import Subject
from longigen.errors import LongigenError
from longigen.grid import Grid, Placement
from longigen.intensity import IntensityRange
from longigen.volume import Volume


@dataclass(frozen=True)
class Preprocess:
    """What is done to every volume before the model sees it; the model's configuration keeps it.

    In this order: axes to RAS; cropping and padding, or resampling, to the model's grid (`Placement`); one intensity
    range per subject to [-1, 1] (`IntensityRange`), where what a visit does not show is -1.

    Attributes:
        grid: of the model.
        lower: percentile of the first visit's intensities that becomes -1.
        upper: percentile of the first visit's intensities that becomes 1.

    Raises:
        LongigenError: if the percentiles are not 0 ≤ lower < upper ≤ 100.
    """

    grid: Grid
    lower: float = 0.0
    upper: float = 99.9

    def __post_init__(self) -> None:
        if not 0 <= self.lower < self.upper <= 100:
            raise LongigenError(
                f"The intensity percentiles must satisfy 0 ≤ lower < upper ≤ 100, got {self.lower} and {self.upper}."
            )

    @property
    def config(self) -> dict[str, Any]:
        """What `from_config` makes the same preprocessing from, as JSON would hold it."""
        spacing = None if self.grid.spacing is None else list(self.grid.spacing)
        return {"shape": list(self.grid.shape), "spacing": spacing, "lower": self.lower, "upper": self.upper}

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Self:
        """Make the preprocessing of a `config`.

        Raises:
            LongigenError: for an unknown or missing name, or a value that is not allowed.
        """
        return cls._of(**checked(parameters(cls._of), given, "preprocess"))

    @classmethod
    def _of(
        cls,
        *,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] | None = None,
        lower: float = 0.0,
        upper: float = 99.9,
    ) -> Self:
        return cls(Grid(shape, spacing), lower, upper)

    def subject(self, subject: Subject, cache: VisitCache | None = None) -> "Prepared":
        """Return a subject's visits as the model sees them, read when they are asked for.

        Args:
            subject: as the data set has it.
            cache: keeps what was read; without one, every `Prepared.visit` reads its file.
        """
        return Prepared(self, subject, VisitCache(0) if cache is None else cache)


class Prepared:
    """A subject as the model sees it: visits on the model's grid in [-1, 1], and the way back.

    Placement and intensity range come from the first visit, which is read when any visit is first asked for, or
    `restore` called. Every method raises the `LongigenError` of a visit that cannot be read or used.
    """

    def __init__(self, pipeline: Preprocess, subject: Subject, cache: VisitCache) -> None:
        self.pipeline = pipeline
        self.subject = subject
        self._cache = cache
        self._fitted: tuple[Placement, IntensityRange] | None = None

    def visit(self, index: int) -> Tensor:
        """Return a visit (1, W, H, D), float32, in [-1, 1]. It may be shared: do not change it in place."""
        tensor = self._cache.get((self.subject.id, index))
        return self._read(index) if tensor is None else tensor

    def restore(self, volume: Tensor) -> Volume:
        """Return a volume (1, W, H, D) of the model on the first visit's grid, affine and intensity scale, float32.

        What the model's grid does not cover gets the intensity of -1. Intensities are not rounded, whatever the type
        of the subject's files: rounding would make small changes vanish.
        """
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(f"a volume is (1, W, H, D), got {tuple(volume.shape)}")
        array = volume[0].detach().to("cpu", torch.float32).numpy()
        return self.placement.to_subject(self.intensity.to_subject(array), self.intensity.low)

    @property
    def placement(self) -> Placement:
        return self._fit()[0]

    @property
    def intensity(self) -> IntensityRange:
        return self._fit()[1]

    def _fit(self) -> tuple[Placement, IntensityRange]:
        if self._fitted is None:
            self._read(0)
        assert self._fitted is not None
        return self._fitted

    def _read(self, index: int) -> Tensor:
        visit = self.subject.visits[index]
        source = f"{visit.source} (subject {self.subject.id})"
        volume = visit.load()
        if index == 0 and self._fitted is None:
            self._fitted = (
                Placement.of(volume, self.pipeline.grid),
                IntensityRange.of(volume.data, lower=self.pipeline.lower, upper=self.pipeline.upper, source=source),
            )
        array = self.placement.to_model(volume, self.intensity.low, source)
        tensor = torch.from_numpy(self.intensity.to_model(array))[None]
        self._cache.put((self.subject.id, index), tensor)
        return tensor
