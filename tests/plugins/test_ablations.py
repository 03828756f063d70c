"""Baselines and ablations composed of ordinary components: copy-last, linear, identity, regression."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longigen import Batch, Conditioner, Conditioning, LongitudinalModel, Routes, VisitSequence
from longigen.models.settings import ModelSettings
from longigen.registry.registry import registry
from longigen.training.experiment import Experiment
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen_baselines import CopyLastConditioner, IdentityDenoiser, LinearConditioner, RegressionSampler
from longigen_baselines.linear import line_weights
from longigen_continuous import ContinuousSampler
from longigen_unet3d import UNet3D

SIZE = (5, 6, 4)


def baseline(conditioner: Conditioner, **settings) -> LongitudinalModel:
    settings = ModelSettings(**{"target": "image", "guidance": 0.7, **settings})
    return LongitudinalModel(conditioner, IdentityDenoiser(), RegressionSampler(), settings=settings).eval()


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def irregular() -> VisitSequence:
    """Return three subjects with visits at irregular times, missing visits, and padding with arbitrary times."""
    times = [[0.0, 0.4, 1.9, 2.0], [1.0, 3.5, 0.0, 0.0], [-2.0, -1.5, 0.25, 0.0]]
    observed = [[1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    valid = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    return VisitSequence(images(3, 4), torch.tensor(times), torch.tensor(observed).bool(), torch.tensor(valid).bool())


def lines(level: Tensor, slope: Tensor, times: Tensor) -> Tensor:
    """Return images (B, L, C, W, H, D) linear in time, from level and slope (B, C, W, H, D) and times (B, L)."""
    return level[:, None] + times[:, :, None, None, None, None] * slope[:, None]


def observed_at(times: Tensor, sequence: Tensor) -> VisitSequence:
    every = torch.ones_like(times, dtype=torch.bool)
    return VisitSequence(sequence, times, every, every)


def test_copy_last_returns_the_last_observed_visit() -> None:
    """A target between visits copies the visit before it, a missing visit is a copy, and guidance has no effect."""
    visits = irregular()
    targets = torch.tensor([[0.3, 1.5, 7.0], [2.0, 4.0, 0.0], [-1.0, 5.0, 0.0]])
    valid = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0]]).bool()
    generated = baseline(CopyLastConditioner()).generate(visits, targets, target_valid=valid)
    source = [[0, 0, 2], [0, 1, None], [0, 0, None]]
    for row, places in enumerate(source):
        for column, place in enumerate(places):
            expected = torch.full_like(generated[0, 0], -1.0) if place is None else visits.images[row, place]
            assert torch.equal(generated[row, column], expected), (row, column)


def test_both_baselines_have_no_parameters_and_no_noise() -> None:
    visits, targets = irregular(), torch.tensor([[7.0], [4.0], [5.0]])
    for conditioner in (CopyLastConditioner, LinearConditioner):
        model = baseline(conditioner())
        assert model.parameter_count == 0
        assert torch.equal(model.generate(visits, targets, seed=0), model.generate(visits, targets, seed=1, steps=5))


def test_linear_predicts_what_is_linear_in_time() -> None:
    """For irregular visits on one line per voxel, predictions are on that line, also far beyond the visits."""
    times = torch.tensor([[0.0, 0.3, 2.2, 2.9], [-1.0, 1.0, 1.1, 4.0]])
    level, slope = images(2) * 0.5, images(2, seed=1) * 0.05
    visits = observed_at(times, lines(level, slope, times))
    for target in (torch.tensor([3.0, 4.5]), torch.tensor([2.5, 1.05]), torch.tensor([8.0, 9.0])):
        expected = lines(level, slope, target[:, None])
        torch.testing.assert_close(baseline(LinearConditioner()).generate(visits, target[:, None]), expected)


def test_linear_is_least_squares_of_the_visits_observed_before_the_target() -> None:
    """Compared with a solver on random masks; missing visits, padding and visits after the target have no weight."""
    generator = torch.Generator().manual_seed(2)
    times = torch.rand(8, 6, generator=generator).cumsum(dim=1) * 3 - 2
    used = torch.rand(8, 6, generator=generator) < 0.6
    used[:, 0] = True
    target = times[:, -1] + 1.3
    weights = line_weights(torch.where(used, times, torch.nan), used, target)
    assert not weights[~used].any()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8).double())
    for row in range(8):
        t = times[row, used[row]].double()
        values = torch.randn(len(t), 5, generator=generator).double()
        if len(t) == 1:
            expected = values[0]
        else:
            line = torch.linalg.lstsq(torch.stack([torch.ones_like(t), t], dim=1), values).solution
            expected = line[0] + target[row].double() * line[1]
        torch.testing.assert_close(weights[row, used[row]] @ values, expected)


def test_linear_of_two_visits_and_of_one() -> None:
    """By hand: from 0 at t = 1 and 0.2 at t = 3 to 0.35 at t = 4.5; with one visit, that visit exactly."""
    two = observed_at(
        torch.tensor([[1.0, 3.0]]), torch.stack([torch.zeros(1, *SIZE), torch.full((1, *SIZE), 0.2)])[None]
    )
    linear = LinearConditioner()
    linear.build(channels=1, stem_features=0, time_scale=1.0, covariates=())
    torch.testing.assert_close(linear(two, torch.tensor([4.5])).concat, torch.full((1, 1, *SIZE), 0.35))
    visits, early = irregular(), torch.tensor([0.3, 2.0, -1.7])
    assert torch.equal(linear(visits, early).concat, visits.images[:, 0])
    # Visits at equal times have slope zero, and the prediction is their mean.
    twins = observed_at(torch.tensor([[1.0, 1.0]]), images(1, 2))
    torch.testing.assert_close(linear(twins, torch.tensor([4.0])).concat, twins.images.mean(dim=1))
    with pytest.raises(ValueError, match="observed visit before"):
        linear(visits, torch.tensor([0.3, 1.0, 5.0]))


def test_linear_extrapolates_beyond_the_range_and_the_model_clamps() -> None:
    times = torch.tensor([[0.0, 1.0]])
    visits = observed_at(times, lines(torch.zeros(1, 1, *SIZE), torch.full((1, 1, *SIZE), 0.5), times))
    model = baseline(LinearConditioner())
    assert model.conditioner(visits, torch.tensor([4.0])).concat.max() == pytest.approx(2.0)
    assert model.generate(visits, torch.tensor([[4.0]])).unique().tolist() == [1.0]


def test_generated_visits_do_not_change_the_line() -> None:
    """A missing visit that was imputed, and a target before the last visit, do not change the fitted line."""
    times = torch.tensor([[0.0, 0.7, 2.0, 2.6]])
    visits = observed_at(times, images(1, 4) * 0.1)
    observed = torch.tensor([[True, False, True, True]])
    rest = [0, 2, 3]
    alone = baseline(LinearConditioner()).generate(
        observed_at(times[:, rest], visits.images[:, rest]), times[:, :1] + 5
    )
    model = baseline(LinearConditioner())
    generated = model.generate(replace(visits, observed=observed), torch.tensor([[0.7, 3.0, 5.0]]))
    assert torch.equal(generated[:, 0], visits.images[:, 0])
    torch.testing.assert_close(generated[:, 2:], alone)


def test_a_voxel_that_does_not_change_is_predicted_exactly() -> None:
    times = torch.tensor([[0.1, 0.7, 2.3]])
    constant = images(1, 1).expand(1, 3, 1, *SIZE)
    generated = baseline(LinearConditioner()).generate(observed_at(times, constant), torch.tensor([[3.3, 9.1]]))
    assert torch.equal(generated, constant[:, :2])


def test_the_loss_is_the_squared_error_of_the_conditioning_signal() -> None:
    """The paper's ablation without diffusion has the ℓ2 loss between target and c, for any p_uncond."""
    visits = irregular()
    batch = Batch(visits, images(3, seed=4), torch.tensor([5.0, 5.0, 5.0]))
    sadm = registry.load("conditioner", "sadm")(dim=12, heads=2, depth=1, features=1)
    model = baseline(sadm, p_uncond=0.5)
    signal = model.conditioner(visits, batch.target_time).concat
    assert not list(model.denoiser.parameters())
    expected = (signal - batch.target).square().mean()
    torch.testing.assert_close(model.loss(batch, torch.Generator().manual_seed(0)), expected)
    model.loss(batch, torch.Generator()).backward()
    assert all(parameter.grad is not None for parameter in model.conditioner.parameters())
    complete = observed_at(torch.tensor([[0.0, 0.4, 1.9], [1.0, 3.5, 3.6]]), images(2, 3))
    time = torch.tensor([2.5, 4.0])
    generated = model.generate(complete, time[:, None], steps=3)
    torch.testing.assert_close(generated[:, 0], model.conditioner(complete, time).concat.clamp(-1, 1))


def test_other_routes_are_read_out_linearly_from_zero() -> None:
    denoiser = IdentityDenoiser()
    denoiser.build(channels=2, routes=Routes(concat=3, stem=4, embedding=5, tokens=6))
    given = Conditioning(torch.randn(2, 3, *SIZE), torch.randn(2, 4, *SIZE), torch.randn(2, 5), torch.randn(2, 7, 6))
    z_t, log_snr = torch.randn(2, 2, *SIZE), torch.tensor([-20.0, 3.0])
    assert not denoiser(z_t, log_snr, given).any()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_()
    weight = {name: layer.weight for name, layer in denoiser.read.items()}
    expected = denoiser.bias[:, None, None, None].expand_as(z_t)
    for name in ("concat", "stem"):
        expected = expected + torch.einsum("ok,bkwhd->bowhd", weight[name][..., 0, 0, 0], getattr(given, name))
    vector = given.embedding @ weight["embedding"].T + given.tokens.mean(dim=1) @ weight["tokens"].T
    torch.testing.assert_close(denoiser(z_t, log_snr, given), expected + vector[:, :, None, None, None])


def test_with_the_residual_target_it_starts_at_copy_last() -> None:
    visits, targets = irregular(), torch.tensor([[7.0], [4.0], [5.0]])
    copied = baseline(CopyLastConditioner()).generate(visits, targets)
    for conditioner in (LinearConditioner(), registry.load("conditioner", "raw")(frames=2, embedding=8)):
        model = baseline(conditioner, target="residual")
        assert model.parameter_count > 0
        torch.testing.assert_close(model.generate(visits, targets), copied)


def test_regression_does_not_show_the_target_to_the_network() -> None:
    sampler, x = RegressionSampler(), images(3)
    z_t, log_snr, target = sampler.corrupt(x, torch.Generator())
    assert not z_t.any()
    assert target is x
    torch.testing.assert_close(log_snr, torch.full((3,), -20.0))
    calls = []

    def network(z: Tensor, level: Tensor) -> Tensor:
        calls.append((z, level))
        return x

    assert torch.equal(sampler.sample(network, torch.randn_like(x), torch.Generator(), steps=9), x)
    ((z, level),) = calls  # one evaluation, with the inputs of training
    assert not z.any()
    torch.testing.assert_close(level, log_snr)


def test_a_denoiser_that_denoises_is_still_guided_and_dropped() -> None:
    """`denoises = False` turns off guidance and dropping only for the class that declares it."""
    visits, time = irregular(), torch.tensor([7.0, 4.0, 5.0])
    batch = Batch(visits, images(3, seed=4), time)
    torch.manual_seed(0)
    parts = CopyLastConditioner(), UNet3D(width=8, heads=2, blocks=1), ContinuousSampler(prediction="x", steps=1)
    model = LongitudinalModel(*parts, settings=ModelSettings(target="image", p_uncond=1.0)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    other = Batch(observed_at(visits.times, images(3, 4, seed=9)), batch.target, time)
    losses = [model.loss(each, torch.Generator().manual_seed(0)).item() for each in (batch, other)]
    assert losses[0] == losses[1]
    generated = [model.generate(visits, time[:, None], guidance=weight) for weight in (0.0, 2.0)]
    assert not torch.allclose(*generated)


def test_a_baseline_trains_like_any_model(manifest: Path, tmp_path: Path) -> None:
    """A run without weights has a checkpoint and a model that loads, and can be resumed."""
    parts = {"conditioner": "linear", "denoiser": "identity", "sampler": "regression"}
    changes = ["model.target=image", "training.steps=2", "gradient_accumulation=2"]
    for resume in (False, True):
        run = Run.open(tmp_path) if resume else Run.create(tmp_path)
        recipe = Recipe.resolve("sadm-tiny", components=parts, data=str(manifest), changes=changes)
        experiment = Experiment.of(Recipe.from_dict(run.read()["recipe"], ["training.steps=3"]) if resume else recipe)
        trainer = experiment.trainer(run, resume=resume)
        trainer.fit()
        assert trainer.step == 2 + resume
    model = LongitudinalModel.from_pretrained(tmp_path)
    assert model.parameter_count == 0
    visits = irregular()
    generated = model.generate(visits, torch.tensor([[7.0], [4.0], [5.0]]))
    assert torch.equal(generated[2, 0], visits.images[2, 0])
