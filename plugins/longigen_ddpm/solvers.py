"""Samplers for DDPM's forward process: ancestral sampling, and solvers of the probability-flow ODE.

All of them train in the same way, by `DiscreteSampler`, and can sample from each other's networks. The errors in the
docstrings are Wasserstein distances to a mixture of two Gaussians with an exact network (``benchmarks/solvers.py``);
20,000 samples of the mixture itself have .0041.
"""

from typing import Any

import torch
from torch import Tensor

from longigen import Generators, Prediction
from longigen_ddpm.discrete import Beta, DiscreteSampler, Schedule, TrainSteps
from longigen_ddpm.scheduled import Evaluations, Spacing, with_alphas, with_sigmas


class DDPMSampler(DiscreteSampler):
    """Ancestral sampling of DDPM (Ho et al. 2020, arXiv 2006.11239; Dao, Yang and Kim 2024, Eq. 1-10).

    Reverse process, Eq. 5-6: z_(k-1) ~ N(μ̃, β̃_k I), the posterior q(z_(k-1) | z_k, x̂), with

    - μ̃ = √ᾱ_(k-1) β_k / (1 - ᾱ_k) x̂ + √(1 - β_k) (1 - ᾱ_(k-1)) / (1 - ᾱ_k) z_k
    - β̃_k = (1 - ᾱ_(k-1)) / (1 - ᾱ_k) β_k

    With fewer steps than T, β_k is 1 - ᾱ_k / ᾱ_j for consecutive levels k > j. The error is .055 with 20 steps, .022
    with 80 (``flow`` spacing: .031 and .010) and .0036 with all 1000; for few steps use `dpmpp`. The other arguments
    are those of `DiscreteSampler`.

    Args:
        solver: name of the sampler that generates by default, such as ``ddim``; this one itself if None.
        solver_steps: its network evaluations; its own number if None.
    """

    def __init__(
        self,
        *,
        prediction: Prediction = "epsilon",
        steps: Evaluations = 1000,
        level_spacing: Spacing = "time",
        schedule: Schedule = "linear",
        train_steps: TrainSteps = 1000,
        beta_min: Beta = 1e-4,
        beta_max: Beta = 0.02,
        zero_terminal_snr: bool = False,
        solver: str | None = None,
        solver_steps: Evaluations | None = None,
    ) -> None:
        super().__init__(
            prediction=prediction,
            steps=steps,
            level_spacing=level_spacing,
            schedule=schedule,
            train_steps=train_steps,
            beta_min=beta_min,
            beta_max=beta_max,
            zero_terminal_snr=zero_terminal_snr,
        )
        self.solver, self.solver_steps = solver, solver_steps

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the DDPM scheduler of diffusers with the posterior's variance."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        scheduler = DDPMScheduler(num_train_timesteps=len(log_snr), prediction_type="sample", clip_sample=False)
        return with_alphas(scheduler, log_snr)

    def advance(
        self, scheduler: Any, state: Tensor, x: Tensor, timestep: Tensor, log_snr: Tensor, generator: Generators
    ) -> Tensor:
        """Return the next state, with noise from the generators."""
        source = generator if isinstance(generator, torch.Generator) else list(generator)
        return scheduler.step(x, timestep, state, generator=source, return_dict=False)[0]


class DDIMSampler(DiscreteSampler):
    """DDIM with η = 0 (Song et al. 2021, arXiv 2010.02502, Eq. 12): z_s = α_s x̂ + σ_s (z_t - α_t x̂) / σ_t.

    Deterministic and first-order: its error is .12, .046, .022, .011 and .005 with 5, 10, 20, 40 and 80 evaluations.
    The default spacing ``flow`` has half the error of ``log_snr`` and ``time``.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the DDIM scheduler of diffusers."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        scheduler = DDIMScheduler(num_train_timesteps=len(log_snr), prediction_type="sample", clip_sample=False)
        return with_alphas(scheduler, log_snr)


class EulerSampler(DiscreteSampler):
    """Euler's method for the variance-exploding ODE (Karras et al. 2022, arXiv 2206.00364, Algorithm 1).

    For y = z / α = x + σ̂ ε with σ̂ = σ / α, the ODE is dy/dσ̂ = (y - x̂) / σ̂. A step of Euler's method is exact for a
    constant x̂, and so is one of DDIM. So both have the same steps, errors and default spacing.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the Euler scheduler of diffusers."""
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        scheduler = with_sigmas(EulerDiscreteScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))
        scheduler.is_scale_input_called = True  # avoids a warning at each step; `scale` scales the input
        return scheduler

    def scale(self, log_snr: Tensor) -> Tensor:
        """Return 1 / α, as the scheduler's state is y."""
        return torch.sigmoid(log_snr).rsqrt()


class MultistepSampler(DiscreteSampler):
    """Base class of the second-order solvers, with defaults of 20 evaluations and levels equidistant in λ.

    The arguments are those of `DiscreteSampler`.
    """

    def __init__(
        self,
        *,
        prediction: Prediction = "epsilon",
        steps: Evaluations = 20,
        level_spacing: Spacing = "log_snr",
        schedule: Schedule = "linear",
        train_steps: TrainSteps = 1000,
        beta_min: Beta = 1e-4,
        beta_max: Beta = 0.02,
        zero_terminal_snr: bool = False,
    ) -> None:
        super().__init__(
            prediction=prediction,
            steps=steps,
            level_spacing=level_spacing,
            schedule=schedule,
            train_steps=train_steps,
            beta_min=beta_min,
            beta_max=beta_max,
            zero_terminal_snr=zero_terminal_snr,
        )


class DPMSolverSampler(MultistepSampler):
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095, Algorithm 2).

    Deterministic and second-order: its error is .097, .042, .0089, .0019 and .0004 with 5, 10, 20, 40 and 80
    evaluations.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the multistep DPM-Solver++ scheduler of diffusers, of order 2."""
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        return with_sigmas(DPMSolverMultistepScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))


class UniPCSampler(MultistepSampler):
    """UniPC of order 2 (Zhao et al. 2023, arXiv 2302.04867); each x̂ also corrects the step before it.

    Deterministic and, with the corrector, third-order: its error is .093, .036, .0035, .0005 and .0003 with 5, 10, 20,
    40 and 80 evaluations.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return the UniPC scheduler of diffusers."""
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        return with_sigmas(UniPCMultistepScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))
