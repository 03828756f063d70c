"""Tests of α, σ and the conversions between ε, x, v and the velocity against values computed by hand."""

import math
from typing import get_args

import pytest
import torch

from longigen.components.parameterization import Prediction, alpha_sigma, expand, prediction_target, to_epsilon, to_x

PREDICTIONS = get_args(Prediction)
ROOT = math.sqrt(0.75)  # α at λ = log 3, where α² = 3/4 and σ² = 1/4

# λ, x, ε: z = α x + σ ε and v = α ε - σ x
CASES = [
    (0.0, 2.0, -1.0, (2 - 1) / math.sqrt(2), (-1 - 2) / math.sqrt(2)),
    (math.log(3), 2.0, -1.0, 2 * ROOT - 0.5, -ROOT - 1.0),
    (-math.log(3), 2.0, -1.0, 1.0 - ROOT, -0.5 - 2 * ROOT),
]


def volume(value: float) -> torch.Tensor:
    return torch.full((1, 1, 2, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize(("log_snr", "alpha2"), [(0.0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25)])
def test_alpha_and_sigma_by_hand(log_snr: float, alpha2: float) -> None:
    alpha, sigma = alpha_sigma(torch.tensor([log_snr], dtype=torch.float64))
    assert alpha.item() == pytest.approx(math.sqrt(alpha2), abs=1e-15)
    assert sigma.item() == pytest.approx(math.sqrt(1 - alpha2), abs=1e-15)


def test_variance_is_preserved_and_log_snr_is_exact() -> None:
    log_snr = torch.linspace(-20, 20, 401, dtype=torch.float64)
    alpha, sigma = alpha_sigma(log_snr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(log_snr), rtol=0, atol=1e-15)
    torch.testing.assert_close(torch.log(alpha**2 / sigma**2), log_snr, rtol=0, atol=1e-12)
    single = torch.cat(alpha_sigma(log_snr.float()))  # neither may vanish in single precision
    torch.testing.assert_close(single.double(), torch.cat([alpha, sigma]), rtol=2e-6, atol=0)


@pytest.mark.parametrize(("log_snr", "x", "eps", "z", "v"), CASES)
def test_conversions_by_hand(log_snr: float, x: float, eps: float, z: float, v: float) -> None:
    level = torch.tensor([log_snr], dtype=torch.float64)
    outputs: dict[Prediction, float] = {"x": x, "epsilon": eps, "v": v, "velocity": x - eps}
    for prediction, output in outputs.items():
        assert prediction_target(prediction, volume(x), volume(eps), level).mean().item() == pytest.approx(
            output, abs=1e-14
        )
        assert to_x(prediction, volume(output), volume(z), level).mean().item() == pytest.approx(x, abs=1e-14)
        assert to_epsilon(prediction, volume(output), volume(z), level).mean().item() == pytest.approx(eps, abs=1e-14)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_round_trips_with_a_noise_level_per_sample(prediction: Prediction) -> None:
    generator = torch.Generator().manual_seed(0)
    log_snr = torch.linspace(-15, 15, 7, dtype=torch.float64)
    x, eps = torch.randn(2, 7, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    alpha, sigma = (expand(part, x) for part in alpha_sigma(log_snr))
    assert alpha.shape == (7, 1, 1, 1, 1)
    z_t = alpha * x + sigma * eps
    output = prediction_target(prediction, x, eps, log_snr)
    torch.testing.assert_close(to_x(prediction, output, z_t, log_snr), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(to_epsilon(prediction, output, z_t, log_snr), eps, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_x_and_epsilon_of_any_output_recompose_z(prediction: Prediction) -> None:
    generator = torch.Generator().manual_seed(1)
    log_snr = torch.tensor([-3.0, 0.5, 6.0], dtype=torch.float64)
    z_t, output = torch.randn(2, 3, 1, 2, 2, 2, generator=generator, dtype=torch.float64)
    alpha, sigma = (expand(part, z_t) for part in alpha_sigma(log_snr))
    x, eps = to_x(prediction, output, z_t, log_snr), to_epsilon(prediction, output, z_t, log_snr)
    torch.testing.assert_close(alpha * x + sigma * eps, z_t)
    torch.testing.assert_close(prediction_target(prediction, x, eps, log_snr), output)
