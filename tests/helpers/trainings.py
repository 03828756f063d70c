"""Trainings of a small model, as tests use them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.trainer import Trainer

SMALL = (
    "conditioner.dim=16",
    "conditioner.heads=2",
    "conditioner.depth=1",
    "denoiser.width=8",
    "denoiser.multipliers=1,2",
    "denoiser.heads=2",
    "sampler.steps=2",
    "training.validate_every=3",
    "training.sample_every=100",
    "training.checkpoint_every=3",
    "training.score_every=0",
    "training.warmup=2",
    "training.track=none",
)


def trainer(
    manifest: Path,
    folder: Path,
    *changes: str,
    resume: bool = False,
    recipe: str = "sadm-tiny",
    small: Sequence[str] = SMALL,
    components: Mapping[str, str] | None = None,
) -> Trainer:
    if resume:
        run = Run.open(folder)
        experiment = Experiment.of(Recipe.from_dict(run.read()["recipe"], changes))
    else:
        run = Run.create(folder)
        resolved = Recipe.resolve(recipe, components=components, data=str(manifest), changes=[*small, *changes])
        experiment = Experiment.of(resolved)
    experiment.read()
    return experiment.trainer(run, resume=resume)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def lines(folder: Path) -> Sequence[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
