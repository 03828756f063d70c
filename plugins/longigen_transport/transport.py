"""Flow matching from one visit to the next as a sampler."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from longigen import Generators, Range, prediction_target
from longigen_transport.path import Answer, Contexts, Deviation, Evaluations, PathSampler, Predicted, remaining, scale
from longigen_transport.solvers import adaptive, midpoint

Method = Literal["euler", "midpoint", "adaptive"]


class TransportSampler(PathSampler):
    """Conditional flow matching from the base b to the target x.

    See Lipman et al. 2023 (arXiv 2210.02747), Tong et al. 2024 (arXiv 2302.00482) and, for visits, Temporal Flow
    Matching (Disch et al. 2025, arXiv 2508.21580).

    Training: y_τ = (1 - τ) b + τ x + σ ε with a small σ and τ ~ U(0, 1); the loss is the squared error of the velocity
    x - b. Generation: dy/dτ = û from y_0 = b, without noise, so there is one answer and no draws. A network that
    outputs zero is copy-last.

    Where b is known to the network, as it is with ``model.target=residual``, all of the way starts at one point: û at
    τ = 0 is the mean change E[x - b | b], which one evaluation returns.

    Args:
        prediction: what the network predicts: the velocity, or x.
        steps: network evaluations in generation; with ``adaptive``, at most so many.
        sigma: σ, in units of x: of the residual's standard deviation with ``model.target=residual``, else of
            intensities in [-1, 1].
        method: ``euler``; ``midpoint``, of second order, with two evaluations a step; ``adaptive``, midpoint steps
            whose sizes follow each sample's error.
        tolerance: of ``adaptive``: the largest error of a step, a root mean square in units of x.
        contexts: the number of last visits that a process starts at, side by side; see `Sampler.contexts`.
        answer: the mean over the contexts, or the last one.
    """

    deterministic = True

    def __init__(
        self,
        *,
        prediction: Predicted = "velocity",
        steps: Evaluations = 5,
        sigma: Deviation = 0.01,
        method: Method = "euler",
        tolerance: Annotated[float, Range(above=0)] = 0.01,
        contexts: Contexts = 1,
        answer: Answer = "last",
    ) -> None:
        super().__init__(prediction=prediction, steps=steps, contexts=contexts, answer=answer)
        self.sigma, self.method, self.tolerance = sigma, method, tolerance

    def deviation(self, tau: Tensor) -> Tensor:
        """Return σ."""
        return torch.full_like(tau, self.sigma)

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return z at random times, its λ (B,), and the target: x, or the velocity x - b without the noise in z."""
        z_t, log_snr, _ = super().corrupt(x, generator)
        return z_t, log_snr, prediction_target(self.prediction, x, self.base, log_snr)

    def walk(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        generator: Generators,
        steps: int,
        within: tuple[float, float] | None,
    ) -> Tensor:
        """Return the end of the path from the base `z` (B, ...), by the sampler's method; see `Sampler.walk`."""
        if self.method == "euler":
            return super().walk(predict, z, generator, steps, within)
        lowest, highest = self.span(steps, within)

        def velocity(y: Tensor, tau: Tensor) -> Tensor:
            level = (2 * torch.logit(tau)).clamp(lowest, highest)
            log_snr, left = level.to(y.dtype), remaining(level).to(y.dtype)
            factor, left = (each.view(-1, *[1] * (y.ndim - 1)) for each in (scale(log_snr), left))
            return (predict(factor * y, log_snr) - y) / left

        if self.method == "midpoint":
            return midpoint(velocity, z, steps)
        return adaptive(velocity, z, steps, self.tolerance)
