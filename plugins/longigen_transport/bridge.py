"""Brownian bridges between two visits as a sampler."""

from torch import Tensor

from longigen import Generators, randn_like
from longigen_transport.path import Answer, Contexts, Deviation, Evaluations, PathSampler, Predicted, remaining, scale


class BridgeSampler(PathSampler):
    """Brownian bridges from the base b to the target x (BBDM, Li et al., CVPR 2023; I²SB, Liu et al., ICML 2023).

    A bridge of diffusion s has the marginals y_τ ~ N((1 - τ) b + τ x, s² τ (1 - τ)); those of BBDM with s = √2 times
    the root of its scale, and those of I²SB with a constant β = s². A step from τ to τ' draws from the posterior, which
    does not depend on b:

        y_τ' ~ N(y_τ + (τ' - τ) / (1 - τ) (x̂ - y_τ), s² (τ' - τ) (1 - τ') / (1 - τ)).

    With x̂ = E[x | y_τ, b] and many steps, samples have the law of x given b; with s = 0 it is `transport` by Euler's
    method. The loss is the squared error of x̂, which is BBDM's: its network predicts y_τ - x, and y_τ is given.

    Args:
        prediction: what the network predicts: x, or the velocity (x - y_τ) / (1 - τ). With the velocity a network that
            outputs zero stays at the base, but for the noise.
        steps: network evaluations in generation.
        sigma: s, in units of x: of the residual's standard deviation with ``model.target=residual``, else of
            intensities in [-1, 1].
        contexts: the number of last visits that a process starts at, side by side; see `Sampler.contexts`.
        answer: the mean over the contexts, or the last one.
    """

    def __init__(
        self,
        *,
        prediction: Predicted = "x",
        steps: Evaluations = 10,
        sigma: Deviation = 1.0,
        contexts: Contexts = 1,
        answer: Answer = "last",
    ) -> None:
        super().__init__(prediction=prediction, steps=steps, contexts=contexts, answer=answer)
        self.sigma = sigma

    def deviation(self, tau: Tensor) -> Tensor:
        """Return s √(τ (1 - τ))."""
        return self.sigma * (tau * (1 - tau)).sqrt()

    def loss(self, output: Tensor, target: Tensor, log_snr: Tensor) -> Tensor:
        """Return the mean squared error of x̂ of each sample (B,)."""
        factor = remaining(log_snr).square() if self.prediction == "velocity" else 1.0
        return factor * super().loss(output, target, log_snr)

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return z at time s, drawn from the posterior given z_t and x̂."""
        mean = super().step(z_t, x, t, s, generator)
        before, after = remaining(self.log_snr(t)), remaining(self.log_snr(s))
        deviation = scale(self.log_snr(s)) * self.sigma * ((before - after) * after / before).sqrt()
        return mean + deviation.to(mean.dtype) * randn_like(mean, generator)
