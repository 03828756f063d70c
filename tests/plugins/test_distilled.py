"""A student of few steps: against a teacher in closed form, and through training, export and resumption."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import longigen
from helpers.conformance import problems
from helpers.models import FIXTURE
from longigen import LongigenError, LongitudinalModel
from longigen.components.parameterization import Prediction, to_x
from longigen.hub.model_config import read_config
from longigen.models.predict import GenerationSettings
from longigen_ddpm import DDIMSampler, DistilledSampler

MEAN, STD = 0.3, 0.4
STEPS, TEACHER_STEPS = 4, 16


def gaussian(z: Tensor, log_snr: Tensor) -> Tensor:
    """Return E[x | z] for x ~ N(MEAN, STD²)."""
    alpha2, sigma2 = torch.sigmoid(log_snr)[:, None], torch.sigmoid(-log_snr)[:, None]
    alpha = alpha2.sqrt()
    return MEAN + alpha * STD**2 / (alpha2 * STD**2 + sigma2) * (z - alpha * MEAN)


def fitted(prediction: Prediction) -> dict[float, Tensor]:
    """Return, by level, the line from z_t to the student's prediction that fits the targets of the teacher best.

    For Gaussian data the teacher's map is a line in z_t, so this is the student that training would find.
    """
    sampler = DistilledSampler(prediction=prediction, steps=STEPS, teacher_steps=TEACHER_STEPS).taught(gaussian)
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    z_t, log_snr, target = sampler.corrupt(x, generator)
    lines = {}
    for level in log_snr.unique().tolist():
        rows = log_snr == level
        inputs = torch.cat([z_t[rows], torch.ones_like(z_t[rows])], dim=1)
        lines[level] = torch.linalg.lstsq(inputs, target[rows]).solution
        assert (inputs @ lines[level] - target[rows]).abs().max() < 1e-6
    return lines


@pytest.mark.parametrize("prediction", ["x", "v", "epsilon", "velocity"])
def test_four_steps_of_the_student_are_the_many_of_its_teacher(prediction: Prediction) -> None:
    lines = fitted(prediction)
    assert len(lines) == STEPS

    def student(z: Tensor, log_snr: Tensor) -> Tensor:
        line = lines[min(lines, key=lambda level: abs(level - log_snr[0].item()))]
        output = torch.cat([z, torch.ones_like(z)], dim=1) @ line
        return to_x(prediction, output, z, log_snr)

    z = torch.randn(500, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    made = DistilledSampler(prediction=prediction, steps=STEPS).sample(student, z, generator)
    many = DistilledSampler(steps=STEPS * TEACHER_STEPS).sample(gaussian, z, generator)
    few = DistilledSampler(steps=STEPS).sample(gaussian, z, generator)
    assert (made - many).abs().max() < 0.01  # the student walks to the last level, where there is noise of .007
    assert (few - many).abs().max() > 0.1
    assert made.mean().item() == pytest.approx(MEAN, abs=0.06)
    assert made.std().item() == pytest.approx(STD, rel=0.06)


def test_the_loss_is_that_of_x_at_low_and_grows_with_the_snr_at_high_signal() -> None:
    log_snr, error = torch.tensor([-3.0, 3.0], dtype=torch.float64), torch.full((2, 1), 0.1, dtype=torch.float64)
    z = x = torch.zeros(2, 1, dtype=torch.float64)
    for prediction in ("x", "v", "epsilon", "velocity"):
        output = to_x(prediction, error, z, log_snr) - to_x(prediction, x, z, log_snr)  # the error of x̂
        expected = output.square()[:, 0] * log_snr.exp().clamp(min=1)
        torch.testing.assert_close(DistilledSampler(prediction=prediction).loss(error, x, log_snr), expected)


def test_it_keeps_the_contract() -> None:
    assert problems("sampler", DistilledSampler) == {}


def test_a_model_is_distilled_resumed_and_used(manifest: Path, tmp_path: Path) -> None:
    every = {"training.sample_every": 5, "training.checkpoint_every": 1, "training.score_every": 0}
    changes = {"training.steps": 2, "training.warmup": 1, **every}
    run = longigen.distill(
        FIXTURE, tmp_path / "run", steps=2, teacher_steps=2, data=str(manifest), changes=changes, progress=False
    )
    teacher, student = longigen.load(FIXTURE), longigen.load(run.folder)
    assert GenerationSettings().steps_of(student) == 2
    assert student.statistics == teacher.statistics
    assert student.settings.guidance == 0
    recorded = read_config(run.model)["training"]
    assert recorded["teacher"] == {"name": None, "weights_sha256": teacher.weights_sha256}
    assert "training.teacher" in recorded["withheld"]
    again = longigen.train(out=run.folder, resume=True, changes={"training.steps": 3}, progress=False)
    assert longigen.load(again.folder).provenance.training["steps"] == 3


def test_what_cannot_be_distilled_is_refused_in_one_sentence() -> None:
    teacher = longigen.load(FIXTURE)
    with pytest.raises(LongigenError, match=r"DDIMSampler learns from data and has no use for training\.teacher"):
        composed(teacher, DDIMSampler()).learn_from(teacher)
    with pytest.raises(LongigenError, match="heart-acdc generates in one evaluation already"):
        longigen.distill("heart-acdc", progress=False)


def composed(teacher: LongitudinalModel, sampler: DDIMSampler) -> LongitudinalModel:
    conditioner = type(teacher.conditioner).from_config(teacher.conditioner.config)
    denoiser = type(teacher.denoiser).from_config(teacher.denoiser.config)
    return LongitudinalModel(conditioner, denoiser, sampler, settings=teacher.settings)
