"""`Plan`: what a training needs: memory by part, time to the end, disk, and settings that make it fit."""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from longigen.components.base import parameters
from longigen.data.training_pairs import TrainingPairs
from longigen.evaluation.result_table import WIDTH, ResultTable, filled
from longigen.planning.device import GPU_CONTEXT, TIME_FACTOR, Device
from longigen.planning.estimate import Estimate, Subject
from longigen.planning.proposal import Proposal, propose
from longigen.planning.sizes import Sizes, by_axis
from longigen.planning.trace import PARTS, SINGLE
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.trainer import VALIDATION_PAIRS

CHECKPOINTS = 3
"""Checkpoints on the disk at once: the last two, and the one that is being written."""

DISK_SPEED = 3e8
"""Bytes of checkpoints that are written and summed per second: an assumption, as for a plain solid-state disk."""

FIGURE = 200_000
"""Bytes of a figure of a generated visit, about."""

LOADED = 8
"""Training pairs that are loaded to see how long that takes."""

FORWARD = 1 / 3
"""The share of a training step that a validation loss, without a backward pass, takes."""

LABELS: Mapping[str, str] = {
    "average": "averaged weights (EMA)",
    "optimiser": "optimiser (AdamW)",
    "temporary": "temporary",
    "overhead": "besides tensors",
    "cache": "cache of preprocessed visits",
    "checkpoints": f"checkpoints, {CHECKPOINTS} at once",
    "model": "exported model",
}
"""What parts of the memory and of the disk are called in a table."""

LIMIT = 60.0
"""Seconds that a plan spends at most on measuring a training step, and on a visit."""


@dataclass(frozen=True)
class Plan:
    """What a training needs.

    Attributes:
        recipe: the recipe with all changes.
        device: the device that it is planned for.
        sizes: grid and visits.
        parameters: number of weights that are trained, and of all, without an adversary.
        training: memory and time of one batch of training.
        visit: memory and time of the generation of one visit, by all its network evaluations.
        evaluations: network evaluations of a visit.
        seconds: time to the last step, by what takes it.
        disk: bytes on the disk, by what takes them.
        proposal: settings that make it fit; None if it fits, or if nothing was found.
        notes: what was assumed, and how far predictions may be off, a sentence each.
    """

    recipe: Recipe
    device: Device
    sizes: Sizes
    parameters: tuple[int, int]
    training: Estimate
    visit: Estimate
    evaluations: int
    seconds: Mapping[str, float]
    disk: Mapping[str, int]
    proposal: Proposal | None
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether training and generation fit into the device's memory, with the error of the prediction."""
        return max(_needed(self.training, self.device), _needed(self.visit, self.device)) <= self.device.memory

    def __repr__(self) -> str:
        """Return one line: the recipe, the device, memory, time, and whether it fits."""
        name = self.recipe.origin.get("recipe", "recipe")
        return (
            f"Plan({name} on {self.device.name}: {size(self.training.peak)} in training, "
            f"{duration(sum(self.seconds.values()))}, {'fits' if self.fits else 'does not fit'})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: memory and disk in bytes, times in seconds."""
        training = self.recipe.settings("training")
        return {
            "recipe": self._recipe,
            "device": {"name": self.device.name, "memory": self.device.memory, "here": self.device.here},
            "grid": list(self.sizes.grid),
            "visits": self.sizes.visits,
            "parameters": {"trained": self.parameters[0], "all": self.parameters[1]},
            "training": self.training.to_dict(),
            "generation": {"evaluations": self.evaluations, **self.visit.to_dict()},
            "seconds_per_step": self.training.seconds * training.gradient_accumulation,
            "seconds": dict(self.seconds),
            "disk": dict(self.disk),
            "fits": self.fits,
            "proposal": None if self.proposal is None else list(self.proposal.changes),
            "notes": list(self.notes),
        }

    @property
    def _recipe(self) -> dict[str, Any]:
        """The recipe as plain values, without the path that stands for data that are not there."""
        content = self.recipe.to_dict()
        if self.sizes.cache is None:
            content["data"].pop("path", None)
        return content

    def table(self, width: int = WIDTH) -> str:
        """Return the plan as text of at most `width` characters per line."""
        training, names = self.recipe.settings("training"), self.recipe.names
        head = (
            f"{names['conditioner']} + {names['denoiser']} + {names['sampler']}: {self.parameters[0] / 1e6:.2f} M "
            f"parameters to train, {self.parameters[1] / 1e6:.2f} M in all; grid {by_axis(self.sizes.grid)}, "
            f"{self.sizes.visits} visits; batches of {training.batch_size}, {training.precision}"
        )
        if training.gradient_accumulation > 1:
            head += f", {training.gradient_accumulation} to a step"
        columns = ["memory", "training", "generation"]
        rows: list[list[str] | None] = [
            [LABELS.get(part, part), size(self.training.memory[part]), size(self.visit.memory[part])]
            for part in PARTS
            if self.training.memory[part] or self.visit.memory[part]
        ]
        both = (self.training, self.visit)
        rows += [None, ["predicted peak", *(size(each.predicted_peak) for each in both)]]
        if any(each.measured for each in both):
            rows.append(["measured peak", *(size(each.measured and each.measured.peak) for each in both)])
        rows += [None, ["of the device", *[size(self.device.memory)] * 2]]
        memory = ResultTable(columns, rows).text(width)
        once = f"{'measured' if self.training.measured else 'predicted'} {duration(self.training.seconds)}"
        times = [
            ["one batch", once],
            ["one visit", f"{'measured' if self.visit.measured else 'predicted'} {duration(self.visit.seconds)}"],
            None,
            *([name, duration(seconds)] for name, seconds in self.seconds.items()),
            None,
            ["to the end", duration(sum(self.seconds.values()))],
        ]
        disk = [[LABELS.get(name, name), size(number)] for name, number in self.disk.items()]
        blocks = [
            filled(head, width),
            memory,
            ResultTable([f"time on {self.device.name}", ""], times).text(width),
            ResultTable(["disk", ""], disk).text(width),
            "\n".join(filled(note, width) for note in self.notes),
            "\n".join(filled(line, width) for line in self._verdict),
        ]
        return "\n\n".join(block for block in blocks if block)

    @property
    def _verdict(self) -> list[str]:
        needed = max(_needed(self.training, self.device), _needed(self.visit, self.device))
        against = f"up to {size(needed)} of {size(self.device.memory)}"
        if self.fits:
            return [f"It fits on {self.device.name}: {against}."]
        refused = f"It does not fit on {self.device.name}: {against}."
        if self.proposal is None:
            return [
                f"{refused} None of the settings that were tried makes it fit; take a larger device or fewer visits."
            ]
        options = " ".join(shlex.join(["--set", change]) for change in self.proposal.changes)
        return [f"{refused} These settings make it fit, in {size(self.proposal.peak)}:", options, self.proposal.cost]


def make_plan(
    recipe: Recipe,
    experiment: Experiment | None = None,
    *,
    device: Device | None = None,
    visits: int | None = None,
    limit: float = LIMIT,
    read: bool = False,
    update: Callable[[int, int], None] = lambda done, steps: None,
) -> Plan:
    """Plan a training.

    Args:
        recipe: the recipe.
        experiment: the recipe with its data; None plans by the recipe's own numbers.
        device: the device; by default that of this machine, where a step is measured if it is short enough.
        visits: visits of a subject, instead of those of the data.
        limit: seconds that measuring may take, of a training step and of a visit each.
        read: whether the data were read, so that the loading of pairs can be measured.
        update: called as ``update(done, total)`` after each part of the work.

    Raises:
        LongigenError: if the sizes are not known, the model has no weights, or it cannot be traced.
    """
    device = device or Device.this()
    sizes = Sizes.of(recipe, experiment, visits)
    subject = Subject(recipe, sizes, device)
    model = subject.model()
    for part in subject.training.freeze:
        getattr(model, part).requires_grad_(False)
    trained = sum(each.numel() for each in model.generator_parameters if each.requires_grad)
    total_steps = 4
    update(1, total_steps)
    training = subject.of_training(limit)
    update(2, total_steps)
    evaluations = model.sampler.steps
    visit = subject.of_generation(evaluations, limit)
    update(3, total_steps)
    whole = SINGLE * model.parameter_count
    adversary = 0 if model.denoiser.adversary is None else sum(p.numel() for p in model.denoiser.adversary.parameters())
    checkpoint = 2 * whole + SINGLE * (2 * trained + 3 * adversary)
    plan = Plan(
        recipe,
        device,
        sizes,
        (trained, model.parameter_count),
        training,
        visit,
        evaluations,
        _seconds(
            subject, training, visit, checkpoint + whole, _pair_seconds(experiment) if read and experiment else None
        ),
        _disk(subject, checkpoint, whole),
        None,
        (),
    )
    notes = tuple(_notes(subject, plan, limit))
    if not plan.fits:
        visit_fits = _needed(visit, device) <= device.memory
        plan = replace(plan, proposal=propose(subject, visit_fits=visit_fits))
    update(total_steps, total_steps)
    return replace(plan, notes=notes)


def _pair_seconds(experiment: Experiment) -> float:
    """Return how long it takes to load a training pair from the cache."""
    settings, recipe = experiment.training, experiment.recipe
    pairs = TrainingPairs(
        experiment.cohort.part("train"),
        length=LOADED,
        seed=settings.seed,
        causal=recipe.component("conditioner").causal,
        covariates=experiment.cohort.covariates,
        augment=recipe.settings("augment").augment,
        missing=settings.missing,
        last=settings.last,
        single=settings.single,
    )
    started = time.perf_counter()
    for number in range(LOADED):
        pairs[number]
    return (time.perf_counter() - started) / LOADED


def _seconds(
    subject: Subject, training: Estimate, visit: Estimate, written: int, pair: float | None
) -> dict[str, float]:
    """Return the seconds to the last step, by what takes them.

    Args:
        subject: what is planned.
        training: what a batch of training needs.
        visit: what the generation of a visit needs.
        written: bytes of a checkpoint and the exported model.
        pair: seconds to load a training pair; None if that is not known.
    """
    settings = subject.training
    batches = settings.steps * settings.gradient_accumulation
    ends = {
        key: -(-settings.steps // getattr(settings, f"{key}_every")) for key in ("validate", "sample", "checkpoint")
    }
    found = {
        "training": training.seconds * batches,
        "validation": ends["validate"] * VALIDATION_PAIRS * FORWARD * training.seconds / settings.batch_size,
        "figures": ends["sample"] * visit.seconds,
        "checkpoints": ends["checkpoint"] * written / DISK_SPEED,
    }
    if pair is not None:  # workers load while the device computes
        batch = pair * settings.batch_size
        waiting = max(0.0, batch / settings.workers - training.seconds) if settings.workers else batch
        found["loading"] = waiting * batches
    if settings.own_visits:
        found["own visits"] = settings.own_visits * settings.batch_size * batches * visit.seconds
    return found


def _disk(subject: Subject, checkpoint: int, model: int) -> dict[str, int]:
    """Return the bytes on the disk, by what takes them."""
    settings = subject.training
    cache = subject.sizes.cache
    return {
        **({} if cache is None else {"cache": cache}),
        "checkpoints": CHECKPOINTS * checkpoint,
        "model": model,
        "figures": FIGURE * -(-settings.steps // settings.sample_every),
    }


def _notes(subject: Subject, plan: Plan, limit: float) -> list[str]:
    """Return what was assumed, and how far predictions may be off."""
    notes, device, settings = list(subject.sizes.notes), subject.device, subject.training
    notes.append(f"A batch is counted with the longest history, {subject.sizes.visits - 1} visits; most are shorter.")
    if plan.evaluations > 1:
        notes.append(f"A visit is one subject's, by {plan.evaluations} network evaluations.")
    if device.cuda and settings.precision == "bf16" and not device.bf16:
        notes.append(f"{device.name} does not compute in bf16 at speed; --set training.mixed_precision=fp16 suits it.")
    slow = not device.cuda and settings.precision != "fp32"
    if slow:
        notes.append("Few CPUs compute in 16 bits at speed; --set training.mixed_precision=no suits them.")
    if device.here and plan.training.measured is None:
        why = (
            "16 bits may be slow here" if slow else f"two would take more than {limit:.0f} s or the memory that is free"
        )
        notes.append(f"No step was measured, since {why}.")
    if device.cuda:
        notes.append(f"Predicted peaks are of tensors, within {device.error:.0%} of measured ones (docs/results/plan).")
    else:
        notes.append(
            f"Predicted peaks are of the process, which may need up to {1 + device.error:g} times as much: gaps in the "
            "heap differ from run to run (docs/results/plan)."
        )
    if plan.training.measured is None:
        notes.append(f"Predicted times are within a factor of {TIME_FACTOR:g} (docs/results/plan).")
    loading = (
        "" if "loading" in plan.seconds else "; the loading of data is not counted ('longigen train --dry-run' is)"
    )
    notes.append(f"Checkpoints are assumed to be written at {DISK_SPEED / 1e6:.0f} MB/s{loading}.")
    return notes


def _needed(estimate: Estimate, device: Device) -> float:
    """Return the bytes that must be there: of a prediction, with its error."""
    known = estimate.measured is not None and estimate.measured.peak is not None
    return estimate.peak * (1 if known else 1 + device.error) + (GPU_CONTEXT if device.cuda else 0)


def stand_in(recipe: str) -> str | None:
    """Return what stands for the data of a recipe that needs a path, where there are none; None if it needs none.

    Raises:
        LongigenError: if there is no such recipe.
    """
    name = str((Catalog().recipe(recipe).content.get("data") or {}).get("name", ""))
    path = parameters(registry.load("dataset", name)).get("path")
    return f"{name}:." if path is not None and path.required else None


def size(number: float | None) -> str:
    """Return bytes as text, in GB, or in MB below one."""
    if number is None:
        return "-"
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Return seconds as text, in the largest unit of which there is one."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{1000 * seconds:.1f} ms"
