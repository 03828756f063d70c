"""Settings that make a training fit: what ``--set`` has to be given, and what is then needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from longigen.planning.estimate import Subject
from longigen.planning.sizes import Shape, Sizes, scaled

FACTORS = (0.75, 0.5, 0.25)
"""Sizes of the grid, along each axis, that are tried last."""


@dataclass(frozen=True)
class Proposal:
    """Settings that make a training fit.

    Attributes:
        changes: ``section.key=value``, as ``--set`` takes them.
        peak: predicted bytes at the peak.
        cost: what they cost, a sentence.
    """

    changes: tuple[str, ...]
    peak: int
    cost: str


def propose(subject: Subject, *, visit_fits: bool) -> Proposal | None:
    """Return the first settings that fit, or None if none of those that are tried do.

    In this order: smaller batches whose gradients are accumulated, so that as many pairs make a step; 16 bits on a GPU;
    recomputed activations; and at last a coarser grid, or training on boxes of it.

    Args:
        subject: what does not fit.
        visit_fits: whether the generation of a visit fits; if not, only a coarser grid is tried.
    """
    for changes, sizes, cost in _levers(subject):
        resized = replace(subject, sizes=sizes)
        if not visit_fits and (sizes.grid == subject.sizes.grid or not _generates(resized)):
            continue
        found = _largest_batch(resized, changes)
        if found is not None:
            return Proposal(*found, cost)
    return None


def _generates(subject: Subject) -> bool:
    """Return whether the generation of a visit fits."""
    return subject.of_generation(2).predicted_peak <= subject.device.usable


def _largest_batch(subject: Subject, changes: tuple[str, ...]) -> tuple[tuple[str, ...], int] | None:
    """Return the changes with the largest batch that fits, and its peak; None if one pair alone does not fit."""
    settings, limit = subject.training, subject.device.usable
    pairs = settings.batch_size * settings.gradient_accumulation

    def traced(batch: int) -> tuple[tuple[str, ...], int, int]:
        """Return the changes with a size of the batch, the peak, and the bytes that grow with the batch."""
        split = (f"training.batch_size={batch}", f"training.gradient_accumulation={pairs // batch}")
        every = (*changes, *(split if batch < settings.batch_size else ()))
        memory = subject.changed(*every).traced().memory
        return every, sum(memory.values()), sum(memory[part] for part in ("data", "activations", "temporary"))

    best, peak, each = traced(1)
    if peak > limit:
        return None
    possible = [size for size in range(settings.batch_size, 1, -1) if pairs % size == 0]
    for size in (size for size in possible if peak + (size - 1) * each <= limit):
        larger, its_peak, _ = traced(size)
        if its_peak <= limit:
            return larger, its_peak
    return best, peak


def _levers(subject: Subject) -> Iterator[tuple[tuple[str, ...], Sizes, str]]:
    """Yield changes, each with those before it, the sizes with them, and what they cost."""
    changes: tuple[str, ...] = ()
    yield changes, subject.sizes, "As many pairs make a step, so the result is about the same."
    if subject.device.cuda and subject.device.bf16 and subject.training.precision == "fp32":
        changes = (*changes, "training.mixed_precision=bf16")
        yield changes, subject.sizes, "bf16 rounds more; losses are about the same."
    if subject.can_checkpoint and not subject.recipe.configs["denoiser"]["checkpointing"]:
        changes = (*changes, "denoiser.checkpointing=true")
        yield (
            changes,
            subject.sizes,
            "Recomputed activations give the same result; a step takes about 1.4 times as long.",
        )
    if subject.device.cuda and subject.training.ema_device == "model":
        changes = (*changes, "training.ema_device=cpu")
        yield changes, subject.sizes, "Averaged weights on the CPU are the same; each step copies the weights there."
    for factor in FACTORS:
        coarser, sizes, cost = _coarser(subject, factor)
        yield (*changes, *coarser), sizes, cost


def _coarser(subject: Subject, factor: float) -> tuple[tuple[str, ...], Sizes, str]:
    """Return the changes to a coarser grid, or to boxes of a grid of the data's own voxels."""
    given, sizes = subject.recipe.configs["preprocess"], subject.sizes
    shape: Shape | None = given["shape"]
    smaller = None if shape is None else _listed(scaled(shape, factor))
    if given["fit"] == "resize":
        return (f"preprocess.shape={smaller}",), sizes.scaled(factor), "The grid is coarser: details are lost."
    if given["spacing"] is not None:
        spacing = "preprocess.spacing=" + _listed([round(step / factor, 3) for step in given["spacing"]])
        changes = (spacing, *([] if smaller is None else [f"preprocess.shape={smaller}"]))
        return changes, sizes.scaled(factor), "The voxels are larger: details are lost."
    box = scaled(sizes.box, factor)
    return (f"augment.crop={_listed(box)}",), replace(sizes, box=box), "Training sees boxes of the grid, not all of it."


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
