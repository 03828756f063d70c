"""The continuous-time diffusion process, compared with closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from longigen import LongigenError
from longigen_continuous import ContinuousSampler


def gaussian_denoiser(mean: float, std: float):
    """Return E[x | z_t] for x ~ N(mean, std²): mean + α std² / (α² std² + σ²) (z - α mean)."""

    def predict(z_t: Tensor, log_snr: Tensor) -> Tensor:
        alpha2, sigma2 = torch.sigmoid(log_snr)[:, None], torch.sigmoid(-log_snr)[:, None]
        alpha = alpha2.sqrt()
        return mean + alpha * std**2 / (alpha2 * std**2 + sigma2) * (z_t - alpha * mean)

    return predict


def chain_moments(sampler: ContinuousSampler, mean: float, std: float, steps: int) -> tuple[float, float]:
    """Return the exact mean and standard deviation of the final sample, since every step is linear in z plus noise."""
    m, variance = 0.0, 1.0
    times = [*sampler.timesteps(steps).tolist(), 0.0]
    for index, (t, s) in enumerate(pairwise(times)):
        lt, ls = (sampler.log_snr(torch.tensor(u, dtype=torch.float64)).item() for u in (t, s))
        at, st2 = math.sqrt(1 / (1 + math.exp(-lt))), 1 / (1 + math.exp(lt))
        as_, ss2 = math.sqrt(1 / (1 + math.exp(-ls))), 1 / (1 + math.exp(ls))
        gain = at * std**2 / (at**2 * std**2 + st2)
        offset = mean - gain * at * mean
        if index == steps - 1:
            return offset + gain * m, math.sqrt(gain**2 * variance)
        r = math.exp(lt - ls)
        slope = r * as_ / at + (1 - r) * as_ * gain
        m = slope * m + (1 - r) * as_ * offset
        noise = ((1 - r) * ss2) ** (1 - sampler.v) * ((1 - r) * st2) ** sampler.v
        variance = slope**2 * variance + noise
    raise AssertionError


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [50, 200])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.3), (-0.4, 0.5)])
def test_gaussian_data(v: float, steps: int, mean: float, std: float) -> None:
    sampler = ContinuousSampler(v=v)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40_000, 1, dtype=torch.float64, generator=generator)
    x = sampler.sample(gaussian_denoiser(mean, std), z, generator, steps=steps)
    exact_mean, exact_std = chain_moments(sampler, mean, std, steps)
    # Sampling follows Eq. 2-3 up to Monte Carlo error ...
    assert x.mean().item() == pytest.approx(exact_mean, abs=4 * std / 200)
    assert x.std().item() == pytest.approx(exact_std, rel=0.02)
    # ... and ends at the moments of the data, up to a discretisation error that decreases as 1/T.
    assert exact_mean == pytest.approx(mean, abs=1e-3)
    assert exact_std == pytest.approx(std, rel=6 / steps)


def test_unit_gaussian_is_exact_with_the_forward_variance() -> None:
    """For x ~ N(0, 1) the reverse process has the forward variance exactly, so v = 1 is right at any T."""
    for steps in (2, 5, 50):
        sampler = ContinuousSampler(v=1.0)
        times = sampler.timesteps(steps)
        last = sampler.alpha_sigma(times[-1])[0].item()
        assert chain_moments(sampler, 0.0, 1.0, steps)[1] == pytest.approx(last, abs=1e-9)


@pytest.mark.parametrize(("t", "s"), [(0.9, 0.4), (0.5, 0.49), (0.2, 0.01)])
def test_posterior_follows_bayes_rule(t: float, s: float) -> None:
    """q(z_s | z_t, x) by hand: prior N(α_s x, σ_s²), likelihood N(α_t/α_s z_s, σ_t² - (α_t/α_s)² σ_s²)."""
    sampler = ContinuousSampler()
    time, earlier = torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
    (at, st), (as_, ss) = ((float(p) for p in sampler.alpha_sigma(u)) for u in (time, earlier))
    x, z_t = 0.37, -1.2
    transition = at / as_
    forward = st**2 - transition**2 * ss**2
    precision = 1 / ss**2 + transition**2 / forward
    mean = (as_ * x / ss**2 + transition * z_t / forward) / precision
    got, lower, upper = sampler.posterior(torch.tensor([z_t]).double(), torch.tensor([x]).double(), time, earlier)
    assert got.item() == pytest.approx(mean, rel=1e-7)
    assert lower.item() == pytest.approx(1 / precision, rel=1e-7)
    assert upper.item() == pytest.approx(forward, rel=1e-7)


def test_schedule() -> None:
    sampler = ContinuousSampler(log_snr_min=-15, log_snr_max=12)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    log_snr = sampler.log_snr(t)
    assert log_snr[0].item() == pytest.approx(12, abs=1e-9)
    assert log_snr[-1].item() == pytest.approx(-15, abs=1e-6)
    assert (log_snr.diff() < 0).all()
    alpha, sigma = sampler.alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    # With unbounded λ this is the cosine schedule, α = cos(π t / 2).
    wide = ContinuousSampler(log_snr_min=-60, log_snr_max=60)
    torch.testing.assert_close(wide.alpha_sigma(t)[0], torch.cos(math.pi / 2 * t), atol=1e-9, rtol=0)


def test_noise_prediction_is_equation_5() -> None:
    sampler = ContinuousSampler()
    assert sampler.prediction == "epsilon"
    x = torch.rand(4, 1, 3, 3, 3) * 2 - 1
    z_t, log_snr, eps = sampler.corrupt(x, torch.Generator().manual_seed(0))
    alpha, sigma = (p.view(4, 1, 1, 1, 1) for p in (torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()))
    torch.testing.assert_close(z_t, alpha * x + sigma * eps)
    guess = torch.zeros_like(eps)
    torch.testing.assert_close(sampler.loss(guess, eps, log_snr), eps.square().mean(dim=(1, 2, 3, 4)))


def test_noise_levels_cover_the_schedule() -> None:
    _, log_snr, _ = ContinuousSampler().corrupt(torch.zeros(4000, 1), torch.Generator().manual_seed(0))
    sampler = ContinuousSampler()
    for quantile in (0.1, 0.5, 0.9):
        expected = sampler.log_snr(torch.tensor(1 - quantile, dtype=torch.float64)).item()
        assert log_snr.quantile(quantile).item() == pytest.approx(expected, abs=0.3)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(LongigenError, match="log_snr_min must be below log_snr_max, got 3 and -3"):
        ContinuousSampler(log_snr_min=3, log_snr_max=-3)
