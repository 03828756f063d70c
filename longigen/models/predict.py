"""Generate the visits of a batch of subjects."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from longigen.components.base import Settings
from longigen.components.ranges import Evaluations, GuidanceWeight, Range, Seed
from longigen.components.sampler import Sampler
from longigen.components.visit_sequence import VisitSequence
from longigen.data.dataset import Subject
from longigen.data.preprocess import Prepared
from longigen.data.training_pairs import make_sequence
from longigen.errors import LongigenError
from longigen.models.tasks import Task

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel

SubjectTask = tuple[Prepared, Task]
"""A subject, and which of its visits are given and which are to be generated."""


@dataclass(frozen=True)
class Generated:
    """The visits that a model generated for one task.

    Attributes:
        prepared: the subject.
        task: which visits were given, and which were generated; empty targets are times of the user's choice, which
            have no true image.
        times: of the generated visits, ascending, in the data set's unit.
        images: the generated visits (K, C, W, H, D), in [-1, 1].
    """

    prepared: Prepared
    task: Task
    times: tuple[float, ...]
    images: Tensor

    def given_before(self, index: int) -> int:
        """Return the place of the last given visit before the generated visit `index`."""
        times = self.prepared.subject.times
        return max(place for place in self.task.given if times[place] < self.times[index])

    def true(self, index: int) -> Tensor:
        """Return the true image (C, W, H, D) of the generated visit `index`."""
        return self.prepared.visit(self.task.targets[index])


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Settings):
    """How to generate.

    Args:
        sampler: another sampler; None is the model's own.
        steps: network evaluations per visit; None is the sampler's own number.
        guidance: w of classifier-free guidance; None is the model's own.
        seed: random seed of the sampling noise.
        sample: which of several samples of the same visits this is.

    Raises:
        LongigenError: for a value that is not allowed.
    """

    label = ""  # its values are the arguments of what generates

    sampler: Sampler | None = None
    steps: Evaluations | None = None
    guidance: GuidanceWeight | None = None
    seed: Seed = 0
    sample: Annotated[int, Range(0)] = 0


def generation_metadata(model: "LongitudinalModel", settings: GenerationSettings) -> dict[str, Any]:
    """Return how a model generates under some settings: network evaluations per visit, guidance weight, seed."""
    sampler = settings.sampler or model.sampler
    return {
        "steps": sampler.steps if settings.steps is None else settings.steps,
        "guidance": model.settings.guidance if settings.guidance is None else settings.guidance,
        "seed": settings.seed,
    }


def target_times(subject: Subject, given: Sequence[int], wanted: Sequence[str | float], unit: str) -> list[float]:
    """Return the times to generate, ascending, once it is known that they can be.

    Args:
        subject: whose visits.
        given: indices of the given visits.
        wanted: times in the subject's unit; ``"+1"`` is one unit after its last visit.
        unit: of time, for messages.

    Raises:
        LongigenError: if a time is no number, not after the subject's first visit, or that of a given visit.
    """
    known = list(subject.times)
    times = sorted({_time(time, known[-1]) for time in wanted})
    for time in times:
        if time <= known[0] or time in [known[index] for index in given]:
            raise LongigenError(
                f"Time {time:g} cannot be generated for subject {subject.id}: it must lie after the first visit "
                f"({known[0]:g}) and not be that of a given one; its visits are at "
                f"{', '.join(f'{t:g}' for t in known)} {unit}."
            )
    return times


def _time(given: str | float, last: float) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise LongigenError(f"A time to generate is a number such as 3.5, or +1 after the last visit, got {given!r}.")
    relative = isinstance(given, str) and given.strip().startswith("+")
    return round(last + value, 6) if relative else value


def predict_batch(
    model: "LongitudinalModel",
    subject_tasks: Sequence[SubjectTask],
    *,
    settings: GenerationSettings | None = None,
    times: Sequence[Sequence[float]] | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Generate the visits of several tasks in one batch.

    Args:
        model: in ``eval()`` mode.
        subject_tasks: the subjects and what to generate for each.
        settings: how to generate.
        times: of the visits to generate, where they are not visits of the subject.
        device: where to compute; the model's own by default.
        callback: as in `LongitudinalModel.generate`.
    """
    settings = settings or GenerationSettings()
    device = device or model.device
    wanted = times or [[p.subject.times[i] for i in task.targets] for p, task in subject_tasks]
    history = VisitSequence.collate(
        [make_sequence(prepared, task.given, set(), model.statistics.covariates) for prepared, task in subject_tasks]
    ).to(device)
    longest = max(map(len, wanted))
    padded = torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in wanted], dtype=torch.float32)
    valid = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in wanted])
    images = model.generate(
        history,
        padded.to(device),
        target_valid=valid.to(device),
        subjects=[prepared.subject.id for prepared, _ in subject_tasks],
        seed=settings.seed,
        sample=settings.sample,
        sampler=settings.sampler,
        steps=settings.steps,
        guidance=settings.guidance,
        callback=callback,
    ).cpu()
    return [
        Generated(prepared, task, tuple(row), images[index, : len(row)])
        for index, ((prepared, task), row) in enumerate(zip(subject_tasks, wanted, strict=True))
    ]
