"""Ancestral sampling of a continuous-time variance-preserving process (SADM, Section 2.1)."""

from typing import Annotated

import torch
from torch import Tensor

from longigen import Generators, Prediction, Range, Sampler, randn_like


class ContinuousSampler(Sampler):
    """The continuous-time variance-preserving process (Yoon et al. 2023, Section 2.1).

    Schedule: the paper writes α² = 1 / (1 + e^(-t)) with t drawn uniformly. Taken literally, half of the signal would
    remain at t = 0. The paper follows Ho and Salimans (2022) and Kingma et al. (2021), where α² = sigmoid(λ) and λ is
    the log-SNR; so does this sampler, with their cosine schedule λ(t) = -2 log tan(a t + b) between `log_snr_min` and
    `log_snr_max`. T (`steps`) can be chosen freely in generation, since training draws t continuously.

    Reverse process, Eq. 2-3, for t > s:

    - μ(z_t, x) = e^(λ_t - λ_s) (α_s / α_t) z_t + (1 - e^(λ_t - λ_s)) α_s x
    - σ̃² = (1 - e^(λ_t - λ_s)) σ_s², the variance of the posterior, is the lower bound of the reverse variance;
      σ²_(t|s) = (1 - e^(λ_t - λ_s)) σ_t², the forward variance, is the upper bound. z_s ~ N(μ(z_t, x̂), (σ̃²)^(1-v)
      (σ²_(t|s))^v I), that is v interpolates between them in the log domain.

    Training, Eq. 5: the noise-prediction loss is ``prediction="epsilon"``. x or v can be predicted instead, because at
    high noise ε hardly determines x (x̂ = (z - σ ε̂) / α with α = 4.5e-5 at λ = -20), and a network needs long training
    to predict it accurately enough.

    Args:
        prediction: prediction type of the network, in which the squared error is measured.
        steps: T, network evaluations in generation.
        v: interpolation of the reverse variance, from 0 (posterior) to 1 (forward process). Ho and Salimans (Section
            4.1) have 0.3 for images of 64 × 64 and 0.2 for 128 × 128; SADM gives no value.
        log_snr_min: λ at t = 1.
        log_snr_max: λ at t = 0.
        solver: name of the sampler that generates by default, such as ``ddim``; this one itself if None.
        solver_steps: its network evaluations; its own number if None.
    """

    def __init__(
        self,
        *,
        prediction: Prediction = "epsilon",
        steps: Annotated[int, Range(1, 100_000)] = 100,
        v: Annotated[float, Range(0, 1)] = 0.3,
        log_snr_min: Annotated[float, Range(-60, 60)] = -20.0,
        log_snr_max: Annotated[float, Range(-60, 60)] = 20.0,
        solver: str | None = None,
        solver_steps: Annotated[int, Range(1, 100_000)] | None = None,
    ) -> None:
        super().__init__(prediction=prediction, steps=steps, log_snr_min=log_snr_min, log_snr_max=log_snr_max)
        self.v = v
        self.solver, self.solver_steps = solver, solver_steps

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z_s ~ N(μ(z_t, x), σ̃^(2(1-v)) σ_(t|s)^(2v)), Eq. 2-3."""
        mean, lower, upper = self.posterior(z_t, x, t, s)
        variance = torch.exp((1 - self.v) * lower.log() + self.v * upper.log())
        return mean + variance.sqrt().to(z_t.dtype) * randn_like(z_t, generator)

    def posterior(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean of q(z_s | z_t, x), its variance σ̃² (Eq. 2-3), and the forward variance σ²_(t|s)."""
        log_snr_t, log_snr_s = self.log_snr(t), self.log_snr(s)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.alpha_sigma(t), self.alpha_sigma(s)
        ratio = torch.exp(log_snr_t - log_snr_s)
        gain = -torch.expm1(log_snr_t - log_snr_s)
        mean = (ratio * alpha_s / alpha_t).to(z_t.dtype) * z_t + (gain * alpha_s).to(z_t.dtype) * x
        return mean, gain * sigma_s**2, gain * sigma_t**2
