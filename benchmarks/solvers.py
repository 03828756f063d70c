"""Measure the error of every sampler and spacing by network evaluations: ``python benchmarks/solvers.py``.

The data distribution is one-dimensional: 0.4 N(-0.6, 0.1²) + 0.6 N(0.5, 0.2²), in [-1, 1] like intensities. The network
is exact, E[x | z] in closed form, so that the sampler is the only source of error. Each sampler draws 20,000 samples,
starting from the mid-quantiles of N(0, 1) in random order. The error is the first Wasserstein distance between the
sorted samples and the quantiles of the data. The last lines give the error of 1000 ancestral steps, and that of 20,000
samples of the data itself, which is the error of a perfect sampler. A star marks the default spacing of a sampler.
"""

import argparse

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from longigen import Sampler
from longigen.registry.registry import registry
from longigen_ddpm import ScheduledSampler

WEIGHTS, MEANS, STDS = (np.array(part) for part in ([0.4, 0.6], [-0.6, 0.5], [0.1, 0.2]))
NAMES = ("ddpm", "ddim", "dpmpp", "unipc", "euler", "flow")
SPACINGS = ("log_snr", "flow", "karras", "time")
COUNT = 20_000


def exact(z: Tensor, log_snr: Tensor) -> Tensor:
    """Return E[x | z] of the mixture at noise level λ; `z` is (N, 1), `log_snr` is (N,)."""
    weights, means, stds = (torch.from_numpy(part) for part in (WEIGHTS, MEANS, STDS))
    alpha2, sigma2 = torch.sigmoid(log_snr.double())[:, None], torch.sigmoid(-log_snr.double())[:, None]
    alpha, variance = alpha2.sqrt(), alpha2 * stds**2 + sigma2
    residual = z.double() - alpha * means
    share = torch.softmax(weights.log() - 0.5 * variance.log() - 0.5 * residual**2 / variance, dim=1)
    return (share * (means + alpha * stds**2 / variance * residual)).sum(dim=1, keepdim=True).to(z.dtype)


def quantiles(levels: np.ndarray) -> np.ndarray:
    """Return the quantiles of the data distribution."""
    grid = np.linspace(-2, 2, 400_001)
    return np.interp(levels, ndtr((grid[:, None] - MEANS) / STDS) @ WEIGHTS, grid)


def distance(samples: np.ndarray) -> float:
    """Return the first Wasserstein distance of samples to the data distribution."""
    levels = (np.arange(len(samples)) + 0.5) / len(samples)
    return float(np.abs(np.sort(samples) - quantiles(levels)).mean())


def error(sampler: Sampler, steps: int, within: tuple[float, float] | None = None, *, count: int = COUNT) -> float:
    """Return the distance of `count` samples of a sampler to the data distribution."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(count, generator=generator)
    z = torch.special.ndtri((order[:, None].double() + 0.5) / count)
    return distance(sampler.sample(exact, z, generator, steps=steps, within=within).numpy()[:, 0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[5, 10, 20, 40, 80], help="numbers of network evaluations"
    )
    parser.add_argument(
        "--within",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="range of λ that the network was trained on; by default the sampler's own",
    )
    arguments = parser.parse_args()
    print(f"{'sampler':<12}{'spacing':<10}" + "".join(f"{steps:>8}" for steps in arguments.steps))
    for name in NAMES:
        sampler_class: type[ScheduledSampler] = registry.load("sampler", name)
        for spacing in SPACINGS:
            sampler = sampler_class(level_spacing=spacing)
            errors = [error(sampler, steps, arguments.within) for steps in arguments.steps]
            star = "*" if spacing == sampler_class().level_spacing else ""
            print(f"{name:<12}{spacing + star:<10}" + "".join(f"{value:8.4f}" for value in errors), flush=True)
    continuous = registry.load("sampler", "continuous")()
    errors = [error(continuous, steps, arguments.within) for steps in arguments.steps]
    print(f"{'continuous':<22}" + "".join(f"{value:8.4f}" for value in errors))
    print(f"ddpm, 1000 steps: {error(registry.load('sampler', 'ddpm')(), 1000, arguments.within):.4f}")
    data = [quantiles(np.random.default_rng(seed).random(COUNT)) for seed in range(10)]
    print(f"{COUNT} samples of the data itself: {np.mean([distance(samples) for samples in data]):.4f}")


if __name__ == "__main__":
    main()
