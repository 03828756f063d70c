"""Regression as a sampler: one network evaluation without diffusion."""

import torch
from torch import Tensor

from longigen import Generators, Sampler, randn_like


class RegressionSampler(Sampler):
    """Regression as a sampler: the network predicts x in one evaluation, from a z_t of zeros.

    The noise level is always that of t = 1, where z_t has no signal (λ = -20, α = 4.5e-5). z_t is zero, the mean of
    that noise, which makes the model deterministic. The loss is the mean squared error of x, so the network learns the
    conditional mean. With the `identity` denoiser it is the ℓ2 distance of target and conditioning signal, as in SADM's
    ablation without diffusion (Yoon et al., IPMI 2023, arXiv 2212.08228, Table 2).

    Generation is always one evaluation, whatever the number of steps, since a second one would repeat the first. A
    model that was trained with another sampler then predicts x from a z_t without signal.

    Args:
        noise: use standard normal noise as z_t instead of zeros, for a network that draws samples from it, such as
            `vae` or `cine`. Zeros are then the central forecast.
    """

    def __init__(self, *, noise: bool = False) -> None:
        super().__init__(prediction="x", steps=1)
        self.noise = self.central = noise
        self.deterministic = not noise

    @property
    def trained_range(self) -> tuple[float, float]:
        """Return λ at t = 1, twice."""
        low, _ = super().trained_range
        return low, low

    def corrupt(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t (zeros or noise), λ at t = 1 (B,) and x."""
        z_t = randn_like(x, generator) if self.noise else torch.zeros_like(x)
        return z_t, self.log_snr(torch.ones(x.shape[0], device=x.device)), x

    def step(self, z_t: Tensor, x: Tensor, t: Tensor, s: Tensor, generator: Generators) -> Tensor:
        """Return `z_t` itself, the network's input at every time."""
        return z_t

    def evaluations(self, steps: int | None) -> int:
        """Return 1, since a second evaluation would repeat the first."""
        super().evaluations(steps)
        return 1

    def begin(self, z: Tensor, t: Tensor) -> Tensor:
        """Return zeros, or with `noise` z itself."""
        return z if self.noise else torch.zeros_like(z)
