"""Distillation: a student that makes each of its few steps as a teacher makes many."""

import copy
from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from longigen import Generators, Prediction, Range, Sampler, alpha_sigma, prediction_target, randn_like
from longigen_ddpm.scheduled import SPACINGS, Evaluations

Teacher = Callable[[Tensor, Tensor], Tensor]


class DistilledSampler(Sampler):
    """Progressive distillation in one stage (Salimans and Ho 2022, arXiv 2202.00512, Algorithm 2).

    The N steps of the student (`steps`) go between N + 1 levels, equidistant in τ = σ / (α + σ) from λ_min to λ_max.
    For a training volume at a random level t, the teacher walks to the next level s in `teacher_steps` steps of DDIM.
    The student's target is the x̃ from which one step of DDIM leads to the same z_s:
    x̃ = (z_s - (σ_s / σ_t) z_t) / (α_s - (σ_s / σ_t) α_t). After training, N steps of the student are N times
    `teacher_steps` of the teacher. Guidance is a part of the teacher's predictions, so the student has it in one
    evaluation (Meng et al. 2023, arXiv 2210.03142).

    The paper halves the steps again and again, each student being the next teacher; here a student has the first
    teacher's targets at once, for `teacher_steps` evaluations of it in each training step. Consistency distillation
    (Song et al. 2023, arXiv 2303.01469) would need a second average of the weights and a schedule of levels besides.

    Loss: the squared error of x̃ times max(α² / σ², 1), the paper's truncated SNR, so that levels of much noise count
    whatever the network predicts. Without a teacher the target is the training volume.

    Generation is DDIM at the N levels. Another number of steps would ask for levels that the student never saw.

    Args:
        prediction: prediction type of the network: that of the teacher, whose weights the student begins with.
        steps: N, network evaluations in generation.
        teacher_steps: the teacher's steps for one of the student's.
        log_snr_min: λ at t = 1, where the teacher's training ends.
        log_snr_max: λ at t = 0.
    """

    learns_from_teacher: ClassVar[bool] = True

    def __init__(
        self,
        *,
        prediction: Prediction = "x",
        steps: Evaluations = 4,
        teacher_steps: Evaluations = 8,
        log_snr_min: Annotated[float, Range(-60, 60)] = -10.0,
        log_snr_max: Annotated[float, Range(-60, 60)] = 10.0,
    ) -> None:
        super().__init__(prediction=prediction, steps=steps, log_snr_min=log_snr_min, log_snr_max=log_snr_max)
        self.teacher_steps = teacher_steps
        self._teacher: Teacher | None = None

    def taught(self, teacher: Teacher) -> "DistilledSampler":
        """Return this sampler with the targets of a teacher."""
        student = copy.copy(self)
        student._teacher = teacher
        return student

    def timesteps(self, steps: int, within: tuple[float, float] | None = None) -> Tensor:
        """Return the `steps` times of the network evaluations, equidistant in τ, without the last level."""
        return self.time(_levels(self.span(steps, within), steps)[:-1]).clamp(0, 1)

    def training_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the times of `count` training samples (count,): the student's levels, drawn uniformly."""
        times = self.timesteps(self.steps)
        index = torch.randint(self.steps, (count,), generator=generator, device=generator.device)
        return times.to(index.device)[index]

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t at a random level of the student, its λ (B,), and the target: of the teacher, if there is one."""
        levels = _levels(self.span(self.steps, None), self.steps)
        index = torch.randint(self.steps, (len(x),), generator=generator, device=generator.device).cpu()
        ends = [part.to(x.device, x.dtype) for part in (levels[index], levels[index + 1])]
        log_snr = ends[0]
        eps = randn_like(x, generator)
        alpha, sigma = _parts(log_snr, x)
        z_t = alpha * x + sigma * eps
        if self._teacher is not None:
            x = self._map(z_t, *ends)
            eps = (z_t - alpha * x) / sigma
        return z_t, log_snr, prediction_target(self.prediction, x, eps, log_snr)

    def _map(self, z_t: Tensor, log_snr: Tensor, end: Tensor) -> Tensor:
        """Return x̃, from which one step of DDIM from λ to `end` (B,) leads to where the teacher's steps lead."""
        assert self._teacher is not None
        to, back = SPACINGS["flow"]
        first, last = to(log_snr.double()), to(end.double())
        z, now = z_t, log_snr
        for step in range(1, self.teacher_steps + 1):
            following = back(first + (last - first) * step / self.teacher_steps).to(log_snr.dtype)
            z, now = _ddim(z, self._teacher(z, now), now, following), following
        (alpha_t, sigma_t), (alpha_s, sigma_s) = _parts(log_snr, z_t), _parts(end, z_t)
        ratio = sigma_s / sigma_t
        return (z - ratio * z_t) / (alpha_s - ratio * alpha_t)

    def loss(self, output: Tensor, target: Tensor, log_snr: Tensor) -> Tensor:
        """Return the squared error of x̃ of each sample (B,), times max(α² / σ², 1)."""
        signal, noise = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
        of_x = {
            "x": torch.ones_like(signal),
            "epsilon": noise / signal,
            "v": noise,
            "velocity": torch.sigmoid(-0.5 * log_snr).square(),
        }
        return of_x[self.prediction] * (signal / noise).clamp(min=1) * super().loss(output, target, log_snr)

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z_s = α_s x̂ + (σ_s / σ_t) (z_t - α_t x̂)."""
        start, end = (self.log_snr(time).to(z_t.dtype).expand(len(z_t)) for time in (t, s))
        return _ddim(z_t, x, start, end)


def _levels(span: tuple[float, float], steps: int) -> Tensor:
    """Return `steps` + 1 levels λ, ascending and equidistant in τ."""
    to, back = SPACINGS["flow"]
    start, end = to(torch.tensor(span, dtype=torch.float64)).tolist()
    return back(torch.linspace(start, end, steps + 1, dtype=torch.float64))


def _parts(log_snr: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return α and σ at λ (B,), in the dtype of volumes and to be broadcast against them."""
    alpha, sigma = (part.to(like.dtype).view(-1, *[1] * (like.ndim - 1)) for part in alpha_sigma(log_snr.double()))
    return alpha, sigma


def _ddim(z: Tensor, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the step of DDIM from λ `start` to `end` (B,), with the prediction x̂."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _parts(start, z), _parts(end, z)
    return alpha_s * x + sigma_s / sigma_t * (z - alpha_t * x)
