"""The samplers on DDPM's forward process: its own chain, and solvers of the probability-flow ODE.

All of them train alike, by `DiscreteSampler`. They differ in how they generate, for which any of them, and any other
model's network, will do. The errors quoted are those of ``benchmarks/solvers.py``: the Wasserstein distance to a
mixture of two Gaussians with the exact network, where 20,000 samples of the data themselves have .0041.
"""

from typing import Any

import torch
from torch import Tensor

from longigen import Generators, Prediction
from longigen_ddpm.discrete import Beta, DiscreteSampler, Schedule, TrainSteps
from longigen_ddpm.scheduled import Evaluations, Spacing, with_alphas, with_sigmas


class DDPMSampler(DiscreteSampler):
    """The chain of DDPM (Ho et al. 2020, arXiv 2006.11239; Dao, Yang and Kim 2024, Eq. 1-10).

    Reverse process, Eq. 5-6: z_(k-1) ~ N(μ̃, β̃_k I), the posterior q(z_(k-1) | z_k, x̂), with

    - μ̃ = √ᾱ_(k-1) β_k / (1 - ᾱ_k) x̂ + √(1 - β_k) (1 - ᾱ_(k-1)) / (1 - ᾱ_k) z_k
    - β̃_k = (1 - ᾱ_(k-1)) / (1 - ᾱ_k) β_k

    With fewer steps than T, β_k is 1 - ᾱ_k / ᾱ_j for the levels k > j that are walked. The chain then errs by .055
    with 20 steps and .022 with 80 (``flow`` spacing: .031 and .010), and by .0036 with all 1000: for few steps, take
    `dpmpp`. The arguments are those of `DiscreteSampler`.
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

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return diffusers' DDPM with the posterior's variance."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        made = DDPMScheduler(num_train_timesteps=len(log_snr), prediction_type="sample", clip_sample=False)
        return with_alphas(made, log_snr)

    def advance(
        self, scheduler: Any, state: Tensor, x: Tensor, timestep: Tensor, log_snr: Tensor, generator: Generators
    ) -> Tensor:
        """Return the next state, with the generators' noise."""
        source = generator if isinstance(generator, torch.Generator) else list(generator)
        return scheduler.step(x, timestep, state, generator=source, return_dict=False)[0]


class DDIMSampler(DiscreteSampler):
    """DDIM with η = 0 (Song et al. 2021, arXiv 2010.02502, Eq. 12): z_s = α_s x̂ + σ_s (z_t - α_t x̂) / σ_t.

    Deterministic and of first order: it errs by .12, .046, .022, .011 and .005 with 5, 10, 20, 40 and 80 evaluations.
    The default spacing is ``flow``, with which the error is half of that with ``log_snr`` or ``time``.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return diffusers' DDIM."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        made = DDIMScheduler(num_train_timesteps=len(log_snr), prediction_type="sample", clip_sample=False)
        return with_alphas(made, log_snr)


class EulerSampler(DiscreteSampler):
    """Euler's method in variance-exploding terms (Karras et al. 2022, arXiv 2206.00364, Algorithm 1).

    In y = z / α = x + σ̂ ε with σ̂ = σ / α, the ODE is dy/dσ̂ = (y - x̂) / σ̂. A step of Euler's method is exact for a
    constant x̂, and so is DDIM's: they are the same step, with the same errors, and the default spacing is `ddim`'s.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return diffusers' Euler scheduler."""
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        made = with_sigmas(EulerDiscreteScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))
        made.is_scale_input_called = True  # it would warn at each step: `scale` does what it asks for
        return made

    def scale(self, log_snr: Tensor) -> Tensor:
        """Return 1 / α: the state is y."""
        return torch.sigmoid(log_snr).rsqrt()


class MultistepSampler(DiscreteSampler):
    """What the solvers of second order share: 20 evaluations, at levels even in λ.

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

    Deterministic and of second order: it errs by .097, .042, .0089, .0019 and .0004 with 5, 10, 20, 40 and 80
    evaluations.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return diffusers' multistep DPM-Solver++ of order 2."""
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        return with_sigmas(DPMSolverMultistepScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))


class UniPCSampler(MultistepSampler):
    """UniPC, order 2 (Zhao et al. 2023, arXiv 2302.04867): each x̂ also corrects the step that led to it.

    Deterministic and, with the corrector, of third order: it errs by .093, .036, .0035, .0005 and .0003 with 5, 10, 20,
    40 and 80 evaluations.
    """

    def scheduler(self, log_snr: Tensor) -> Any:
        """Return diffusers' UniPC."""
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        return with_sigmas(UniPCMultistepScheduler(prediction_type="sample"), torch.exp(-0.5 * log_snr))
