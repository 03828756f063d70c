"""The main job on a CUDA device, for each recipe of a size for two cores: train, resume, generate and evaluate."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import yaml

from helpers.files import ROOT
from helpers.trainings import SMALL, trainer
from longigen import Batch, LongitudinalModel, api
from longigen.models.predict import GenerationSettings
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
RECIPES = [
    name
    for name in yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))["recipes"]
    if name in ("heart", "brain") or name.endswith("-tiny")
]
BRIEF = (
    "data.subject_count=8",
    "split.test=0.25",
    "training.steps=3",
    "training.validate_every=100",
    "training.sample_every=100",
    "training.checkpoint_every=2",
)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_resumes_generates_and_scores(recipe: str, precision: str, tmp_path: Path) -> None:
    changes = [*BRIEF, f"training.mixed_precision={precision}", *(["data.spacing=4"] if "brain" in recipe else [])]
    run = api.train(recipe=recipe, changes=changes, out=tmp_path / "run", progress=False)
    run = api.train(out=run.folder, resume=True, changes=["training.steps=4"], progress=False)
    model = LongitudinalModel.from_pretrained(str(run.folder))
    assert model.provenance.training["device"] == torch.cuda.get_device_name()
    kind: Literal["bf16", "fp32"] = "bf16" if precision == "bf16" else "fp32"
    evaluation = api.evaluate(run.folder, settings="single", steps=2, precision=kind, progress=False)
    assert evaluation.generation["precision"] == kind
    assert evaluation.scores
    assert all(np.isfinite(score.values["psnr"]) for score in evaluation.scores)


def batch_of(size: tuple[int, int, int]) -> Batch:
    visits = history(size, lengths=(3, 3))
    return Batch(visits, visits.images[:, -1], after(visits)).to("cuda")


@contextmanager
def never_waiting() -> Iterator[None]:
    """Raise a RuntimeError where the CPU waits for the GPU inside the context."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_step_never_waits_for_the_gpu(recipe: str) -> None:
    model, batch = model_of(Recipe.resolve(recipe)).to("cuda"), batch_of((32, 32, 16))
    generator = torch.Generator("cuda").manual_seed(0)
    model.loss(batch, generator).backward()  # the first step may set up kernels
    with never_waiting():
        model.loss(batch, generator).backward()


@pytest.mark.parametrize("recipe", ["sadm-tiny", "dao-tiny"])
def test_training_waits_only_for_steps_whose_losses_are_read(recipe: str, manifest: Path, tmp_path: Path) -> None:
    """The whole step: batch, gradients, clipping, AdamW, averaged weights and metrics."""
    changes = ("training.steps=9", "validate_every=100", "sample_every=100", "checkpoint_every=100")
    small = () if recipe == "dao-tiny" else SMALL
    training = trainer(manifest, tmp_path / "run", *changes, recipe=recipe, small=small)

    def watch(step: int, _: object) -> None:
        if step == 3:  # the first steps may set up kernels
            torch.cuda.set_sync_debug_mode("error")
        if step == 8:  # the losses of step 9, the last, are read
            torch.cuda.set_sync_debug_mode("default")

    try:
        training.fit(watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", ["regional", "full"])
def test_compiled_generation_is_close_to_what_is_written(kind: Literal["regional", "full"]) -> None:
    torch.manual_seed(0)
    model, batch = model_of(Recipe.resolve("sadm-tiny")).to("cuda").eval(), batch_of((32, 32, 16))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    plain, compiled = (
        model.generate_visits(
            batch.history,
            batch.target_time[:, None],
            GenerationSettings(steps=2, guidance=0.0, precision="fp32", compile=each),
        ).images
        for each in ("none", kind)
    )
    assert (compiled - plain).square().mean().sqrt() < 0.01


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_generation_at_16_bits_is_close_to_32(recipe: str, precision: Literal["auto", "bf16", "fp16"]) -> None:
    torch.manual_seed(0)
    model, batch = model_of(Recipe.resolve(recipe)).to("cuda").eval(), batch_of((32, 32, 16))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    exact, rounded = (
        model.generate(batch.history, batch.target_time[:, None], steps=2, guidance=0.0, precision=kind)
        for kind in ("fp32", precision)
    )
    assert rounded.isfinite().all()
    assert (rounded - exact).square().mean().sqrt() < 0.01


def test_batches_in_pinned_memory_are_copied_without_waiting() -> None:
    batch = batch_of((8, 8, 8)).to("cpu").pin_memory()
    assert all(tensor.is_pinned() for tensor in (batch.target, batch.target_time, batch.history.images))
    with never_waiting():
        batch.to("cuda")


@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_plan_predicts_the_peak_within_15_percent(precision: str, checkpointing: str) -> None:
    changes = [f"mixed_precision={precision}", f"denoiser.checkpointing={checkpointing}", "preprocess.shape=96,96,64"]
    training = api.plan("sadm-tiny", changes=changes, visits=6, progress=False).training
    assert training.measured is not None
    assert training.predicted_peak == pytest.approx(training.measured.peak, rel=0.15)
