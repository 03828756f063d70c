"""Variance-preserving diffusion: α and σ from the log-SNR, and conversions between what a network may predict.

With α² = sigmoid(λ), σ² = sigmoid(-λ) and z = α x + σ ε (Kingma et al. 2021, Eq. 1-2), v = α ε - σ x
(Salimans and Ho 2022, Appendix D). The velocity x - ε is that of the straight path from ε to x, on which z / (α + σ)
lies (Lipman et al. 2023, arXiv 2210.02747). Where a process starts at a visit instead of noise, that visit is ε. All
functions are per sample: λ is (B,), volumes are (B, ...).
"""

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "x", "v", "velocity"]


def expand(per_sample: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, ...), to broadcast against `like`."""
    return per_sample.view(-1, *[1] * (like.ndim - 1))


def alpha_sigma(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Return α = sqrt(sigmoid(λ)) and σ = sqrt(sigmoid(-λ)); α² + σ² = 1."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def prediction_target(prediction: Prediction, x: Tensor, eps: Tensor, log_snr: Tensor) -> Tensor:
    """Return the training target of a network of that prediction type: ε, x, v or the velocity."""
    if prediction == "x":
        return x
    if prediction == "epsilon":
        return eps
    if prediction == "velocity":
        return x - eps
    alpha, sigma = (expand(part, x) for part in alpha_sigma(log_snr))
    return alpha * eps - sigma * x


def to_x(prediction: Prediction, output: Tensor, z_t: Tensor, log_snr: Tensor) -> Tensor:
    """Convert a network's output to x̂: itself, (z - σ ε̂) / α, α z - σ v̂, or with a velocity û (z + σ û) / (α + σ)."""
    if prediction == "x":
        return output
    alpha, sigma = (expand(part, z_t) for part in alpha_sigma(log_snr))
    if prediction == "epsilon":
        return (z_t - sigma * output) / alpha
    if prediction == "velocity":
        return (z_t + sigma * output) / (alpha + sigma)
    return alpha * z_t - sigma * output


def to_epsilon(prediction: Prediction, output: Tensor, z_t: Tensor, log_snr: Tensor) -> Tensor:
    """Convert a network's output to ε̂: itself, (z - α x̂) / σ, σ z + α v̂, or with a velocity û (z - α û) / (α + σ)."""
    if prediction == "epsilon":
        return output
    alpha, sigma = (expand(part, z_t) for part in alpha_sigma(log_snr))
    if prediction == "x":
        return (z_t - alpha * output) / sigma
    if prediction == "velocity":
        return (z_t - alpha * output) / (alpha + sigma)
    return sigma * z_t + alpha * output
