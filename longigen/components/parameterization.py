"""Variance-preserving diffusion: α and σ from the log-SNR, and conversions between ε, x and v predictions.

With α² = sigmoid(λ), σ² = sigmoid(-λ) and z = α x + σ ε (Kingma et al. 2021, Eq. 1-2), v = α ε - σ x
(Salimans and Ho 2022, Appendix D). All functions are per sample: λ is (B,), volumes are (B, ...).
"""

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "x", "v"]


def expand(per_sample: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, ...), to broadcast against `like`."""
    return per_sample.view(-1, *[1] * (like.ndim - 1))


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return α = sqrt(sigmoid(λ)) and σ = sqrt(sigmoid(-λ)); α² + σ² = 1."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def prediction_target(prediction: Prediction, x: Tensor, eps: Tensor, log_snr: Tensor) -> Tensor:
    """Return the training target of a network of that prediction type: ε, x or v."""
    if prediction == "x":
        return x
    if prediction == "epsilon":
        return eps
    alpha, sigma = (expand(part, x) for part in alpha_sigma(log_snr))
    return alpha * eps - sigma * x


def to_x(prediction: Prediction, output: Tensor, z_t: Tensor, log_snr: Tensor) -> Tensor:
    """Convert a network's output to x̂: the output itself, (z - σ ε̂) / α, or α z - σ v̂."""
    if prediction == "x":
        return output
    alpha, sigma = (expand(part, z_t) for part in alpha_sigma(log_snr))
    if prediction == "epsilon":
        return (z_t - sigma * output) / alpha
    return alpha * z_t - sigma * output


def to_epsilon(prediction: Prediction, output: Tensor, z_t: Tensor, log_snr: Tensor) -> Tensor:
    """Convert a network's output to ε̂: the output itself, (z - α x̂) / σ, or σ z + α v̂."""
    if prediction == "epsilon":
        return output
    alpha, sigma = (expand(part, z_t) for part in alpha_sigma(log_snr))
    if prediction == "x":
        return (z_t - alpha * output) / sigma
    return sigma * z_t + alpha * output
