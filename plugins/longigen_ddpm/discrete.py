"""The discrete-time forward process of DDPM."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from longigen import LongigenError, Prediction, Range, draw_rows
from longigen_ddpm.scheduled import Evaluations, ScheduledSampler, Spacing

Schedule = Literal["linear", "cosine"]
TrainSteps = Annotated[int, Range(2, 100_000)]
"""The number of steps of the forward process; more would not be distinguishable noise levels."""
Beta = Annotated[float, Range(above=0, below=1)]


class DiscreteSampler(ScheduledSampler):
    """The forward process of DDPM, in T steps (Ho et al. 2020, arXiv 2006.11239; Dao, Yang and Kim 2024, Eq. 1-4).

    q(x_k | x_(k-1)) = N(√(1 - β_k) x_(k-1), β_k I) for k = 1 … T, so z_k = √ᾱ_k x + √(1 - ᾱ_k) ε with
    ᾱ_k = Π (1 - β_i), and λ_k = log(ᾱ_k / (1 - ᾱ_k)). Time is t = (k - 1) / (T - 1). Training draws k uniformly; the
    loss is the squared error of ε (``prediction="epsilon"``). Generation may use levels between these, where λ is
    interpolated linearly, but never outside [λ_T, λ_1].

    Schedules:

    - ``linear``: β from `beta_min` to `beta_max`. With T = 1000, √ᾱ_T is .00635 and λ ranges from -10.1 to 9.2. The
      default values of β are meant for this T; with a smaller one, signal remains at the end.
    - ``cosine``: ᾱ_k = f(k / T) / f(0), f(u) = cos²(π/2 (u + .008) / 1.008), β at most .999 (Nichol and Dhariwal 2021,
      arXiv 2102.09672); ``squaredcos_cap_v2`` in diffusers. `beta_min` and `beta_max` are not used.
    - `zero_terminal_snr`: √ᾱ is shifted and scaled to end at 0 (Lin et al. 2024, arXiv 2305.08891, Algorithm 1). λ
      would be -∞ there; as in diffusers ᾱ_T is 2^-24, λ = -16.6. ε does not determine x at that level, so the network
      cannot predict ε.

    Args:
        prediction: prediction type of the network, in which the squared error is measured.
        steps: network evaluations in generation.
        level_spacing: spacing of the noise levels in generation, see `ScheduledSampler`.
        schedule: schedule of β.
        train_steps: T, the number of steps of the forward process.
        beta_min: β_1.
        beta_max: β_T.
        zero_terminal_snr: whether no signal of x remains at T.
    """

    def __init__(
        self,
        *,
        prediction: Prediction = "epsilon",
        steps: Evaluations = 50,
        level_spacing: Spacing = "flow",
        schedule: Schedule = "linear",
        train_steps: TrainSteps = 1000,
        beta_min: Beta = 1e-4,
        beta_max: Beta = 0.02,
        zero_terminal_snr: bool = False,
    ) -> None:
        super().__init__(prediction=prediction, steps=steps)
        if beta_min > beta_max:
            raise LongigenError(f"beta_min must not be above beta_max, got {beta_min} and {beta_max}.")
        if zero_terminal_snr and prediction == "epsilon":
            raise LongigenError("With zero_terminal_snr, ε says nothing of x at the last level; set prediction=v or x.")
        self.level_spacing = level_spacing
        if schedule == "linear":
            alphas_bar = (1 - torch.linspace(beta_min, beta_max, train_steps, dtype=torch.float64)).cumprod(0)
        else:
            u = torch.arange(train_steps + 1, dtype=torch.float64) / train_steps
            f = torch.cos(0.5 * math.pi * (u + 0.008) / 1.008) ** 2
            alphas_bar = (f[1:] / f[:-1]).clamp(min=0.001).cumprod(0)
        if zero_terminal_snr:
            root = alphas_bar.sqrt()
            alphas_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
            alphas_bar[-1] = 2.0**-24
        self._times = torch.linspace(0, 1, train_steps, dtype=torch.float64)
        self._levels = torch.logit(alphas_bar)
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def log_snr(self, t: Tensor) -> Tensor:
        """Return λ at times `t` in [0, 1]."""
        times, levels = self._tables(t.device)
        return _interpolate(t, times, levels)

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the times at which λ is `log_snr`."""
        times, levels = self._tables(log_snr.device)
        return _interpolate(log_snr, levels.flip(0), times.flip(0))

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the times of `count` training samples (count,): k ~ U{1, …, T}."""

        def draw(number: int) -> Tensor:
            return torch.randint(len(self._times), (number,), generator=generator, device=generator.device)

        index = draw_rows(draw, count, generator)
        return self._tables(index.device)[0].float()[index]

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the times and λ of all levels on a device; copied once, since a copy makes the CPU wait for a GPU."""
        if device not in self._copies:
            self._copies[device] = self._times.to(device), self._levels.to(device)
        return self._copies[device]


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Return the piecewise linear function through (knots, values) at `x`; the knots are ascending."""
    double = x.double()
    index = torch.searchsorted(knots, double.contiguous()).clamp(1, len(knots) - 1)
    # By `take`, since brackets with an index of no dimension make the CPU wait for a GPU.
    (low, high), (before, after) = ((table.take(index - 1), table.take(index)) for table in (knots, values))
    return (before + (double - low) / (high - low) * (after - before)).to(x.dtype)
