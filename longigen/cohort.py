"""A data set made ready for a model: split by subject, preprocessed, measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from longigen.cache import VisitCache
from longigen.dataset import Dataset, Subject
from longigen.errors import LongigenError
from longigen.grid import Grid
from longigen.model import Statistics
from longigen.pairs import TrainingPairs
from longigen.preprocess import Prepared, Preprocess
from longigen.split import Part, Split, SplitSettings, fingerprint

CACHE_BYTES = 4 * 2**30
RESIDUAL_PAIRS = 128


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What a recipe may say of preprocessing; see `longigen.preprocess.Preprocess`.

    Args:
        shape: W, H, D of the model's grid in RAS order; by default the smallest that holds every visit.
        spacing: millimetres per voxel; None keeps each subject's own voxels.
        lower: percentile of the first visit's intensities that becomes -1.
        upper: percentile of the first visit's intensities that becomes 1.
    """

    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    lower: float = 0.0
    upper: float = 99.9

    def pipeline(self, subjects: Sequence[Subject]) -> Preprocess:
        """Return the pipeline, its grid chosen for these subjects where the settings leave it open."""
        if self.shape is not None:
            grid = Grid(self.shape, self.spacing)
        elif self.spacing is not None:
            raise LongigenError("preprocess.spacing needs preprocess.shape beside it, such as shape=64,80,64.")
        else:
            grid = Grid.default(subjects)
        return Preprocess(grid, self.lower, self.upper)


class Cohort:
    """A data set as one model sees it.

    Args:
        name: of the data set in the registry.
        dataset: the data set.
        pipeline: the preprocessing.
        split: how subjects are split.
    """

    def __init__(self, name: str, dataset: Dataset, pipeline: Preprocess, split: SplitSettings) -> None:
        self.name = name
        self.dataset = dataset
        self.pipeline = pipeline
        self.split_settings = split
        self._cache = VisitCache(CACHE_BYTES)
        self._prepared: dict[str, Prepared] = {}

    @cached_property
    def subjects(self) -> Sequence[Subject]:
        found = self.dataset.subjects()
        if not found:
            raise LongigenError(f"The data set '{self.name}' has no subjects; give one that has.")
        return found

    @cached_property
    def split(self) -> Split:
        return Split.of(self.subjects, self.split_settings)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a model keeps of the data it was trained on: no id, no path."""
        return {
            "name": self.name,
            "simulated": self.dataset.simulated,
            "subjects": len(self.subjects),
            "visits": sum(len(subject.visits) for subject in self.subjects),
            "fingerprint": fingerprint(self.subjects),
            "split": vars(self.split_settings),
        }

    def part(self, name: Part) -> list[Prepared]:
        """Return the prepared subjects of one part of the split."""
        return self.prepared(self.subjects if name == "all" else self.split.part(name))

    def prepared(self, subjects: Sequence[Subject]) -> list[Prepared]:
        """Return subjects as the model sees them; what was read of them is shared."""
        return [self._prepared.setdefault(s.id, self.pipeline.subject(s, self._cache)) for s in subjects]

    def read(self, subjects: Sequence[Prepared], callback: Callable[[int, int], None] | None = None) -> None:
        """Read every visit of some subjects, so that a bad file is named before any work is done on the good ones.

        Raises:
            LongigenError: if a subject has fewer than two visits, or a visit cannot be used.
        """
        require_pairs(subjects)
        total = sum(len(prepared.subject.visits) for prepared in subjects)
        done = 0
        for prepared in subjects:
            for index in range(len(prepared.subject.visits)):
                prepared.visit(index)
                done += 1
                if callback is not None:
                    callback(done, total)

    def statistics(self, *, causal: bool, covariates: tuple[str, ...], seed: int) -> Statistics:
        """Measure the training part: the typical gap between visits, and the size of the residual."""
        training = self.part("train")
        gaps = np.concatenate([np.diff(prepared.subject.times) for prepared in training])
        pairs = TrainingPairs(training, length=RESIDUAL_PAIRS, seed=seed, causal=causal)
        squares = []
        for number in range(len(pairs)):
            batch = pairs[number]
            base, _ = batch.history.last(before=batch.target_time)
            squares.append(torch.mean((batch.target - base) ** 2).item())
        std = float(np.sqrt(np.mean(squares)))
        if std == 0:
            raise LongigenError(
                f"All visits of the training subjects of '{self.name}' are identical, so there is no change to learn; "
                "check that the manifest does not name one file for several visits."
            )
        return Statistics(
            channels=1,
            residual_std=std,
            time_scale=float(np.median(gaps)),
            time_unit=self.dataset.time_unit,
            covariates=covariates,
        )

    @cached_property
    def covariates(self) -> tuple[str, ...]:
        """Return the names of the covariates that any visit has."""
        return tuple(sorted({name for s in self.subjects for visit in s.visits for name in visit.covariates}))


def require_pairs(subjects: Sequence[Prepared]) -> None:
    """Refuse subjects of fewer than two visits.

    Raises:
        LongigenError: naming them.
    """
    alone = [prepared.subject.id for prepared in subjects if len(prepared.subject.visits) < 2]
    if alone:
        named = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        noun = "Subject" if len(alone) == 1 else "Subjects"
        raise LongigenError(
            f"{noun} {named} has only one visit where at least two are needed; add visits or remove it."
        )
