"""Tests of Denoiser: prediction types, named losses, the base visit, training with a discriminator."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from helpers import trainings
from longigen import Batch, Conditioning, Denoiser, Example, LongigenError, LongitudinalModel, Routes, Sampler
from longigen.data.statistics import Statistics
from longigen.models.longitudinal import total
from longigen.models.settings import ModelSettings
from longigen.testing.case import after, history
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.trainer import Trainer
from longigen_baselines import CopyLastConditioner, RegressionSampler
from longigen_continuous import ContinuousSampler

SIZE = (6, 5, 7)
STD, SCALE = 0.3, 2.0


class Constant(Denoiser):
    """Predicts a learnt constant; its discriminator has another one, and each is pulled to the other's sign."""

    needs_base = True

    def __init__(self, *, start: float = 0.25) -> None:
        super().__init__()
        self.start = start

    def build(self, *, channels: int, routes: Routes) -> None:
        self.level = nn.Parameter(torch.full((channels, 1, 1, 1), self.start))
        self.adversary = nn.PReLU(init=-0.5)
        self.seen: list[Conditioning] = []

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        self.seen.append(conditioning)
        return self.level.expand_as(z_t)

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        assert self.adversary is not None
        return {"opinion": self.adversary(-example.x.abs()).flatten(1).mean(dim=1)}


class ConstantX(Constant):
    """The same denoiser with ``predicts = "x"``."""

    predicts = "x"


class ConstantImage(Constant):
    """The same denoiser with ``predicts = "image"``."""

    predicts = "image"


def composed(denoiser: Denoiser, sampler: Sampler, **settings: object) -> LongitudinalModel:
    return LongitudinalModel(
        CopyLastConditioner(),
        denoiser,
        sampler,
        settings=ModelSettings(**settings),  # type: ignore[arg-type]
        statistics=Statistics(residual_std=STD, time_scale=SCALE),
    ).eval()


def batch_of(seed: int = 3) -> Batch:
    visits = history(SIZE)
    return Batch(visits, torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) - 0.5, after(visits))


@pytest.mark.parametrize("prediction", ["epsilon", "x", "v", "velocity"])
@pytest.mark.parametrize("target", ["image", "residual"])
def test_generation_uses_the_prediction_type(prediction, target) -> None:
    """With one step the sample is the predicted constant, as x or as an image, whatever the sampler predicts."""
    visits = history(SIZE)
    time = after(visits)
    base = visits.last(time)[0]
    for guidance in (0.0, 0.5):
        for kind, residual in ((ConstantX, base + STD * 0.25), (ConstantImage, torch.full_like(base, 0.25))):
            model = composed(kind(), ContinuousSampler(prediction=prediction, steps=1), target=target)
            generated = model.generate(visits, time[:, None], guidance=guidance)[:, 0]
            expected = residual.clamp(-1, 1) if target == "residual" else torch.full_like(base, 0.25)
            torch.testing.assert_close(generated, expected)
            assert model.prediction == "x"
    assert composed(Constant(), ContinuousSampler(prediction=prediction)).prediction == prediction


@pytest.mark.parametrize("kind", [ConstantX, ConstantImage])
def test_default_loss_compares_with_prediction_target(kind) -> None:
    batch = batch_of()
    base = batch.history.last(batch.target_time)[0]
    for prediction in ("epsilon", "x"):
        model = composed(kind(), ContinuousSampler(prediction=prediction))
        losses = model(batch, torch.Generator().manual_seed(0))
        image = base + STD * 0.25 if kind is ConstantX else torch.full_like(base, 0.25)
        expected = ((batch.target - image) / STD).square().flatten(1).mean(dim=1)
        assert list(losses) == ["denoising"]
        torch.testing.assert_close(losses["denoising"], expected)


def test_base_and_gap_are_passed_if_needed() -> None:
    """For both targets, in training and generation, with and without condition dropout.

    With a residual target the base is also appended to `concat`.
    """
    batch = batch_of()
    base, time = batch.history.last(batch.target_time)
    for target, channels in (("image", 1), ("residual", 2)):
        denoiser = Constant()
        model = composed(denoiser, ContinuousSampler(prediction="x", steps=1), target=target, p_uncond=1.0)
        model(batch, torch.Generator().manual_seed(0))
        model.generate(batch.history, batch.target_time[:, None], guidance=0.5)
        trained, guided = denoiser.seen
        for part, conditioning in ((slice(0, 2), trained), (slice(0, 2), guided), (slice(2, 4), guided)):
            assert conditioning.base is not None
            assert conditioning.gap is not None
            assert torch.equal(conditioning.base[part], base)
            torch.testing.assert_close(conditioning.gap[part], (batch.target_time - time) / SCALE)
        assert trained.concat is not None
        assert trained.concat.shape[1] == channels
        assert not trained.concat[:, 0].any()
    plain = composed(ConstantWithout(), ContinuousSampler(prediction="x"))
    plain(batch, torch.Generator().manual_seed(0))
    assert isinstance(plain.denoiser, ConstantWithout)
    assert plain.denoiser.seen[0].base is None


class ConstantWithout(Constant):
    """The same denoiser without ``needs_base``."""

    needs_base = False


def test_generation_does_not_use_the_discriminator() -> None:
    model = composed(Constant(), RegressionSampler())
    assert model.parameter_count == 1
    assert [id(p) for p in model.generator_parameters] == [id(p) for p in model.parameters() if p.ndim == 4]
    assert "denoiser.adversary.weight" in model.state_dict()
    total(model(batch_of(), torch.Generator(), adversary=True)).mean().backward()
    assert model.denoiser.adversary.weight.grad is not None
    assert model.denoiser.level.grad is None

    class Silent(ConstantWithout):
        adversary_losses = Denoiser.adversary_losses

    with pytest.raises(NotImplementedError, match="must override adversary_losses"):
        composed(Silent(), RegressionSampler())(batch_of(), torch.Generator(), adversary=True)


SMALL = (
    "denoiser.widths=4,8",
    "denoiser.discriminator=4,8",
    "training.validate_every=3",
    "training.sample_every=100",
    "training.checkpoint_every=3",
    "training.warmup=2",
)


def trainer(manifest: Path, folder: Path, *changes: str, resume: bool = False) -> Trainer:
    return trainings.trainer(manifest, folder, *changes, resume=resume, recipe="gan-tiny", small=SMALL)


def test_training_with_a_discriminator_resumes_exactly(manifest: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first = trainer(manifest, whole, "training.steps=6")
    start = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    first.fit()

    class KilledError(Exception):
        pass

    def kill(step: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        trainer(manifest, broken, "training.steps=6").fit(kill)
    resumed = trainer(manifest, broken, resume=True)
    assert resumed.step == 3
    resumed.fit()
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (whole, broken))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
        assert not torch.equal(tensor, start[name]), f"{name} was not trained"
    model = LongitudinalModel.from_pretrained(whole)
    assert model.denoiser.adversary is not None
    last = trainings.lines(whole)[-1]
    assert last["loss"] == pytest.approx(last["loss_l1"] + last["loss_adversarial"], rel=1e-5)
    both = last["adversary_loss_real"] + last["adversary_loss_fake"]
    assert last["adversary_loss"] == pytest.approx(both, rel=1e-5)


def test_denoiser_and_discriminator_step_alternately(manifest: Path, tmp_path: Path) -> None:
    """With gradient accumulation and separate clipping; the exported discriminator is the last one, not an average."""
    run = trainer(manifest, tmp_path / "run", "training.steps=2", "gradient_accumulation=2", "training.warmup=0")
    adversary, others = run.model.denoiser.adversary, run.averaged
    assert adversary is not None
    changed = []
    for number, optimizer in enumerate(run.optimizers):
        step = optimizer.step

        def watched(*args: object, number: int = number, step=step, **kwargs: object) -> None:
            before = [[p.detach().clone() for p in part] for part in (others, adversary.parameters())]
            step(*args, **kwargs)
            after = [list(part) for part in (others, adversary.parameters())]
            moved = [
                any(not torch.equal(a, b) for a, b in zip(*pair, strict=True))
                for pair in zip(before, after, strict=True)
            ]
            changed.append((number, *moved))

        optimizer.step = watched
    run.fit()
    # Two batches per step: of four calls of each optimiser, every second one changes parameters, and only its own.
    assert changed == [(0, False, False), (1, False, False), (0, True, False), (1, False, True)] * 2
    exported = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for name, parameter in adversary.named_parameters():
        assert torch.equal(exported[f"denoiser.adversary.{name}"], parameter)
    assert all(parameter.requires_grad for parameter in adversary.parameters())


def test_frozen_denoiser_freezes_its_discriminator(manifest: Path, tmp_path: Path) -> None:
    run = trainer(manifest, tmp_path / "run", "training.steps=2", "training.freeze=denoiser")
    before = {name: tensor.clone() for name, tensor in run.model.denoiser.state_dict().items()}
    run.fit()
    assert len(run.optimizers) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.denoiser.state_dict().items())
    assert "adversary_loss" not in trainings.lines(tmp_path / "run")[-1]


def test_nan_in_the_discriminator_is_an_error(manifest: Path, tmp_path: Path) -> None:
    run = trainer(manifest, tmp_path / "run", "training.steps=2")
    with torch.no_grad():
        next(run.model.denoiser.adversary.parameters()).fill_(float("nan"))
    with pytest.raises(LongigenError, match="The loss became NaN at step 1"):
        run.fit()


def test_every_named_loss_is_logged(manifest: Path, tmp_path: Path) -> None:
    for name in ("vae", "diffusemorph"):
        run = Run.create(tmp_path / name)
        changes = ["denoiser.widths=4,8", "training.steps=2"]
        study = Experiment.of(Recipe.resolve(f"{name}-tiny", data=str(manifest), changes=changes))
        study.read()
        study.trainer(run).fit()
        last = trainings.lines(tmp_path / name)[-1]
        named = [value for key, value in last.items() if key.startswith("loss_")]
        assert last["loss"] == pytest.approx(sum(named), rel=1e-4)
        assert len(named) == {"vae": 2, "diffusemorph": 3}[name]
