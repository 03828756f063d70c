"""Generate the visits of a batch of subjects."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from torch import Tensor

from longigen.components.base import Settings
from longigen.components.deformation import warp
from longigen.components.ranges import Evaluations, GuidanceWeight, Range, Seed
from longigen.components.sampler import Sampler
from longigen.components.visit_sequence import VisitSequence
from longigen.data.dataset import Subject
from longigen.data.preprocess import Prepared
from longigen.data.tables import parse_number
from longigen.data.training_pairs import LARGEST, make_sequence, same_to_model
from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.models.compilation import Compile
from longigen.models.settings import Order
from longigen.models.tasks import Task
from longigen.registry.registry import registry
from longigen.utils.precision import ComputingType, Precision, computing_type
from longigen.utils.time_units import time_text

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel

SubjectTask = tuple[Prepared, Task]
"""A prepared subject, and which of its visits are given and which are to be generated."""


ROUNDING = 1e-5
"""A smaller difference of two images, in model intensities, is an error of rounding and no change."""


@dataclass(frozen=True)
class GeneratedVisits:
    """The visits that a model generated for a batch; see `LongitudinalModel.generate_visits`.

    Attributes:
        images: (B, K, C, W, H, D), in [-1, 1]; background where a target is padding.
        displacement: u (B, K, 3, W, H, D), in voxels of the model's grid, of each visit to the last given visit before
            it: what is at p comes from p + u(p). None if the denoiser does not move the last visit.
    """

    images: Tensor
    displacement: Tensor | None


@dataclass(frozen=True)
class Generated:
    """The visits that a model generated for one task.

    Attributes:
        prepared: the subject.
        task: which visits were given and which were generated; its targets are empty if the user chose the times, and
            then there are no true images.
        times: times of the K generated visits, ascending, in the data set's unit.
        images: images of the generated visits (K, C, W, H, D), in [-1, 1].
        displacement: where each voxel comes from in the last given visit (K, 3, W, H, D), in voxels of the model's
            grid; None if the denoiser does not move that visit.
    """

    prepared: Prepared
    task: Task
    times: tuple[float, ...]
    images: Tensor
    displacement: Tensor | None = None

    @property
    def model_times(self) -> list[float]:
        """The times of the generated visits, in the model's unit."""
        return [self.prepared.model_time(time) for time in self.times]

    def given_before(self, index: int) -> int:
        """Return the index, among the subject's visits, of the last given visit before the generated visit `index`."""
        times = self.prepared.subject.times
        return max(given for given in self.task.given if times[given] < self.times[index])

    def volume(self, index: int, *, detail: bool = True) -> Volume:
        """Return the generated visit `index` as it is written for a user, float32, in the subject's intensities.

        Args:
            index: of the generated visit.
            detail: the last given visit's own voxels, moved and changed as the model says (`Prepared.restore_change`),
                on that visit's grid; otherwise the bare image, interpolated to the first visit's grid.
        """
        if not detail:
            return self.prepared.restore(self.images[index])
        reference = self.given_before(index)
        last = self.prepared.visit(reference)
        displacement = None if self.displacement is None else self.displacement[index]
        moved = last if displacement is None else warp(last[None], displacement[None])[0]
        change = self.images[index] - moved
        change = torch.where(change.abs() > ROUNDING, change, 0.0)
        return self.prepared.restore_change(change, displacement, reference)

    def true(self, index: int) -> Tensor:
        """Return the true image (C, W, H, D) of the generated visit `index`."""
        return self.prepared.visit(self.task.targets[index])


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Settings):
    """How to generate visits; None means the model's own sampler, number of evaluations, guidance weight or order.

    Args:
        sampler: sampler to use.
        steps: network evaluations per visit.
        guidance: weight w ≥ 0 of classifier-free guidance.
        order: whether each visit is generated from the given ones alone, or joins the history of the next; see
            `ModelSettings`.
        precision: the type that the networks compute in; see `longigen.utils.precision.computing_type`.
        compile: which parts of the networks are compiled; see `longigen.models.compilation`.
        seed: random seed of the sampling noise.
        sample: index of this sample among several samples of the same visits; None for the central forecast, which
            starts from zeros instead of noise (see `Sampler.central`).

    Raises:
        LongigenError: for a value that is not allowed.
    """

    label = ""  # messages name only the field, which users know as an argument of `generate`

    sampler: Sampler | None = None
    steps: Evaluations | None = None
    guidance: GuidanceWeight | None = None
    order: Order | None = None
    precision: Precision = "auto"
    compile: Compile = "none"
    seed: Seed = 0
    sample: Annotated[int, Range(0)] | None = 0

    def sampler_of(self, model: "LongitudinalModel") -> Sampler:
        """Return the sampler to use: the chosen one, or the model's own."""
        return self.sampler or model.sampler

    def computing_type_of(self, model: "LongitudinalModel") -> ComputingType:
        """Return the type that the model's networks compute in, on the device where the model is."""
        return computing_type(self.precision, model.device, model.dtype)

    def numbered(self, samples: int, model: "LongitudinalModel") -> list[Self]:
        """Return the settings of each of several samples: of a single one, the central forecast if there is one."""
        if samples == 1 and self.sampler_of(model).central:
            return [replace(self, sample=None)]
        return [replace(self, sample=sample) for sample in range(samples)]


def generation_settings(
    sampler: Sampler | str | None,
    steps: int | None,
    guidance: float | None,
    order: Order | None,
    precision: Precision,
    seed: int,
    compile: Compile = "none",
) -> GenerationSettings:
    """Return settings whose sampler may be given by its name.

    Raises:
        LongigenError: for a value that is not allowed, or a sampler that there is not.
    """
    chosen = registry.make("sampler", sampler) if isinstance(sampler, str) else sampler
    return GenerationSettings(
        sampler=chosen,
        steps=steps,
        guidance=guidance,
        order=order,
        precision=precision,
        compile=compile,
        seed=seed,
    )


def generation_metadata(model: "LongitudinalModel", settings: GenerationSettings) -> dict[str, Any]:
    """Return evaluations per visit, guidance weight, order, precision and seed, with the model's defaults filled in."""
    sampler = settings.sampler_of(model)
    return {
        "steps": sampler.steps if settings.steps is None else settings.steps,
        "guidance": model.settings.guidance if settings.guidance is None else settings.guidance,
        "order": settings.order or model.settings.order,
        "precision": settings.computing_type_of(model),
        "seed": settings.seed,
    }


def recorded_generation(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return `generation_metadata` as a file recorded it; earlier versions had no precision and computed in fp32."""
    return {"precision": "fp32", **recorded}


def target_times(subject: Subject, given: Sequence[int], requested: Sequence[str | float], unit: str) -> list[float]:
    """Parse and check the times to generate; return them ascending.

    Args:
        subject: the subject.
        given: indices of the given visits.
        requested: times in the subject's unit; ``"+1"`` is one unit after its last visit.
        unit: unit of time, for error messages.

    Raises:
        LongigenError: if a time is not a number, not after the subject's first visit, or the time of a given visit, or
            a model cannot read it or tell it from another one.
    """
    visit_times = list(subject.times)
    times = sorted({_parse_time(time, visit_times[-1]) for time in requested})
    for time in times:
        if time <= visit_times[0] or time in [visit_times[index] for index in given]:
            single = " With --setting single only the first visit is given." if len(given) > 1 else ""
            first, every = time_text(visit_times[0]), ", ".join(map(time_text, visit_times))
            raise LongigenError(
                f"Time {time_text(time)} cannot be generated for subject {subject.id}: it must lie after the first "
                f"visit ({first}) and differ from the times of the given visits; the subject's visits are at {every} "
                f"{unit}.{single}"
            )
    large = [time for time in (*times, *visit_times) if abs(time) > LARGEST]
    if large:
        raise LongigenError(
            f"The time {time_text(large[0])} of subject {subject.id} is larger than a model reads, {LARGEST:g}; "
            "correct it, or its unit."
        )
    same = same_to_model([*times, *(visit_times[index] for index in given)])
    if same is not None:
        raise LongigenError(
            f"The times {' and '.join(map(time_text, same))} of subject {subject.id} are one to a model, which reads "
            "times in single precision; choose times further apart, or count them from a later origin."
        )
    return times


def _parse_time(text: str | float, last: float) -> float:
    if isinstance(text, str):
        value = parse_number(text.strip())
    else:
        value = float(text) if isinstance(text, int | float) and math.isfinite(text) else None
    if value is None:
        raise LongigenError(
            f"A time to generate must be a number such as 3.5, or +1 for one unit after the last visit, got {text!r}."
        )
    relative = isinstance(text, str) and text.strip().startswith("+")
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
    """Generate the visits of several tasks in one batch; tasks whose subjects have another shape in one of their own.

    So no volume is padded, and a result does not depend on the others of the batch.

    Args:
        model: the model, in ``eval()`` mode.
        subject_tasks: the subjects and the task of each.
        settings: sampler, network evaluations, guidance weight, order and seed.
        times: times to generate for each subject, in its unit; by default those of the tasks' targets.
        device: device to compute on; by default the model's own.
        callback: called as ``callback(done, total)`` after each network evaluation.
    """
    settings = settings or GenerationSettings()
    device = device or model.device
    targets = times or [[p.subject.times[i] for i in task.targets] for p, task in subject_tasks]
    shapes = [prepared.placement.shape for prepared, _ in subject_tasks]
    if len(set(shapes)) > 1:
        return _by_shape(model, subject_tasks, shapes, settings, targets, device, callback)
    history = VisitSequence.collate(
        [make_sequence(prepared, task.given, set(), model.statistics.covariates) for prepared, task in subject_tasks]
    ).to(device)
    longest = max(map(len, targets))
    asked = [[prepared.model_time(t) for t in row] for (prepared, _), row in zip(subject_tasks, targets, strict=True)]
    padded = torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in asked], dtype=torch.float32)
    valid = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in targets])
    visits = model.generate_visits(
        history,
        padded.to(device),
        settings,
        target_valid=valid.to(device),
        subjects=[prepared.subject.id for prepared, _ in subject_tasks],
        callback=callback,
    )
    images = visits.images.cpu()
    displacement = None if visits.displacement is None else visits.displacement.cpu()
    return [
        Generated(
            prepared,
            task,
            tuple(row),
            images[index, : len(row)],
            None if displacement is None else displacement[index, : len(row)],
        )
        for index, ((prepared, task), row) in enumerate(zip(subject_tasks, targets, strict=True))
    ]


def _by_shape(
    model: "LongitudinalModel",
    subject_tasks: Sequence[SubjectTask],
    shapes: Sequence[tuple[int, int, int]],
    settings: GenerationSettings,
    times: Sequence[Sequence[float]],
    device: torch.device | str,
    callback: Callable[[int, int], None] | None,
) -> list[Generated]:
    """Generate the visits of the tasks of each shape (W, H, D) in a batch of their own; return them in order."""
    results: dict[int, Generated] = {}
    distinct = list(dict.fromkeys(shapes))
    for place, shape in enumerate(distinct):
        rows = [row for row, other in enumerate(shapes) if other == shape]
        generated = predict_batch(
            model,
            [subject_tasks[row] for row in rows],
            settings=settings,
            times=[times[row] for row in rows],
            device=device,
            callback=callback
            and (lambda done, total, place=place: callback(place * total + done, len(distinct) * total)),
        )
        results |= dict(zip(rows, generated, strict=True))
    return [results[row] for row in range(len(subject_tasks))]
