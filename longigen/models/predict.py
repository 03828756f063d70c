"""Generate the visits of a batch of subjects."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from torch import Tensor

from longigen.components.base import Settings
from longigen.components.deformation import warp
from longigen.components.ranges import Evaluations, GuidanceWeight, NoiseLevels, Range, Seed
from longigen.components.sampler import Sampler
from longigen.components.visit_sequence import VisitSequence
from longigen.data.dataset import Subject
from longigen.data.preprocess import Prepared
from longigen.data.tables import parse_number
from longigen.data.training_pairs import LARGEST, make_sequence, same_to_model
from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.models.batch_size import BatchSize, Size
from longigen.models.channels import ChannelTask, channel_tasks
from longigen.models.compilation import Compile
from longigen.models.guidance import check_interval
from longigen.models.settings import Order
from longigen.models.tasks import Task
from longigen.registry.registry import registry
from longigen.utils.precision import ComputingType, Precision, computing_type
from longigen.utils.time_units import time_text

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel

SubjectTask = tuple[Prepared, Task]
"""A prepared subject, and which of its visits are given and which are to be generated."""

Draw = tuple[int, int | None]
"""One sample of a subject: its row in the batch, and the index of the sample; None for the central forecast."""

ROUNDING = 1e-5
"""A smaller difference of two images, in model intensities, is an error of rounding and no change."""


@dataclass(frozen=True)
class GeneratedVisits:
    """The visits that a model generated for a batch; see `LongitudinalModel.generate_visits`.

    Attributes:
        images: (B, K, C, W, H, D) for B subjects or draws, in [-1, 1]; background where a target is padding.
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
        part: which part of a whole task this is, if the visits are of one channel of several; see `by_channel`.
    """

    prepared: Prepared
    task: Task
    times: tuple[float, ...]
    images: Tensor
    displacement: Tensor | None = None
    part: ChannelTask | None = None

    @property
    def channel(self) -> ChannelTask:
        """The channel that the visits are of, for a subject with one image per visit or the parts of `by_channel`."""
        return self.part or channel_tasks(self.prepared, self.task)[0]

    def by_channel(self, *, with_true: bool = False) -> "list[Generated]":
        """Return the visits of each channel alone, with images of one channel; itself if there is one.

        Each has the times at which the channel is generated, see `ChannelTask`.

        Args:
            with_true: leave out the times at which the true visit lacks the channel.
        """
        if not self.prepared.subject.channels:
            return [self]
        found = []
        for part in channel_tasks(self.prepared, self.task):
            kept = [place for place, time in enumerate(self.times) if part.reaches(time)]
            if with_true:
                kept = [place for place in kept if part.has(self.task.targets[place])]
            if not kept:
                continue
            task = part.task if with_true else replace(part.task, targets=())  # else they are not those of the times
            images = self.images[kept, part.number : part.number + 1]
            times = tuple(self.times[place] for place in kept)
            displacement = None if self.displacement is None else self.displacement[kept]
            found.append(Generated(part.prepared, task, times, images, displacement, part))
        return found

    @property
    def model_times(self) -> list[float]:
        """The times of the generated visits, in the model's unit."""
        return [self.prepared.model_time(time) for time in self.times]

    def given_before(self, index: int) -> int:
        """Return the index, among the subject's visits, of the last given visit before the generated visit `index`."""
        return self.task.given_before(self.times[index], self.prepared.subject.times)

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


@torch.no_grad()
def coded(model: "LongitudinalModel", generated: Generated) -> Generated:
    """Return the true visits of a task as if the model had generated them: encoded and decoded by its codec."""
    true = torch.stack([generated.true(index) for index in range(len(generated.times))])
    return replace(generated, images=model.codec.round_trip(true.to(model.device)).cpu(), displacement=None)


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Settings):
    """How to generate visits; None means the model's own sampler, number of evaluations, guidance weight or order.

    Args:
        sampler: sampler to use, or its name.
        steps: network evaluations per visit.
        guidance: weight w ≥ 0 of classifier-free guidance.
        guidance_interval: the lowest and the highest λ with guidance; see `longigen.models.guidance`.
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

    sampler: Sampler | str | None = None
    steps: Evaluations | None = None
    guidance: GuidanceWeight | None = None
    guidance_interval: NoiseLevels | None = None
    order: Order | None = None
    precision: Precision = "auto"
    compile: Compile = "none"
    seed: Seed = 0
    sample: Annotated[int, Range(0)] | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval(self.guidance_interval)
        if isinstance(self.sampler, str):
            registry.load("sampler", self.sampler)  # so that an unknown name is refused before a model is loaded

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the settings among the arguments of a function that has each of them under its name."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls) if field.name in arguments})

    def sampler_of(self, model: "LongitudinalModel") -> Sampler:
        """Return the sampler to use: the chosen one, or the model's own, which may leave it to a solver.

        The model's own sampler that is chosen by its name has the model's configuration; others have their defaults.

        Raises:
            LongigenError: if it starts elsewhere than the sampler that the model was trained with.
        """
        chosen = model.sampler.solver if self.sampler is None else self.sampler
        if isinstance(chosen, str):
            own = registry.load("sampler", chosen) is type(model.sampler)
            chosen = model.sampler if own else registry.make("sampler", chosen)
        sampler = chosen or model.sampler
        if sampler.starts != model.sampler.starts:
            raise LongigenError(
                f"The sampler {_name(sampler)} starts from {sampler.starts}, and the model was trained to start from "
                f"{model.sampler.starts}; leave the sampler out to use {_name(model.sampler)}."
            )
        return sampler

    def steps_of(self, model: "LongitudinalModel") -> int:
        """Return the number of network evaluations per visit: the chosen one, or the sampler's own."""
        by_solver = model.sampler.solver_steps if self.sampler is None and model.sampler.solver else None
        return self.steps or by_solver or self.sampler_of(model).steps

    def guidance_interval_of(self, model: "LongitudinalModel") -> NoiseLevels | None:
        """Return the noise levels with guidance: the chosen ones, or the model's own."""
        return model.settings.guidance_interval if self.guidance_interval is None else self.guidance_interval

    def computing_type_of(self, model: "LongitudinalModel") -> ComputingType:
        """Return the type that the model's networks compute in, on the device where the model is."""
        return computing_type(self.precision, model.device, model.dtype)

    def numbers(self, samples: int, model: "LongitudinalModel") -> list[int | None]:
        """Return the index of each of several samples: of a single one, None if there is a central forecast."""
        return [None] if samples == 1 and self.sampler_of(model).central else list(range(samples))


def generation_metadata(model: "LongitudinalModel", settings: GenerationSettings) -> dict[str, Any]:
    """Return how visits are generated: sampler, evaluations, guidance, order, precision and seed; defaults filled in.

    The sampler is None for the one that the model was trained with.
    """
    sampler, interval = settings.sampler_of(model), settings.guidance_interval_of(model)
    other = None if sampler is model.sampler else sampler
    return {
        "sampler": other and _name(other),
        "steps": settings.steps_of(model),
        "guidance": model.settings.guidance if settings.guidance is None else settings.guidance,
        "guidance_interval": None if interval is None else list(interval),  # as JSON has it
        "order": settings.order or model.settings.order,
        "precision": settings.computing_type_of(model),
        "seed": settings.seed,
    }


def _name(sampler: Sampler) -> str:
    """Return the name of a sampler, or of its class, if a user made one that is not registered."""
    try:
        return registry.name_of(sampler)
    except LongigenError:
        return type(sampler).__qualname__


def recorded_generation(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return `generation_metadata` as a file recorded it; earlier versions guided at all levels, and in fp32.

    They did not record the sampler, which counts as the one of training.
    """
    return {"sampler": None, "guidance_interval": None, "precision": "fp32", **recorded}


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


def predict_samples(
    model: "LongitudinalModel",
    subject_tasks: Sequence[SubjectTask],
    settings: GenerationSettings,
    *,
    samples: int = 1,
    times: Sequence[Sequence[float]] | None = None,
    batch_size: Size | BatchSize = 4,
    callback: Callable[[int, int], None] | None = None,
) -> Iterator[Generated]:
    """Yield the samples of each task, all of the first task's first; several tasks and samples make a batch.

    Samples of one task in a batch share the conditioning; see `LongitudinalModel.generate_visits`.

    Args:
        model: the model, in ``eval()`` mode.
        subject_tasks: the subjects and the task of each.
        settings: sampler, network evaluations, guidance weight, order and seed; samples are numbered from 0.
        samples: number of samples of each task; a single one is the central forecast, if the sampler has one.
        times: times to generate for each subject, in its unit; by default those of the tasks' targets.
        batch_size: number of volumes generated at once, each a sample of a subject's visit; see `BatchSize`.
        callback: called as ``callback(done, total)`` after each network evaluation, counting those of each volume as if
            all volumes had as many.

    Raises:
        LongigenError: if memory does not hold the batch.
    """
    numbers = settings.numbers(samples, model)
    rows = [(task, number) for task in range(len(subject_tasks)) for number in numbers]
    batches, start = BatchSize.of(batch_size, model.device), 0

    def generate(size: int) -> list[Generated]:
        batch = rows[start : start + size]

        def progress(done: int, total: int) -> None:
            if callback is not None:
                callback(start * total + len(batch) * done, len(rows) * total)

        return predict_batch(
            model,
            [subject_tasks[task] for task, _ in batch],
            settings=settings,
            samples=[number for _, number in batch],
            times=None if times is None else [times[task] for task, _ in batch],
            callback=progress,
        )

    while start < len(rows):
        generated = batches.run(generate)
        yield from generated
        start += len(generated)


def predict_batch(
    model: "LongitudinalModel",
    subject_tasks: Sequence[SubjectTask],
    *,
    settings: GenerationSettings | None = None,
    samples: Sequence[int | None] | None = None,
    times: Sequence[Sequence[float]] | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Generate the visits of several tasks in one batch; tasks whose subjects have another shape in one of their own.

    So no volume is padded, and a result does not depend on the others of the batch.

    Args:
        model: the model, in ``eval()`` mode.
        subject_tasks: the subjects and the task of each; a task stands here once for each of its samples.
        settings: sampler, network evaluations, guidance weight, order and seed.
        samples: index of the sample of each task; by default that of the settings.
        times: times to generate for each subject, in its unit; by default those of the tasks' targets.
        device: device to compute on; by default the model's own.
        callback: called as ``callback(done, total)`` after each network evaluation.
    """
    settings = settings or GenerationSettings()
    device = device or model.device
    targets = times or [[p.subject.times[i] for i in task.targets] for p, task in subject_tasks]
    numbers = [settings.sample] * len(subject_tasks) if samples is None else samples
    shapes = [prepared.placement.shape for prepared, _ in subject_tasks]
    if len(set(shapes)) > 1:
        return _by_shape(model, subject_tasks, shapes, settings, numbers, targets, device, callback)
    rows: dict[tuple[int, Task, tuple[float, ...]], int] = {}
    draws, distinct = [], []
    for (prepared, task), row, number in zip(subject_tasks, targets, numbers, strict=True):
        key = id(prepared), task, tuple(row)
        if key not in rows:
            rows[key] = len(rows)
            distinct.append((prepared, task, row))
        draws.append((rows[key], number))
    history = VisitSequence.collate(
        [make_sequence(prepared, task.given, set(), model.statistics.covariates) for prepared, task, _ in distinct]
    ).to(device)
    longest = max(map(len, targets))
    asked = [[prepared.model_time(time) for time in row] for prepared, _, row in distinct]
    padded = torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in asked], dtype=torch.float32)
    valid = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in asked])
    visits = model.generate_visits(
        history,
        padded.to(device),
        settings,
        target_valid=valid.to(device),
        subjects=[prepared.subject.id for prepared, _, _ in distinct],
        draws=draws,
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
    samples: Sequence[int | None],
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
            samples=[samples[row] for row in rows],
            times=[times[row] for row in rows],
            device=device,
            callback=callback
            and (lambda done, total, place=place: callback(place * total + done, len(distinct) * total)),
        )
        results |= dict(zip(rows, generated, strict=True))
    return [results[row] for row in range(len(subject_tasks))]
