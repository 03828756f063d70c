"""Train a codec on patches of the images of a data set."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from longigen.components.base import Settings
from longigen.components.ranges import Count, GridSize, Range, Seed
from longigen.data.cohort import Cohort
from longigen.data.preprocess import Prepared
from longigen.data.seen import seen_hashes
from longigen.errors import LongigenError, LongigenWarning
from longigen.models.longitudinal import total
from longigen.models.network_codec import NetworkCodec
from longigen.utils.files import writable_folder
from longigen.utils.processes import processes
from longigen.utils.progress import Progress, silent
from longigen.utils.randomness import derived_generator

MEASURED = 16
"""The number of visits of a part on which the scale and the error are measured."""


@dataclass(frozen=True, kw_only=True)
class CodecSettings(Settings):
    """Settings of the training of a codec.

    Args:
        steps: number of optimiser steps.
        batch_size: number of patches per step.
        learning_rate: peak learning rate of AdamW, which rises over a tenth of the steps and falls to 0.
        patch: W, H, D in voxels of the patches, at most; rounded up to a multiple of the codec's factor.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        seed: random seed of weights, patches and noise.
    """

    steps: Count = 2000
    batch_size: Count = 2
    learning_rate: Annotated[float, Range(0)] = 1e-3
    patch: tuple[GridSize, GridSize, GridSize] = (48, 48, 48)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    seed: Seed = 0


class Patches(Dataset[Tensor]):
    """Random patches (C, W, H, D) of preprocessed visits, in [-1, 1].

    Args:
        subjects: the subjects.
        settings: size and number of the patches, and the seed.
        factor: the number that their sizes are a multiple of.
    """

    def __init__(self, subjects: Sequence[Prepared], settings: CodecSettings, factor: int) -> None:
        self.visits = [(each, index) for each in subjects for index in range(len(each.subject.visits))]
        self.settings = settings
        self.size: list[int] = [factor * max(1, -(-length // factor)) for length in settings.patch]
        self.factor = factor

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch_size

    def __getitem__(self, number: int) -> Tensor:
        generator = derived_generator(self.settings.seed, "codec", number)
        prepared, index = self.visits[int(torch.randint(len(self.visits), (1,), generator=generator))]
        image = prepared.visit(index)
        for axis, length in enumerate(self.size, start=1):
            rest = image.shape[axis] - length
            start = int(torch.randint(max(rest, 0) + 1, (1,), generator=generator))
            if rest >= 0:
                image = image.narrow(axis, start, length)
            else:  # the last voxels are repeated, as a codec does for sizes that are no multiple of its factor
                places = torch.arange(length).clamp(max=image.shape[axis] - 1)
                image = image.index_select(axis, places)
        return image.clone()


def train_codec(
    codec: NetworkCodec, cohort: Cohort, settings: CodecSettings, *, progress: Progress = silent
) -> dict[str, float]:
    """Train a codec on the training subjects; return its error on those for validation, as `measured` does.

    Afterwards its scale is measured on training visits and its error on validation visits, whole images both.

    Args:
        codec: a network that is not composed yet.
        cohort: the data, preprocessed and split; the test part is not used.
        settings: settings of the training.
        progress: progress bar.

    Raises:
        LongigenError: if a loss is NaN, a visit cannot be read, or several processes were started.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if processes().num_processes > 1:
        raise LongigenError("A codec is trained in one process; start 'longigen train-codec' without a launcher.")
    if cohort.channels:
        raise LongigenError(
            f"A codec is trained on one image per visit, and these have the channels {', '.join(cohort.channels)}; "
            "give data of one of them."
        )
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        codec.compose(1).requires_grad_(True).train()
        adversary = codec.make_adversary()
    training, validation = cohort.part("train"), cohort.part("validation") or cohort.part("train")
    patches = Patches(training, settings, codec.factor)
    loader = DataLoader(patches, batch_size=settings.batch_size)
    networks = [part.to(accelerator.device) for part in (codec, adversary) if part is not None]
    optimizers = [
        accelerator.prepare(torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)) for network in networks
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer.optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
        )
        for optimizer in optimizers
    ]
    with progress("training the codec") as update:
        for step, images in enumerate(accelerator.prepare(loader), start=1):
            note = ""
            for place, optimizer in enumerate(optimizers):
                generator = derived_generator(settings.seed, "codec noise", step)
                for network in networks:
                    network.requires_grad_(network is networks[place])
                with accelerator.autocast():
                    losses = (
                        codec.adversary_losses(images, generator, networks[1])
                        if place
                        else codec.losses(images, generator, None if adversary is None else networks[1])
                    )
                loss = total(losses).mean()
                if not bool(torch.isfinite(loss)):
                    raise LongigenError(
                        f"The loss of step {step} is {loss.item()}; train with a lower training.learning_rate."
                    )
                optimizer.zero_grad()
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(networks[place].parameters(), 1.0)
                optimizer.step()
                schedules[place].step()
                if place == 0:
                    note = f"l1 {losses['l1'].mean().item():.4f}"
            update(step, settings.steps, note)
            if step == settings.steps:
                break
    codec.compose(1)
    return measured(codec, training, validation)


def measured(codec: NetworkCodec, training: Sequence[Prepared], validation: Sequence[Prepared]) -> dict[str, float]:
    """Measure the scale of codes on training visits and the error on validation visits; return the error and others.

    ``rmse`` is the error over all voxels in model intensities, ``mean`` that of an image that has its mean everywhere.
    """
    device = codec.scale.device

    def visits(subjects: Sequence[Prepared]) -> list[Tensor]:
        return [prepared.visit(0)[None].to(device) for prepared in subjects[:MEASURED]]

    codec.measure(visits(training))
    images = visits(validation)
    codec.measure_error(images)
    spread = torch.stack([image.double().var(correction=0) for image in images]).mean().sqrt()
    return {"rmse": float(codec.error or 0.0), "mean": float(spread)}


def fit(
    codec: NetworkCodec, cohort: Cohort, settings: CodecSettings, out: Path, *, progress: Progress = silent
) -> NetworkCodec:
    """Train a codec on a data set and save it with what it was trained on; see `train_codec`.

    Raises:
        LongigenError: as `train_codec`; also if the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LongigenError(f"{out} exists and is not empty; give a new folder with --out.")
    writable_folder(out)
    if not cohort.split.validation:
        warnings.warn(
            "No subject is set apart for validation, so the error of the round trip is that of training subjects.",
            LongigenWarning,
            stacklevel=2,
        )
    if not codec.local:
        warnings.warn(
            f"{codec} normalises over the whole image, so what it learns on patches differs on whole images; give "
            "patches as large as memory holds, with --set training.patch=.",
            LongigenWarning,
            stacklevel=2,
        )
    cohort.read([*cohort.part("train"), *cohort.part("validation")])
    errors = train_codec(codec, cohort, settings, progress=progress)
    codec.training_record = _record(cohort, settings, errors)
    codec.save(out)
    return codec


def _record(cohort: Cohort, settings: CodecSettings, errors: Mapping[str, float]) -> dict[str, Any]:
    """Return what a codec was trained on, as a model's configuration has it, without ids, paths or free text."""
    training = {"steps": settings.steps, "settings": vars(settings), "errors": dict(errors)}
    data = cohort.provenance
    used = [*cohort.part("train"), *cohort.part("validation")]
    data["seen"] = seen_hashes(used, data["fingerprint"])  # a model on its codes has seen them too
    return {"data": data, "preprocess": cohort.pipeline.config, "training": training}
