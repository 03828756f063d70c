"""A scheduler of diffusers as a sampler."""

import abc
import itertools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from longigen import Generators, Range, Sampler, Step

Spacing = Literal["log_snr", "flow", "karras", "time"]
Evaluations = Annotated[int, Range(1, 100_000)]

# Of each spacing a function of λ in which the levels are even, and its inverse. "time" is even in the schedule's own t.
RHO = 7.0
SPACINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "log_snr": (lambda log_snr: log_snr, lambda log_snr: log_snr),
    "flow": (lambda log_snr: torch.sigmoid(-0.5 * log_snr), lambda tau: -2 * torch.logit(tau)),
    "karras": (lambda log_snr: torch.exp(-0.5 / RHO * log_snr), lambda root: -2 * RHO * torch.log(root)),
}


class ScheduledSampler(Sampler, abc.ABC):
    """A sampler whose steps are those of a scheduler of diffusers, at noise levels of our choice.

    Each walk makes its own scheduler, for as many levels as it has evaluations, and sets these levels itself, in double
    precision: diffusers chooses among its own T levels, in float32, and only some of its schedulers space them in every
    way. What a scheduler remembers (multistep solvers do) ends with the walk, so a sampler can be used again. The
    scheduler gets x̂ (``prediction_type="sample"``). Its last step, to σ = 0, returns x̂ whatever the solver; we return
    x̂ and do not make it.

    Spacing, which matters more than the solver (``benchmarks/solvers.py``, an exact network): with 20 evaluations
    DPM-Solver++ 2M errs by .0089 with levels even in λ (``log_snr``), .013 in ``flow``, .024 in ``karras`` and .130 in
    ``time``; first-order walks, as DDIM's, by .043, .022, .053 and .039.

    - ``log_snr``: even in λ (Lu et al. 2022, arXiv 2206.00927, Section 3.4).
    - ``flow``: even in τ = σ / (α + σ), the time of rectified flow.
    - ``karras``: even in (σ/α)^(1/7) = e^(-λ/14) (Karras et al. 2022, arXiv 2206.00364, Eq. 5).
    - ``time``: even in t of the schedule.

    A subclass writes `scheduler`; where its scheduler's state is not z_t, `scale`; where it wants more than x̂,
    `advance`.
    """

    level_spacing: Spacing

    @abc.abstractmethod
    def scheduler(self, log_snr: Tensor) -> Any:
        """Return a new scheduler that is about to make the steps between the levels λ (n,), which rise."""

    def scale(self, log_snr: Tensor) -> Tensor:
        """Return what z_t is multiplied with to give the scheduler's state: 1 where it preserves variance too."""
        return torch.ones_like(log_snr)

    def advance(
        self, scheduler: Any, state: Tensor, x: Tensor, timestep: Tensor, log_snr: Tensor, generator: Generators
    ) -> Tensor:
        """Return the scheduler's next state, from its state and x̂ at λ."""
        return scheduler.step(x, timestep, state, return_dict=False)[0]

    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        """Return the `steps` times at which the network is asked, by `level_spacing`, the last level included."""
        to, back = SPACINGS.get(self.level_spacing, (self.time, self.log_snr))
        start, end = to(torch.tensor(self.span(steps, within), dtype=torch.float64)).tolist()
        return self.time(back(torch.linspace(start, end, steps, dtype=torch.float64))).clamp(0, 1)

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z_s as the first step of a walk gives it."""
        return self.stepper(torch.stack([t, s]))(z_t, x, t, s, generator)

    def stepper(self, times: Tensor) -> Step:
        """Return what makes the steps of one walk, with the memory of its scheduler."""
        log_snr = self.log_snr(times.double().cpu())
        scheduler = self.scheduler(log_snr)
        moves = zip(scheduler.timesteps, log_snr, itertools.pairwise(self.scale(log_snr)), strict=False)

        def step(z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
            timestep, level, (before, after) = next(moves)
            return self.advance(scheduler, z_t * before, x, timestep, level, generator) / after

        return step


def with_alphas(scheduler: Any, log_snr: Tensor) -> Any:
    """Return a scheduler that reads ᾱ by its timesteps, n - 1 to 0, with ᾱ = sigmoid(λ)."""
    scheduler.set_timesteps(len(log_snr))
    scheduler.alphas_cumprod = torch.sigmoid(log_snr).flip(0)
    return scheduler


def with_sigmas(scheduler: Any, sigmas: Tensor) -> Any:
    """Return a scheduler that walks along `sigmas` (n,), which fall, and then to 0."""
    scheduler.num_inference_steps = len(sigmas)
    scheduler.timesteps = torch.arange(len(sigmas), 0, -1, dtype=torch.float32)  # labels, which must not be integers
    scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    scheduler.set_begin_index(0)
    return scheduler
