"""DDPM, its fast solvers and flow matching, compared with closed forms, hand calculations and diffusers."""

import math
import sys

import pytest
import torch
from torch import Tensor

from helpers.files import ROOT
from longigen import LongigenError, Sampler, randn_like
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.settings import ModelSettings
from longigen.registry.registry import registry
from longigen.testing.case import Case, after, history
from longigen_continuous import ContinuousSampler
from longigen_ddpm import (
    DDIMSampler,
    DDPMSampler,
    DPMSolverSampler,
    EulerSampler,
    FlowSampler,
    ScheduledSampler,
    UniPCSampler,
)

sys.path.insert(0, str(ROOT / "benchmarks"))
import solvers

SOLVERS = (DDIMSampler, EulerSampler, FlowSampler, DPMSolverSampler, UniPCSampler)
MEAN, STD = 0.3, 0.4


def alphas_bar(sampler: Sampler, steps: int = 1000) -> Tensor:
    return torch.sigmoid(sampler.log_snr(torch.linspace(0, 1, steps, dtype=torch.float64)))


def gaussian(z: Tensor, log_snr: Tensor) -> Tensor:
    """Return E[x | z] for x ~ N(MEAN, STD²)."""
    alpha2, sigma2 = torch.sigmoid(log_snr.double())[:, None], torch.sigmoid(-log_snr.double())[:, None]
    alpha = alpha2.sqrt()
    return MEAN + alpha * STD**2 / (alpha2 * STD**2 + sigma2) * (z - alpha * MEAN)


def test_linear_schedule_by_hand() -> None:
    """ᾱ_k = Π (1 - β_i), β from 1e-4 to 0.02: √ᾱ_T = .00635."""
    product, expected = 1.0, []
    for k in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * k / 999)
        expected.append(product)
    sampler = DDPMSampler()
    torch.testing.assert_close(alphas_bar(sampler), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)
    assert math.sqrt(expected[-1]) == pytest.approx(0.00635, abs=5e-6)
    assert sampler.trained_range == pytest.approx((-10.12, 9.21), abs=0.01)
    assert sampler.steps == 1000
    assert sampler.prediction == "epsilon"


@pytest.mark.parametrize(
    ("schedule", "theirs", "zero"),
    [
        ("linear", "linear", False),
        ("cosine", "squaredcos_cap_v2", False),
        ("linear", "linear", True),
        ("cosine", "squaredcos_cap_v2", True),
    ],
)
def test_schedules_are_those_of_diffusers(schedule, theirs: str, zero: bool) -> None:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    other = DPMSolverMultistepScheduler(beta_schedule=theirs, rescale_betas_zero_snr=zero)
    ours = alphas_bar(DDPMSampler(schedule=schedule, zero_terminal_snr=zero, prediction="v"))
    torch.testing.assert_close(ours, other.alphas_cumprod.double(), rtol=2e-3, atol=2e-6)


def test_zero_terminal_snr() -> None:
    sampler = DDPMSampler(zero_terminal_snr=True, prediction="v", steps=4)
    low, high = sampler.trained_range
    assert low == pytest.approx(math.log(2**-24), abs=1e-6)
    assert high == pytest.approx(DDPMSampler().trained_range[1], abs=1e-6)  # the first level is unchanged
    for name in ("ddpm", "ddim", "dpmpp", "unipc", "euler"):
        sampler = registry.load("sampler", name)(zero_terminal_snr=True, prediction="v")
        x = sampler.sample(gaussian, torch.randn(8, 1).double(), torch.Generator(), steps=6)
        assert torch.isfinite(x).all()
    with pytest.raises(LongigenError, match="ε says nothing of x"):
        DDPMSampler(zero_terminal_snr=True)


def test_forward_process() -> None:
    """Eq. 4: z_k = √ᾱ_k x + √(1 - ᾱ_k) ε with k uniform over 1 … T, and ε the target."""
    sampler, x = DDPMSampler(), torch.linspace(-1, 1, 4000).view(4000, 1)
    z_t, log_snr, eps = sampler.corrupt(x, torch.Generator().manual_seed(0))
    assert z_t.dtype == log_snr.dtype == torch.float32
    level = torch.sigmoid(log_snr)[:, None]
    torch.testing.assert_close(z_t, level.sqrt() * x + torch.sigmoid(-log_snr)[:, None].sqrt() * eps)
    # Every λ is that of one of the T levels, which are drawn uniformly.
    levels = sampler.log_snr(torch.linspace(0, 1, 1000, dtype=torch.float64))
    nearest = (log_snr[:, None].double() - levels).abs().min(dim=1)
    assert nearest.values.max() < 1e-4
    assert nearest.indices.double().mean().item() == pytest.approx(499.5, abs=4 * 288.7 / math.sqrt(4000))
    torch.testing.assert_close(sampler.loss(torch.zeros_like(eps), eps, log_snr), eps.square()[:, 0])


@pytest.mark.parametrize("k", [2, 500, 1000])
def test_posterior_by_hand(k: int) -> None:
    """Eq. 5-6 at neighbouring levels, with the β of the schedule, in plain arithmetic."""
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    bar, before = (math.prod(1 - beta for beta in betas[:end]) for end in (k, k - 1))
    beta, z_t, x = betas[k - 1], -0.8, 0.35
    mean = math.sqrt(before) * beta / (1 - bar) * x + math.sqrt(1 - beta) * (1 - before) / (1 - bar) * z_t
    variance = (1 - before) / (1 - bar) * beta
    t, s = (torch.tensor((level - 1) / 999, dtype=torch.float64) for level in (k, k - 1))
    z = torch.full((20_000, 1), z_t, dtype=torch.float64)
    previous = DDPMSampler().step(z, torch.full_like(z, x), t, s, torch.Generator().manual_seed(1))
    noise = randn_like(z, torch.Generator().manual_seed(1))
    torch.testing.assert_close(previous, mean + math.sqrt(variance) * noise, rtol=1e-6, atol=1e-7)


def test_ancestral_sampling_evaluates_every_level_once() -> None:
    sampler, levels_used = DDPMSampler(), []

    def predict(z: Tensor, log_snr: Tensor) -> Tensor:
        levels_used.append(log_snr[0].item())
        return torch.zeros_like(z)

    sampler.sample(predict, torch.randn(1, 1).double(), torch.Generator())
    levels = sampler.log_snr(torch.linspace(1, 0, 1000, dtype=torch.float64))
    assert levels_used == pytest.approx(levels.tolist(), abs=1e-9)


def end_of_the_ode(z: Tensor, sampler: Sampler) -> Tensor:
    """Return x̂ at the end of the exact solution: for a Gaussian, (z - α m) / √(α² s² + σ²) is constant along it."""
    low, high = (torch.tensor(end, dtype=torch.float64) for end in sampler.trained_range)
    (a, va), (b, vb) = (
        (torch.sigmoid(end).sqrt(), torch.sigmoid(end) * STD**2 + torch.sigmoid(-end)) for end in (low, high)
    )
    return gaussian(b * MEAN + (vb / va).sqrt() * (z - a * MEAN), high.expand(len(z)))


@pytest.mark.parametrize("spacing", ["log_snr", "flow"])
@pytest.mark.parametrize(
    ("kind", "order"),
    [(DDIMSampler, 1), (EulerSampler, 1), (FlowSampler, 1), (DPMSolverSampler, 2), (UniPCSampler, 3)],
)
def test_order(kind: type[ScheduledSampler], order: int, spacing: str) -> None:
    """The error falls as NFE to the power of the order; UniPC's corrector adds one to the 2 of its predictor."""
    sampler = kind.from_config({"level_spacing": spacing})
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = [
        (sampler.sample(gaussian, z, torch.Generator(), steps=steps) - end_of_the_ode(z, sampler)).abs().max().item()
        for steps in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)
    assert errors[1] < {1: 0.03, 2: 0.003, 3: 0.0015}[order]


def test_first_order_solvers_are_equal() -> None:
    """DDIM, Euler in σ/α and Euler along the straight path are exact for constant x̂, so their steps are the same."""
    z = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    within = (-8.0, 6.0)
    samples = [kind().sample(gaussian, z, torch.Generator(), steps=7, within=within) for kind in SOLVERS[:3]]
    torch.testing.assert_close(samples[1], samples[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(samples[2], samples[0], atol=1e-4, rtol=0)


def test_twenty_steps_are_as_accurate_as_ancestral_sampling() -> None:
    """On a mixture, the error of DPM-Solver++ in 20 steps is within 0.01 of that of 1000 ancestral steps (range 2)."""
    chain = solvers.error(DDPMSampler(), 1000, count=8000)
    fast = solvers.error(DPMSolverSampler(), 20, count=8000)
    assert chain < 0.012  # 0.006 for 8000 samples of the distribution itself
    assert fast < chain + 0.01
    # The default spacing of each solver is the most accurate, as its docstring says.
    for kind in (DDIMSampler, DPMSolverSampler, UniPCSampler):
        default = solvers.error(kind(), 20, count=2000)
        for spacing in ("log_snr", "flow", "karras", "time"):
            assert default <= solvers.error(kind.from_config({"level_spacing": spacing}), 20, count=2000)


def test_flow_has_a_straight_path_and_the_loss_of_the_velocity() -> None:
    """The path is z / (α + σ) = (1 - τ) x + τ ε with τ uniform, and the loss is that of the velocity ε - x."""
    sampler, x = FlowSampler(), torch.linspace(-1, 1, 4000).view(4000, 1).double()
    z, log_snr, target = sampler.corrupt(x, torch.Generator().manual_seed(0))
    alpha, sigma = torch.sigmoid(log_snr.double()).sqrt()[:, None], torch.sigmoid(-log_snr.double()).sqrt()[:, None]
    tau = sigma / (alpha + sigma)
    assert tau.quantile(0.25).item() == pytest.approx(0.25, abs=0.03)
    assert tau.quantile(0.75).item() == pytest.approx(0.75, abs=0.03)
    eps = sigma * z + alpha * target
    torch.testing.assert_close(z / (alpha + sigma), (1 - tau) * x + tau * eps, rtol=0, atol=1e-5)
    guess = target + torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    velocity = (z / (alpha + sigma) - (alpha * z - sigma * guess)) / tau  # of the x̂ that the guess implies
    expected = (velocity - (eps - x)).square()[:, 0]
    torch.testing.assert_close(sampler.loss(guess, target, log_snr), expected.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", SOLVERS)
def test_sampling_starts_and_ends_at_the_ends_of_the_schedule(kind: type[ScheduledSampler]) -> None:
    sampler = kind()
    for within, (low, high) in ((None, sampler.trained_range), ((-30.0, 0.0), (sampler.trained_range[0], 0.0))):
        levels = sampler.log_snr(sampler.timesteps(5, within))
        assert levels[0].item() == pytest.approx(low, abs=1e-6)
        assert levels[-1].item() == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp", "unipc", "euler", "flow", "continuous", "regression"])
def test_another_sampler_stays_within_the_trained_noise_levels(name: str) -> None:
    """For a model trained on λ up to 0, another sampler uses no higher λ and the prediction of the model."""
    parts = {"conditioner": "source", "denoiser": "unet3d"}
    config = {"unet3d": {"width": 8, "blocks": 1}}
    conditioner, denoiser = (Case(kind, part, config.get(part, {})).make() for kind, part in parts.items())
    trained = ContinuousSampler(prediction="x", log_snr_min=-6.0, log_snr_max=0.0)
    model = LongitudinalModel(conditioner, denoiser, trained, settings=ModelSettings(target="residual")).eval()
    levels_used: list[Tensor] = []
    denoiser.register_forward_pre_hook(lambda _, given: levels_used.append(given[1]))
    visits = history((6, 5, 4))
    sampler = registry.load("sampler", name)()
    image = model.generate(visits, after(visits)[:, None], sampler=sampler, steps=3, guidance=0.0)
    used = torch.cat(levels_used)
    assert used.min() >= -6 - 1e-3
    assert used.max() <= 1e-3
    assert len(levels_used) == (1 if name == "regression" else 3)
    # The output layer is initially zero, and a prediction x of zero is the last visit.
    last = visits.last(before=after(visits))[0]
    torch.testing.assert_close(image[:, 0], last)


def test_a_model_with_one_noise_level_cannot_be_sampled_in_steps() -> None:
    within = registry.load("sampler", "regression")().trained_range
    assert within[0] == within[1]
    z = torch.zeros(1, 1)
    with pytest.raises(LongigenError, match=r"λ from -20 to -20 cannot be used with DPMSolverSampler in 20 steps"):
        DPMSolverSampler().sample(gaussian, z, torch.Generator(), within=within)
    assert torch.isfinite(DPMSolverSampler().sample(gaussian, z, torch.Generator(), steps=1, within=within)).all()


@pytest.mark.parametrize("given", [{"train_steps": 1}, {"beta_min": 0.1}, {"beta_max": 1.0}])
def test_an_impossible_schedule_is_refused(given) -> None:
    with pytest.raises(LongigenError, match="must"):
        DDPMSampler(**given)
