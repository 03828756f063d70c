"""The sizes that a training works on: the grid, the visits of a subject, and what the data take on the disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from longigen.components.visit_sequence import Batch, Covariate
from longigen.errors import LongigenError
from longigen.testing.case import after, history
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe

VISITS = 12
"""The visits of a subject where neither the data nor the recipe say how many there are; as in the SADM paper."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """The largest sizes that a training works on.

    Attributes:
        grid: (W, H, D) of the model's grid, the largest along each axis; generation is on all of it.
        box: (W, H, D) of what a training pair shows: the grid, or a random box of it (``augment.crop``).
        visits: visits of the subject that has most.
        covariates: names of the covariates.
        cache: bytes of the preprocessed visits on the disk; None without data.
        notes: what was assumed, a sentence each.
        channels: images of a visit.
    """

    grid: Shape
    box: Shape
    visits: int
    covariates: tuple[str, ...] = ()
    cache: int | None = None
    notes: tuple[str, ...] = ()
    channels: int = 1

    @classmethod
    def of(cls, recipe: Recipe, experiment: Experiment | None, visits: int | None = None) -> "Sizes":
        """Return the sizes of a recipe with its data, or by its own numbers without them.

        Args:
            recipe: the recipe.
            experiment: the recipe with its data, of which headers are read; None plans without data.
            visits: visits of a subject, instead of those of the data or the recipe.

        Raises:
            LongigenError: if the grid follows from the data, and there are none.
        """
        notes: list[str] = []
        covariates: tuple[str, ...] = ()
        cache, channels = None, 1
        if experiment is not None:
            cohort = experiment.cohort
            shapes = [cohort.shape_of(subject) for subject in cohort.subjects]
            counts = [len(subject.visits) for subject in cohort.subjects]
            channels = max(1, len(cohort.channels))
            cache = channels * sum(4 * math.prod(shape) * count for shape, count in zip(shapes, counts, strict=True))
            codec = recipe.component("codec").compose(channels)
            if not codec.trivial:  # codes stand beside the visits
                cache += round(cache * codec.channels / (channels * codec.factor**3))
            covariates, most = cohort.covariates, max(counts)
            if len(set(shapes)) > 1:
                notes.append(f"Grids differ between subjects; the largest counts, {by_axis(_largest(shapes))} voxels.")
        else:
            shape = recipe.configs["preprocess"]["shape"]
            if not shape or not all(shape):
                raise LongigenError(
                    f"The grid of this recipe follows from the data set '{recipe.names['data']}'; give the data with "
                    "--data PATH, or a grid with --set preprocess.shape=W,H,D."
                )
            shapes = [shape]
            frames = recipe.configs["data"].get("frames")
            most = frames or VISITS
            if visits is None:
                notes.append(
                    f"There are no data: {most} visits per subject are "
                    f"{'those of the recipe' if frames else 'assumed'}; --visits changes that."
                )
        grid = _largest(shapes)
        crop = recipe.configs["augment"]["crop"]
        box = tuple(min(size, part) if part else size for size, part in zip(grid, crop, strict=True))
        most = visits or most
        if most < 2:
            raise LongigenError(f"A training pair needs at least 2 visits of a subject, got {most}.")
        return cls(grid, (box[0], box[1], box[2]), most, covariates, cache, tuple(notes), channels)

    def scaled(self, factor: float) -> "Sizes":
        """Return the sizes of a grid with `factor` times as many voxels along each axis, rounded to multiples of 8."""
        return replace(self, grid=scaled(self.grid, factor), box=scaled(self.box, factor))

    def batch(self, count: int, shape: Shape = (1, 1, 1)) -> Batch:
        """Return random pairs with the longest history, of images of a shape."""
        given = history(shape, lengths=(self.visits - 1,) * count, channels=self.channels)
        covariates = {name: _absent(given.times) for name in self.covariates}
        target = torch.zeros(count, self.channels, *shape)
        return Batch(replace(given, covariates=covariates), target, after(given))


def scaled(shape: Shape, factor: float) -> Shape:
    """Return a shape with `factor` times as many voxels along each axis, in multiples of 8 from 8 on."""
    width, height, depth = (max(8, 8 * round(factor * size / 8)) if size > 8 else size for size in shape)
    return width, height, depth


def by_axis(shape: Sequence[int]) -> str:
    """Return a shape as text: ``128 × 128 × 32``."""
    return " × ".join(map(str, shape))


def _largest(shapes: Sequence[Shape]) -> Shape:
    width, height, depth = (max(sizes) for sizes in zip(*shapes, strict=True))
    return width, height, depth


def _absent(times: torch.Tensor) -> Covariate:
    return Covariate(torch.zeros_like(times), torch.zeros_like(times, dtype=torch.bool))
