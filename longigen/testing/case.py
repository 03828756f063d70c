"""A component to check, and the small random inputs that checks give it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from longigen.components.conditioner import Conditioner
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.denoiser import Denoiser
from longigen.components.visit_sequence import Covariate, VisitSequence
from longigen.registry.registry import registry
from longigen.testing.randomness import seeded

M = TypeVar("M", bound=nn.Module)

SIZES = ((9, 10, 11), (16, 8, 5))
"""Odd sizes, and an axis shorter than most strides."""

COVARIATES = ("age", "sex")
"""The covariates that the histories of the checks carry."""


@dataclass(frozen=True)
class Case:
    """A component to check: its kind, its name and the configuration to make it with."""

    kind: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def make(self, seed: int | None = 0) -> Any:
        """Make the component.

        Args:
            seed: of the global generators while it is made; None leaves them as they are.
        """
        cls = registry.load(self.kind, self.name)
        if seed is None:
            return cls.from_config(self.config)
        with seeded(seed):
            return cls.from_config(self.config)


def history(
    size: tuple[int, ...], *, lengths: tuple[int, ...] = (3, 2), seed: int = 0, channels: int = 1
) -> VisitSequence:
    """Return histories of random images at irregular times, of different lengths, all observed."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    valid = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    times = torch.rand(len(lengths), longest, generator=generator).add(0.5).cumsum(dim=1)
    images = torch.rand(len(lengths), longest, channels, *size, generator=generator) * 2 - 1
    return VisitSequence(images, torch.where(valid, times, 0.0), valid, valid)


def with_covariates(visits: VisitSequence, seed: int = 0) -> VisitSequence:
    """Return histories that carry `COVARIATES`, each subject's first visit without the first of them."""
    generator = torch.Generator().manual_seed(seed)
    covariates = {}
    for number, name in enumerate(COVARIATES):
        present = visits.valid.clone()
        present[:, 0] &= number > 0
        values = torch.randn(visits.times.shape, generator=generator)
        covariates[name] = Covariate(torch.where(present, values, 0.0), present)
    return replace(visits, covariates=covariates)


def after(visits: VisitSequence, gap: float = 0.7) -> Tensor:
    """Return a time after every valid visit, (B,)."""
    return torch.where(visits.valid, visits.times, -torch.inf).amax(dim=1) + gap


def built_conditioner(
    case: Case,
    stem_features: int = 4,
    *,
    time_scale: float = 1.0,
    seed: int = 0,
    randomise: bool = True,
    channels: int = 1,
) -> Conditioner:
    """Return the conditioner, built, in ``eval()`` mode, with random weights or those that it starts from."""
    conditioner = case.make(seed)
    with seeded(seed):
        conditioner.build(channels=channels, stem_features=stem_features, time_scale=time_scale, covariates=COVARIATES)
    return (randomised(conditioner) if randomise else conditioner).eval()


def built_denoiser(case: Case, routes: Routes, *, seed: int = 0, randomise: bool = True, channels: int = 1) -> Denoiser:
    """Return the denoiser, built for some routes, in ``eval()`` mode, as `built_conditioner` does."""
    denoiser = case.make(seed)
    with seeded(seed):
        denoiser.build(channels=channels, routes=routes)
    return (randomised(denoiser) if randomise else denoiser).eval()


def randomised(module: M) -> M:
    """Add small random values to every parameter: zero-initialised layers would hide what depends on what."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module


def conditioning(
    routes: Routes, batch: int, size: tuple[int, ...], seed: int = 0, *, channels: int = 1
) -> Conditioning:
    """Return a random conditioning with some routes, and with the last visit and the gap from it to the target."""
    generator = torch.Generator().manual_seed(seed)

    def random(channels: int, *shape: int) -> Tensor | None:
        return torch.randn(batch, *shape, generator=generator) if channels else None

    return Conditioning(
        random(routes.concat, routes.concat, *size),
        random(routes.stem, routes.stem, *size),
        random(routes.embedding, routes.embedding),
        random(routes.tokens, 5, routes.tokens),
        base=torch.rand(batch, channels, *size, generator=generator) * 2 - 1,
        gap=torch.rand(batch, generator=generator) + 0.5,
    )
