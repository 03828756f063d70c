"""Processes that start from a visit: copy-last by construction, Gaussian pairs by hand, solvers, what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import longigen
from longigen import (
    Batch,
    LongigenError,
    LongitudinalModel,
    ModelSettings,
    Recipe,
    Run,
    Sampler,
    Statistics,
    VisitSequence,
)
from longigen.models.predict import GenerationSettings
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen.training.experiment import Experiment
from longigen_baselines import RawConditioner, RegressionSampler
from longigen_ddpm import DDIMSampler, DistilledSampler
from longigen_transport import BridgeSampler, CronosConditioner, TransportSampler
from longigen_unet3d import UNet3D

SIZE = (9, 8, 7)
MANY = 40_000
BASE, TARGET = -0.5, 1.5


def model_of(sampler: Sampler, *, target: str = "residual", motion: bool = False) -> LongitudinalModel:
    """Return a model whose network outputs zero, and with `motion` no displacement: it is not trained."""
    torch.manual_seed(0)
    return LongitudinalModel(
        RawConditioner(frames=2),
        UNet3D(width=8, heads=2, blocks=1, refine=0, motion=motion),
        sampler,
        settings=ModelSettings.from_config({"target": target, "order": "direct"}, "model"),
        statistics=Statistics(residual_std=0.1),
    ).eval()


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def times(log_snr: Tensor) -> Tensor:
    """Return τ at λ = 2 log(τ / (1 - τ))."""
    return torch.sigmoid(0.5 * log_snr)


def way(z: Tensor, log_snr: Tensor) -> Tensor:
    """Return y = z / (α + σ)."""
    return z / (torch.sigmoid(log_snr).sqrt() + torch.sigmoid(-log_snr).sqrt())[:, None]


def corrupted(sampler: Sampler) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (N, 1), τ (N,) and the targets (N, 1) of pairs of `BASE` and `TARGET`."""
    x = torch.full((MANY, 1), TARGET, dtype=torch.float64)
    bound = sampler.starting_at(torch.full_like(x, BASE))
    z, log_snr, target = bound.corrupt(x, torch.Generator().manual_seed(0))
    return way(z, log_snr.double()), times(log_snr.double()), target


@pytest.mark.parametrize("target", ["image", "residual"])
@pytest.mark.parametrize("method", ["euler", "midpoint", "adaptive"])
def test_a_network_that_outputs_zero_is_copy_last(method, target: str) -> None:
    visits = history(SIZE)
    last = visits.last(after(visits))[0]
    model = model_of(TransportSampler(method=method), target=target)
    for steps in (1, 4, 5):
        made = model.generate(
            visits, torch.stack([after(visits), after(visits, 2.0)], dim=1), steps=steps, guidance=0.5
        )
        torch.testing.assert_close(made, last[:, None].expand_as(made), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [TransportSampler, BridgeSampler])
def test_motion_moves_the_visit_that_the_process_starts_from(kind: Callable[[], Sampler]) -> None:
    visits = history(SIZE)
    model = model_of(kind(), target="image", motion=True)
    batch = Batch(visits, -visits.images[:, 0], after(visits))
    model.loss(batch, torch.Generator().manual_seed(0)).backward()
    assert isinstance(model.denoiser, UNet3D)
    assert model.denoiser.velocity is not None
    assert model.denoiser.velocity.weight.grad is not None
    assert model.denoiser.velocity.weight.grad.any()
    made = model.generate_visits(visits, after(visits)[:, None], GenerationSettings(steps=3))
    torch.testing.assert_close(made.images[:, 0], visits.last(after(visits))[0], atol=1e-5, rtol=0)
    assert made.displacement is not None
    assert not made.displacement.any()


@pytest.mark.parametrize(("answer", "first"), [("mean", 0), ("last", 2)])
def test_several_visits_move_side_by_side(answer, first: int) -> None:
    """With a network that outputs zero the answer is the mean of the last three visits, or the last one."""
    visits = history(SIZE, lengths=(4, 1))
    sampler = TransportSampler(contexts=3, answer=answer)
    for target in ("image", "residual"):
        model = model_of(sampler, target=target)
        loss = model.loss(Batch(visits, -visits.images[:, 0], after(visits)), torch.Generator().manual_seed(0))
        assert loss.isfinite()
        made = model.generate(visits, after(visits)[:, None])[:, 0]
        expected = torch.stack([visits.images[0, 1 + first :].mean(dim=0), visits.images[1, 0]])
        torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_flow_matching_by_hand() -> None:
    y, tau, target = corrupted(TransportSampler(sigma=0.1))
    rest = y[:, 0] - (1 - tau) * BASE - tau * TARGET
    assert rest.mean().item() == pytest.approx(0, abs=0.003)
    assert rest.std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.corrcoef(torch.stack([rest, tau]))[0, 1].abs() < 0.02
    assert tau.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert (target - (TARGET - BASE)).abs().max() < 1e-12  # the velocity


def test_marginals_of_a_bridge_by_hand() -> None:
    y, tau, target = corrupted(BridgeSampler(sigma=0.8, prediction="velocity"))
    scaled = (y[:, 0] - (1 - tau) * BASE - tau * TARGET) / (0.8 * (tau * (1 - tau)).sqrt())
    for low in (0.0, 0.3, 0.9):
        part = scaled[(tau > low) & (tau < low + 0.1)]
        assert part.mean().item() == pytest.approx(0, abs=0.05)
        assert part.std().item() == pytest.approx(1, rel=0.04)
    torch.testing.assert_close(y[:, 0] + (1 - tau) * target[:, 0], torch.full_like(tau, TARGET), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("early", "late"), [(0.2, 0.5), (0.5, 0.9), (0.0, 0.4)])
def test_posterior_of_a_bridge_by_hand(early: float, late: float) -> None:
    """Bayes' rule: y_τ and y_τ' are Gaussian given both ends, with covariance s² τ (1 - τ')."""
    s, y = 0.7, 0.4
    sampler = BridgeSampler(sigma=s)
    t, after_t = (sampler.time(2 * torch.logit(torch.tensor(max(tau, 4.6e-5)).double())) for tau in (early, late))
    y = BASE if early == 0 else y
    variance, covariance = s**2 * early * (1 - early), s**2 * early * (1 - late)
    gain = covariance / variance if early else 0.0
    means = [(1 - tau) * BASE + tau * TARGET for tau in (early, late)]
    expected = means[1] + gain * (y - means[0])
    deviation = math.sqrt(s**2 * late * (1 - late) - gain * covariance)

    scales = [part.sum() for part in map(torch.stack, map(sampler.alpha_sigma, (t, after_t)))]
    z = torch.full((MANY, 1), y, dtype=torch.float64) * scales[0]
    made = sampler.step(z, torch.full_like(z, TARGET), t, after_t, torch.Generator().manual_seed(0)) / scales[1]
    assert made.mean().item() == pytest.approx(expected, abs=0.01)
    assert made.std().item() == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("s", [0.3, 1.0])
def test_the_end_of_a_bridge_has_the_law_of_the_target_given_the_base(s: float) -> None:
    """Gaussian pairs, x ~ N(m, v²) given b: with E[x | y_τ, b] in closed form, samples are x given b."""
    m, v, steps = 0.6, 0.5, 200
    calls = []

    def predict(z: Tensor, log_snr: Tensor) -> Tensor:
        calls.append(len(z))
        tau = times(log_snr.double())[:, None]
        observed, noise = way(z, log_snr) - (1 - tau) * BASE, s**2 * tau * (1 - tau)  # τ x and noise
        return (m * noise + v**2 * tau * observed) / (noise + v**2 * tau**2)

    z = torch.full((4000, 1), BASE, dtype=torch.float64)
    made = BridgeSampler(sigma=s).sample(predict, z, torch.Generator().manual_seed(0), steps=steps)
    assert len(calls) == steps
    assert made.mean().item() == pytest.approx(m, abs=0.03)
    assert made.std().item() == pytest.approx(v, rel=0.04)
    one = BridgeSampler(sigma=s).sample(predict, z, torch.Generator(), steps=1)  # from the base: the mean
    assert (one - m).abs().max() < 2e-3


def curved(z: Tensor, log_snr: Tensor) -> Tensor:
    """Return x̂ whose velocity is -y cos(3τ), so that y = y_0 exp(-sin(3τ) / 3)."""
    tau = times(log_snr)[:, None]
    y = way(z, log_snr)
    return y - (1 - tau) * y * torch.cos(3 * tau)


def solved(sampler: Sampler, steps: int) -> float:
    """Return the error of a solution of `curved`."""
    z = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    made = sampler.sample(curved, z, generators(2), steps=steps)
    return (made - z * math.exp(-math.sin(3) / 3)).abs().max().item()


def test_solvers_have_their_orders() -> None:
    for method, factor in (("euler", 2), ("midpoint", 4)):
        errors = [solved(TransportSampler(method=method), steps) for steps in (40, 80)]
        assert errors[0] / errors[1] == pytest.approx(factor, rel=0.25), method
    assert solved(TransportSampler(method="midpoint"), 10) < 0.3 * solved(TransportSampler(), 10)


def test_adaptive_steps_follow_each_samples_error() -> None:
    told: list[tuple[int, int]] = []
    sampler = TransportSampler(method="adaptive", tolerance=1e-3)
    assert solved(sampler, 200) < 2e-3
    z = torch.tensor([[1.0], [1e-6], [3.0]], dtype=torch.float64)
    together = sampler.sample(curved, z, generators(3), steps=200, callback=lambda *a: told.append(a))
    alone = [sampler.sample(curved, z[row : row + 1], generators(1), steps=200) for row in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert 4 < len(told) < 150
    assert told[-1] == (200, 200)
    straight: list[int] = []
    sampler.sample(lambda z, _: straight.append(1) or torch.ones_like(z), z, generators(3), steps=200)
    assert len(straight) <= 4


def test_a_bridge_without_noise_is_transport() -> None:
    bridge, transport = BridgeSampler(sigma=0.0, prediction="velocity"), TransportSampler(sigma=0.0)
    for one, two in zip(corrupted(bridge), corrupted(transport), strict=True):
        torch.testing.assert_close(one, two)
    z = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    ends = [each.sample(curved, z, generators(2), steps=7) for each in (bridge, transport)]
    torch.testing.assert_close(*ends)


def test_draws_of_a_bridge_differ_and_those_of_transport_are_one() -> None:
    visits = history(SIZE)
    for sampler, differ in ((BridgeSampler(prediction="velocity"), True), (TransportSampler(), False)):
        model = model_of(sampler)
        draws = [model.generate(visits, after(visits)[:, None], sample=sample) for sample in (0, 1, 0)]
        assert torch.equal(draws[0], draws[2])
        assert torch.equal(draws[0], draws[1]) is not differ


def test_a_batch_has_its_own_base() -> None:
    sampler, base = TransportSampler(), torch.zeros(1, 1)
    assert sampler.starting_at(base).base is base
    with pytest.raises(ValueError, match="TransportSampler has no base to start at"):
        sampler.corrupt(base, torch.Generator())
    with pytest.raises(NotImplementedError, match="DDIMSampler starts from noise"):
        DDIMSampler().starting_at(base)


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        (
            TransportSampler(),
            "ddim",
            "ddim starts from noise, and .* from the last visit; leave the sampler out to use tr",
        ),
        (DDIMSampler(), "bridge", "The sampler bridge starts from the last visit, and .* from noise; leave .* ddim"),
        (TransportSampler(contexts=3), "bridge", "starts from the last visit, and .* from the last 3 visits"),
    ],
)
def test_a_sampler_that_starts_elsewhere_is_refused(own: Sampler, other: str, message: str) -> None:
    visits = history(SIZE)
    with pytest.raises(LongigenError, match=message):
        model_of(own).generate(visits, after(visits)[:, None], sampler=other)  # pyright: ignore[reportArgumentType]


def test_another_sampler_from_the_same_start_is_taken() -> None:
    visits = history(SIZE)
    made = model_of(TransportSampler()).generate(visits, after(visits)[:, None], sampler=BridgeSampler(sigma=0.0))
    torch.testing.assert_close(made[:, 0], visits.last(after(visits))[0], atol=1e-6, rtol=0)


def test_a_teacher_that_starts_elsewhere_is_refused() -> None:
    with pytest.raises(LongigenError, match="The teacher starts from the last visit and DistilledSampler from noise"):
        model_of(DistilledSampler()).learn_from(model_of(TransportSampler()))


def cronos(time: str, frames: int = 3) -> CronosConditioner:
    conditioner = CronosConditioner.from_config({"frames": frames, "time": time, "embedding": 8})
    torch.manual_seed(0)
    conditioner.build(channels=1, stem_features=0, time_scale=2.0, covariates=())
    return conditioner.eval()


def visits_at(*times_of: tuple[float, ...]) -> VisitSequence:
    images = torch.zeros(len(times_of), len(times_of[0]), 1, 2, 2, 2)
    there = torch.ones(images.shape[:2], dtype=torch.bool)
    return VisitSequence(images=images, times=torch.tensor(times_of), observed=there, valid=there)


def test_the_time_on_the_way_is_the_papers_and_begins_without_the_target() -> None:
    """(1 - τ) t_context + τ t_target of each context, in typical gaps of 2 since the first (arXiv 2512.16577)."""
    visits = visits_at((1.0, 2.0, 5.0, 9.0), (70.0, 71.0, 74.0, 78.0))
    targets = torch.tensor([10.0, 83.0])
    conditioning = cronos("way")(visits, targets)
    first = torch.tensor([2.0, 71.0])
    for tau in (0.0, 0.25, 0.5, 1.0):
        log_snr = torch.full((2,), 2 * math.log(tau / (1 - tau)) if 0 < tau < 1 else math.copysign(80, tau - 0.5))
        embedding = conditioning.embedding_at(log_snr)
        assert embedding is not None
        expected = ((1 - tau) * torch.tensor([0.0, 3.0, 7.0]) + tau * (targets - first)[:, None]) / 2
        torch.testing.assert_close(embedding[:, :3], expected)
        torch.testing.assert_close(embedding[:, 3:], torch.ones(2, 3))
    later = cronos("way")(visits, targets + 30)
    torch.testing.assert_close(later.embedding_at(torch.full((2,), -80.0)), conditioning.embedding)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(later.embedding_at(torch.zeros(2)), conditioning.embedding_at(torch.zeros(2)))
    seen, other = (cronos("target")(visits, when).embedding for when in (targets, targets + 30))
    assert seen is not None
    assert not torch.equal(seen, other)


def test_a_network_sees_the_time_on_the_way_where_it_walks() -> None:
    """With the time on the way two targets begin alike, and differ from then on."""
    torch.manual_seed(0)
    model = LongitudinalModel(
        CronosConditioner(frames=2, time="way"),
        UNet3D(width=8, heads=2, blocks=1, refine=0),
        TransportSampler(contexts=2),
        settings=ModelSettings.from_config({"target": "image", "order": "direct"}, "model"),
    ).eval()
    for parameter in model.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    visits = history(SIZE)
    soon, late = (model.predictor(visits, after(visits) + wait) for wait in (0.0, 5.0))
    z = torch.randn(len(visits.times), 2, *SIZE, generator=torch.Generator().manual_seed(0))
    begin, middle = torch.full((len(z),), -80.0), torch.zeros(len(z))
    torch.testing.assert_close(soon(z, begin), late(z, begin))
    assert (soon(z, middle) - late(z, middle)).abs().max() > 1e-3


def test_on_a_regular_grid_the_gaps_never_change() -> None:
    """Temporal Flow Matching: whichever visit is next, the conditioning is one, so it needs no time."""
    grid = visits_at((0.0, 1.0, 2.0, 3.0, 4.0))
    made = [cronos("target")(grid, torch.tensor([time])).embedding for time in (3.0, 4.0, 5.0)]
    assert made[0] is not None
    assert all(torch.equal(made[0], each) for each in made[1:])
    assert cronos("none")(grid, torch.tensor([5.0])).embedding is None


def test_shipped_samplers_share_one_loop() -> None:
    """Where a process starts and how it is solved are hooks; none repeats the arguments of `sample`."""
    for name in registry.entries("sampler"):
        assert registry.load("sampler", name).sample is Sampler.sample


def test_regression_is_one_evaluation_from_zeros_whatever_is_asked() -> None:
    asked: list[Tensor] = []
    told: list[tuple[int, int]] = []

    def predict(z: Tensor, log_snr: Tensor) -> Tensor:
        asked.append(z)
        return z + 1

    made = RegressionSampler().sample(
        predict, torch.ones(2, 1), generators(2), steps=7, callback=lambda *counts: told.append(counts)
    )
    assert (torch.equal(made, torch.ones(2, 1)), len(asked), told) == (True, 1, [(1, 1)])
    assert torch.equal(asked[0], torch.zeros(2, 1))


@pytest.mark.slow
def test_a_resumed_training_is_the_same_and_its_samples_are_one(manifest: Path, tmp_path: Path) -> None:
    parts = {"conditioner": "cronos", "denoiser": "unet3d", "sampler": "transport"}
    changes = ["sampler.contexts=2", "denoiser.width=8", "heads=2", "lr_schedule=constant", "training.warmup=0"]
    weights, folder = [], tmp_path
    for first in (1, 2):
        folder = tmp_path / str(first)
        recipe = Recipe.resolve(
            "sadm-tiny", components=parts, data=str(manifest), changes=[*changes, f"training.steps={first}"]
        )
        Experiment.of(recipe).trainer(Run.create(folder), resume=False).fit()
        run = Run.open(folder)
        longer = Recipe.from_dict(run.read()["recipe"], ["training.steps=2"])
        Experiment.of(longer).trainer(run, resume=True).fit()
        weights.append(LongitudinalModel.from_pretrained(folder).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    options: dict[str, Any] = {"settings": ["full"], "metrics": ["psnr"], "progress": False}
    assert "identical" in longigen.evaluate(folder, samples=2, **options).cautions[0]
