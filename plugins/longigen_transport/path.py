"""The path from a visit to the next, which `transport` and `bridge` share."""

import abc
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from longigen import Generators, Range, Sampler, alpha_sigma, prediction_target, randn_like

END = 20.0
"""|λ| at both ends of the path, where τ is 4.5e-5 and 1 - 4.5e-5."""

Answer = Literal["mean", "last"]
Contexts = Annotated[int, Range(1, 64)]
Deviation = Annotated[float, Range(0, 100)]
Evaluations = Annotated[int, Range(1, 100_000)]
Predicted = Literal["velocity", "x"]


class PathSampler(Sampler, abc.ABC):
    """Base class of processes along y_τ = (1 - τ) b + τ x + s(τ) ε, from the base b at τ = 0 to the target x at τ = 1.

    The input of a denoiser is z = α x + σ b + …, which is (α + σ) y_τ with τ = α / (α + σ); so λ = 2 log(τ / (1 - τ))
    says how far z is on its way, and t is 1 - τ. τ is uniform in training.
    """

    start: ClassVar[Literal["noise", "base"]] = "base"

    def __init__(self, *, prediction: Predicted, steps: Evaluations, contexts: Contexts, answer: Answer) -> None:
        super().__init__(prediction=prediction, steps=steps, log_snr_min=-END, log_snr_max=END)
        self.contexts, self._only_last = contexts, answer == "last"
        low, high = remaining(torch.tensor([END, -END], dtype=torch.float64)).tolist()
        self._first, self._length = low, high - low

    @abc.abstractmethod
    def deviation(self, tau: Tensor) -> Tensor:
        """Return s at τ, the standard deviation of the noise in y_τ."""

    def log_snr(self, t: Tensor) -> Tensor:
        """Return λ at times `t` in [0, 1], of which 1 - τ is a linear function."""
        return -2 * torch.logit(self._first + self._length * t.double()).to(t.dtype)

    def time(self, log_snr: Tensor) -> Tensor:
        """Return the times at which λ is `log_snr`."""
        return ((remaining(log_snr.double()) - self._first) / self._length).to(log_snr.dtype)

    def noise_std(self, t: Tensor) -> Tensor:
        """Return (α + σ) s, the standard deviation of the noise in z, at times `t`."""
        log_snr = self.log_snr(t)
        return scale(log_snr) * self.deviation(1 - remaining(log_snr))

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return z at random times, its λ (B,), and the target: of a path that is straight from z to x."""
        t = self.training_times(len(x), generator).to(x.device)
        log_snr = self.log_snr(t)
        parts = (*alpha_sigma(log_snr), self.noise_std(t))
        alpha, sigma, deviation = (part.view(-1, *[1] * (x.ndim - 1)) for part in parts)
        eps = randn_like(x, generator)
        origin = self.base + deviation / sigma * eps
        return alpha * x + sigma * origin, log_snr, prediction_target(self.prediction, x, origin, log_snr)

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z at time s, on the straight line from z_t to x̂."""
        start, end = self.log_snr(t), self.log_snr(s)
        kept = remaining(end) / remaining(start)
        y = x + kept.to(x.dtype) * (z_t / scale(start).to(x.dtype) - x)
        return scale(end).to(x.dtype) * y

    def begin(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the base `z` (B, ...) as the input of a denoiser at the beginning of the path."""
        return scale(self.log_snr(t)).to(z.dtype) * z

    def answer(self, image: Tensor) -> Tensor:
        """Return the mean over the contexts (B, C, ...), or the last one."""
        return image.unflatten(1, (self.contexts, -1))[:, -1] if self._only_last else super().answer(image)


def remaining(log_snr: Tensor) -> Tensor:
    """Return 1 - τ = σ / (α + σ), how much of the way is left."""
    return torch.sigmoid(-0.5 * log_snr)


def scale(log_snr: Tensor) -> Tensor:
    """Return α + σ, the factor from y to z."""
    alpha, sigma = alpha_sigma(log_snr)
    return alpha + sigma
