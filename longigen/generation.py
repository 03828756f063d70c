"""Answering tasks with a model: batches of subjects, and the copy-last baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longigen.model import LongitudinalModel
from longigen.pairs import sequence
from longigen.preprocess import Prepared
from longigen.sampler import Sampler
from longigen.setting import Task
from longigen.visits import VisitSequence


@dataclass(frozen=True)
class Answer:
    """What a model made of one task.

    Attributes:
        prepared: the subject.
        task: which visits were given and which were made; places beyond the subject's visits are times that were
            asked for and have no true image.
        times: of the visits made, ascending, in the data set's unit.
        images: the visits made (K, C, W, H, D), in [-1, 1].
    """

    prepared: Prepared
    task: Task
    times: tuple[float, ...]
    images: Tensor

    def given_before(self, made: int) -> int:
        """Return the place of the last given visit before the visit made at place `made` of `images`."""
        times = self.prepared.subject.times
        return max(index for index in self.task.given if times[index] < self.times[made])

    def true(self, made: int) -> Tensor:
        """Return the true image (C, W, H, D) of the visit made at place `made` of `images`."""
        return self.prepared.visit(self.task.targets[made])


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to generate: the sampler to walk with, network evaluations, guidance; None is the model's own."""

    sampler: Sampler | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    sample: int = 0


def answer(
    model: LongitudinalModel,
    questions: Sequence[tuple[Prepared, Task]],
    *,
    settings: GenerationSettings | None = None,
    times: Sequence[Sequence[float]] | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Answer tasks in one batch.

    Args:
        model: in ``eval()`` mode.
        questions: subjects and tasks.
        settings: how to generate.
        times: of the visits to make, where they are not visits of the subject.
        device: where to compute; the model's own by default.
        callback: as in `LongitudinalModel.generate`.
    """
    settings = settings or GenerationSettings()
    device = device or model.device
    wanted = times or [[p.subject.times[i] for i in task.targets] for p, task in questions]
    history = VisitSequence.collate(
        [sequence(prepared, task.given, set(), model.statistics.covariates) for prepared, task in questions]
    ).to(device)
    longest = max(map(len, wanted))
    padded = torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in wanted], dtype=torch.float32)
    valid = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in wanted])
    images = model.generate(
        history,
        padded.to(device),
        target_valid=valid.to(device),
        subjects=[prepared.subject.id for prepared, _ in questions],
        seed=settings.seed,
        sample=settings.sample,
        sampler=settings.sampler,
        steps=settings.steps,
        guidance=settings.guidance,
        callback=callback,
    ).cpu()
    return [
        Answer(prepared, task, tuple(row), images[index, : len(row)])
        for index, ((prepared, task), row) in enumerate(zip(questions, wanted, strict=True))
    ]
