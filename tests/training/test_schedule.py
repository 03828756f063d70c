"""The learning rate of each step, by closed forms; Adam's decays."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.trainings import trainer
from longigen import LongigenError, LongigenWarning
from longigen.training.recipe import Recipe
from longigen.training.trainer import Trainer

PEAK, WARMUP, STEPS = 0.01, 3, 10
CLOSED: dict[str, Callable[[float], float]] = {
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}
"""The rate after the warm-up over its peak, by the share of the remaining steps that were made."""


@pytest.fixture(scope="module")
def training(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """Return a trainer with Adam's own decays, which trains nothing."""
    changes = (f"learning_rate={PEAK}", f"training.steps={STEPS}", "lr_schedule=constant", "training.warmup=0")
    adam = ("training.betas=0.9,0.999", "training.weight_decay=0")
    return trainer(manifest, tmp_path_factory.mktemp("schedule") / "run", *changes, *adam)


@pytest.mark.parametrize("warmup", [WARMUP, 0])
@pytest.mark.parametrize("schedule", CLOSED)
def test_the_rate_of_each_step(schedule: str, warmup: int, training: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(training.settings, lr_schedule=schedule, warmup=warmup)
    monkeypatch.setattr(training, "settings", chosen)
    expected = [
        PEAK * (step / warmup if step < warmup else CLOSED[schedule]((step - warmup) / (STEPS - warmup)))
        for step in range(STEPS)
    ]
    for first in (0, 5):  # a run from the start, and one that continues
        monkeypatch.setattr(training, "step", first)
        optimizer = torch.optim.SGD([torch.zeros(1)], PEAK)
        optimizer.param_groups[0]["initial_lr"] = PEAK
        (rates,) = training._schedules([optimizer])
        found = []
        for _ in range(first, STEPS):
            found.append(optimizer.param_groups[0]["lr"])
            assert rates.get_last_lr() == [found[-1]]  # what training logs
            optimizer.step()
            rates.step()
        assert found == pytest.approx(expected[first:], abs=1e-12)


def test_with_a_constant_rate_more_steps_are_as_if_asked_for_at_once(manifest: Path, tmp_path: Path) -> None:
    def train(training: Trainer, steps: int) -> None:
        batches = training._batches()
        training._train_mode()
        for _ in range(steps):
            training._train_step(batches)

    trainer(manifest, tmp_path / "short", "lr_schedule=constant", "training.steps=1").fit()
    with pytest.warns(LongigenWarning, match="is constant, the result is that of a run of 2 steps"):
        continued = trainer(manifest, tmp_path / "short", "training.steps=2", resume=True)
    train(continued, 1)
    whole = trainer(manifest, tmp_path / "whole", "lr_schedule=constant", "training.steps=2")
    train(whole, 2)
    assert continued.step == whole.step == 2
    assert all(torch.equal(*pair) for pair in zip(continued.averaged, whole.averaged, strict=True))


def test_adam_with_its_own_decays(training: Trainer) -> None:
    """Without weight decay AdamW is Adam: a first step moves each weight by the rate, whatever its gradient's size."""
    (optimizer,) = training.optimizers
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    weights = [weight for weight in training.averaged if weight.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.1)
    optimizer.step()
    for weight, earlier in zip(weights, before, strict=True):
        torch.testing.assert_close(earlier - weight.detach(), torch.full_like(weight, PEAK), rtol=1e-3, atol=1e-6)


def test_settings_of_earlier_runs_and_wrong_ones() -> None:
    recorded = Recipe.resolve("sadm-tiny").to_dict()
    for key in ("lr_schedule", "betas"):
        del recorded["training"][key]
    training = Recipe.from_dict(recorded).settings("training")
    assert (training.lr_schedule, training.betas) == ("cosine", (0.9, 0.99))
    with pytest.raises(LongigenError, match="lr_schedule must be one of 'cosine', 'linear', 'constant', got 'step'"):
        Recipe.resolve("sadm-tiny", changes=["lr_schedule=step"])
    with pytest.raises(LongigenError, match=r"betas must be 2 numbers of at least 0 and below 1, got \[0.9, 1.0\]"):
        Recipe.resolve("sadm-tiny", changes=["betas=[0.9, 1.0]"])
