"""Train a segmenter on the true label maps of a data set."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from longigen.components.base import Settings
from longigen.components.ranges import Count, GridSize, Range, Seed
from longigen.data.dataset import Dataset as Source
from longigen.data.dataset import Subject, Visit
from longigen.data.grid import labels_on_grid_of
from longigen.data.regions import region_mask
from longigen.data.split import Split, SplitSettings, fingerprint
from longigen.errors import LongigenError, LongigenWarning
from longigen.models.network_segmenter import NetworkSegmenter
from longigen.utils.files import writable_folder
from longigen.utils.processes import is_first, processes
from longigen.utils.progress import Progress, silent
from longigen.utils.randomness import derived_generator

KEPT = 256
"""Number of prepared visits that are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class SegmenterSettings(Settings):
    """Settings of the training of a segmenter.

    Args:
        steps: number of optimiser steps.
        batch_size: number of patches per step, which several processes share.
        learning_rate: peak learning rate of AdamW, which rises over a tenth of the steps and falls to 0.
        patch: W, H, D in voxels of the patches, at most; a smaller image is padded.
        contrast: random change of the contrast and the brightness, as a share of the intensity range, and standard
            deviation of the noise that is added, a tenth of it.
        validate_every: steps between validations; the weights of the best one are kept.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        seed: random seed of weights, patches and noise.
    """

    steps: Count = 400
    batch_size: Count = 2
    learning_rate: Annotated[float, Range(0)] = 2e-3
    patch: tuple[GridSize, GridSize, GridSize] = (96, 96, 64)
    contrast: Annotated[float, Range(0, below=1)] = 0.2
    validate_every: Count = 100
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    seed: Seed = 0


class LabelledVisits(Dataset[tuple[Tensor, Tensor]]):
    """Random patches of visits with label maps: images (1, W, H, D) and classes (W, H, D), int64.

    Args:
        visits: visits with label maps, each with its subject's id.
        regions: the name of the region that each label of the data set stands for.
        segmenter: prepares the images, and knows the regions' order.
        settings: size of the patches, which are no larger than the largest image, and changes of contrast.
    """

    def __init__(
        self,
        visits: Sequence[tuple[str, Visit]],
        regions: Mapping[int, str],
        segmenter: NetworkSegmenter,
        settings: SegmenterSettings,
    ) -> None:
        self.visits = visits
        self.regions = regions
        self.segmenter = segmenter
        self.settings = settings
        self.read = lru_cache(KEPT)(self._read)
        shapes = np.max([visit.shape for _, visit in visits], axis=0)
        self.patch: list[int] = np.minimum(shapes, settings.patch).tolist()

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch_size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        settings = self.settings
        generator = derived_generator(settings.seed, "segmenter", index)
        chosen = int(torch.randint(len(self.visits), (1,), generator=generator))
        image, classes = self.read(chosen)
        image, classes = _patch(image, classes, self.patch, generator)
        gain, shift = 1 + settings.contrast * (2 * torch.rand(2, generator=generator) - 1)
        noise = settings.contrast / 10 * torch.randn(image.shape, generator=generator)
        return (image + 1) * gain - 2 + shift + noise, classes

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the prepared image (1, W, H, D) of a visit, and the class of each voxel (W, H, D)."""
        subject, visit = self.visits[index]
        ready = self.segmenter.prepared(visit.read(subject))
        labels = visit.read_labels(subject)
        assert labels is not None, "visits without label maps are left out"
        placed = labels_on_grid_of(labels, ready)
        classes = torch.zeros(ready.data.shape, dtype=torch.int64)
        for number, name in self.segmenter.regions.items():
            classes[region_mask(placed, self.regions, name)] = number
        return torch.from_numpy(ready.data)[None], classes


def labelled(subjects: Sequence[Subject]) -> list[tuple[str, Visit]]:
    """Return the visits that have a label map, each with its subject's id; of several channels, the first's images.

    Regions are marked in that channel, see `longigen.evaluation.scoring.score`.
    """
    first = [subject.of_channel(subject.channels[0]) if subject.channels else subject for subject in subjects]
    return [(subject.id, visit) for subject in first for visit in subject.visits if visit.labels is not None]


def train_segmenter(
    segmenter: NetworkSegmenter,
    split: Split,
    regions: Mapping[int, str],
    settings: SegmenterSettings,
    *,
    progress: Progress = silent,
) -> dict[str, float]:
    """Train a segmenter on the label maps of the training subjects; return the Dice of each region in validation.

    The segmenter has the weights of the best validation afterwards, and is in ``eval()`` mode.

    Args:
        segmenter: a network that is not composed yet.
        split: the subjects; those of the test part are not used.
        regions: the name of the region that each label of the data set stands for.
        settings: settings of the training.
        progress: progress bar.

    Raises:
        LongigenError: if no training subject or no validation subject has a label map, or a visit cannot be read.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    processes()  # before Accelerate makes its own state, which on a CPU has one process
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    training, validation = labelled(split.train), labelled(split.validation)
    for part, visits in (("training", training), ("validation", validation)):
        if not visits:
            raise LongigenError(
                f"No {part} subject has a label map, so a segmenter cannot be trained; give data with labels, or "
                "another split with --set split.validation=."
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        width, height, depth = np.median([visit.spacing for _, visit in training], axis=0).tolist()
        segmenter.compose(tuple(dict.fromkeys(regions.values())), (width, height, depth))
    segmenter.to(accelerator.device).train()
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    patches = LabelledVisits(training, regions, segmenter, settings)
    loader = DataLoader(patches, batch_size=max(1, settings.batch_size // accelerator.num_processes))
    network, optimizer, loader = accelerator.prepare(segmenter, optimizer, loader)
    best: dict[str, float] = {}
    weights: dict[str, Tensor] = {}
    with progress("training the segmenter") as update:
        for step, (images, classes) in enumerate(loader, start=1):
            loss = segmenter.loss(network(images).float(), classes)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % settings.validate_every == 0 or step == settings.steps:
                found = validation_dice(segmenter, validation, regions)
                if not best or np.nanmean([*found.values()]) > np.nanmean([*best.values()]):
                    best = found
                    weights = {name: tensor.detach().clone() for name, tensor in segmenter.state_dict().items()}
            update(step, settings.steps, f"loss {loss.item():.3f}")
            if step == settings.steps:
                break
    segmenter.load_state_dict(weights)
    segmenter.eval()
    return best


def fit(
    segmenter: NetworkSegmenter,
    name: str,
    dataset: Source,
    split: SplitSettings,
    settings: SegmenterSettings,
    out: Path,
    *,
    progress: Progress = silent,
) -> NetworkSegmenter:
    """Train a segmenter on a data set and save it with what it was trained on; see `train_segmenter`.

    Args:
        segmenter: a network that is not composed yet.
        name: name of the data set in the registry.
        dataset: the data set.
        split: how its subjects are split.
        settings: settings of the training.
        out: the folder, new or empty.
        progress: progress bar.

    Raises:
        LongigenError: as `train_segmenter`; also if the folder is not empty, or the data set names no region.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LongigenError(f"{out} exists and is not empty; give a new folder with --out.")
    if not dataset.regions:
        raise LongigenError(f"The data set '{name}' has no labels to train a segmenter on; see docs/data.md, 'Labels'.")
    writable_folder(out)
    for caution in dataset.cautions:
        warnings.warn(caution, LongigenWarning, stacklevel=2)
    subjects = dataset.subjects()
    dice = train_segmenter(segmenter, Split.by_subject(subjects, split), dataset.regions, settings, progress=progress)
    segmenter.training_record = {
        "data": name,
        "simulated": dataset.simulated,
        "fingerprint": fingerprint(subjects),
        "split": vars(split),
        "settings": vars(settings),
        "dice": {region: None if math.isnan(value) else value for region, value in dice.items()},
    }
    if is_first():
        segmenter.save(out)
    return segmenter


def validation_dice(
    segmenter: NetworkSegmenter, visits: Sequence[tuple[str, Visit]], regions: Mapping[int, str]
) -> dict[str, float]:
    """Return the mean Dice of each region over visits with label maps, of whole images on their own voxels.

    A visit in which neither the label map nor the segmenter has the region is left out; NaN if all are.
    """
    was_training = segmenter.training
    segmenter.eval()
    values: dict[str, list[float]] = {name: [] for name in segmenter.names}
    for subject, visit in visits:
        image, labels = visit.read(subject), visit.read_labels(subject)
        assert labels is not None, "visits without label maps are left out"
        placed = labels_on_grid_of(segmenter.segment(image), labels)
        truth = labels_on_grid_of(labels, labels)
        for name, each in values.items():
            mine, true = region_mask(placed, segmenter.regions, name), region_mask(truth, regions, name)
            size = int(mine.sum()) + int(true.sum())
            each.extend([2 * int((mine & true).sum()) / size] if size else [])
    segmenter.train(was_training)
    return {name: float(np.mean(each)) if each else float("nan") for name, each in values.items()}


def _patch(image: Tensor, classes: Tensor, size: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a random patch of an image (1, W, H, D) and its classes (W, H, D), padded where the image is smaller."""
    for axis, length in enumerate(size):
        rest = classes.shape[axis] - length
        if rest > 0:
            start = int(torch.randint(rest + 1, (1,), generator=generator))
            image, classes = image.narrow(axis + 1, start, length), classes.narrow(axis, start, length)
    padding = [n for axis in (2, 1, 0) for n in (0, max(0, size[axis] - classes.shape[axis]))]
    return torch.nn.functional.pad(image, padding, value=-1.0), torch.nn.functional.pad(classes, padding)
