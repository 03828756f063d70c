"""Rectified flow as a sampler."""

from typing import Annotated, Any

import torch
from torch import Tensor

from longigen import Generators, Range
from longigen_ddpm.scheduled import Evaluations, ScheduledSampler, Spacing, with_sigmas


class FlowSampler(ScheduledSampler):
    """Rectified flow (Liu et al. 2022, arXiv 2209.03003), with the variance-preserving z of the other samplers.

    The straight path y_τ = (1 - τ) x + τ ε, τ ~ U(0, 1), has λ = 2 log((1 - τ) / τ). The input of a denoiser is always
    z = α x + σ ε with α² + σ² = 1, which is y_τ divided by √((1 - τ)² + τ²): z = (α + σ) y_τ, and τ = σ / (α + σ). So
    networks are interchangeable between this and the other samplers.

    Loss: that of flow matching, the squared error of the velocity ε - x. The network predicts v = α ε - σ x. For a
    given z, an error of v is an error of x̂ times -1/σ, and an error of the velocity (y_τ - x̂) / τ is an error of x̂
    times -1/τ. So the error of the velocity is (α + σ) times that of v, and the loss is the squared error of v times
    (α + σ)², a factor from 1 to 2. No prediction type beyond ε, x and v is needed.

    Generation: Euler's method along the path. Its step equals that of DDIM, with the same errors (see `DDIMSampler`).
    The difference is in training, which puts half of the noise levels at λ within ±2.2.

    Args:
        steps: network evaluations in generation.
        level_spacing: spacing of the noise levels in generation, see `ScheduledSampler`.
        log_snr_min: λ at t = 1, where τ = sigmoid(-λ/2).
        log_snr_max: λ at t = 0.
    """

    def __init__(
        self,
        *,
        steps: Evaluations = 50,
        level_spacing: Spacing = "flow",
        log_snr_min: Annotated[float, Range(-60, 60)] = -10.0,
        log_snr_max: Annotated[float, Range(-60, 60)] = 10.0,
    ) -> None:
        super().__init__(prediction="v", steps=steps, log_snr_min=log_snr_min, log_snr_max=log_snr_max)
        self.level_spacing = level_spacing
        low, high = torch.sigmoid(torch.tensor([-0.5 * log_snr_max, -0.5 * log_snr_min], dtype=torch.float64)).tolist()
        self._start, self._length = low, high - low

    def log_snr(self, t: Tensor) -> Tensor:
        """Return λ = 2 log((1 - τ) / τ) at times `t` in [0, 1], over which τ is linear."""
        return -2 * torch.logit(self._start + self._length * t.double()).to(t.dtype)

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the times at which λ is `log_snr`."""
        return ((torch.sigmoid(-0.5 * log_snr.double()) - self._start) / self._length).to(log_snr.dtype)

    def loss(self, output: Tensor, target: Tensor, log_snr: Tensor) -> Tensor:
        """Return the mean squared error of the velocity of each sample (B,)."""
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        return (alpha + sigma).square() * super().loss(output, target, log_snr)

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the Euler scheduler for flow matching of diffusers, at τ."""
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        return with_sigmas(FlowMatchEulerDiscreteScheduler(), torch.sigmoid(-0.5 * log_snr))

    def scale(self, log_snr: Tensor) -> Tensor:
        """Return 1 / (α + σ), as the scheduler's state is y_τ."""
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        return 1 / (alpha + sigma)

    def advance(
        self, scheduler: Any, state: Tensor, x: Tensor, timestep: Tensor, log_snr: Tensor, generator: Generators
    ) -> Tensor:
        """Return the next state along the velocity (y_τ - x̂) / τ."""
        velocity = (state - x) / torch.sigmoid(-0.5 * log_snr)
        return scheduler.step(velocity, timestep, state, return_dict=False)[0]
