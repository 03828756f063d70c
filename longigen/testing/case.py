"""What a check is given, and what checks share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from longigen.components.base import checked, parameters
from longigen.components.conditioner import Conditioner
from longigen.components.conditioning import Conditioning, Routes
from longigen.components.denoiser import Denoiser
from longigen.components.visit_sequence import VisitSequence
from longigen.registry.registry import registry

M = TypeVar("M", bound=nn.Module)

SIZES = ((9, 10, 11), (16, 8, 5))
"""Odd sizes, and an axis shorter than most strides."""


def close(one: Tensor, two: Tensor) -> bool:
    """Say whether two tensors are equal, to rounding."""
    return torch.allclose(one, two, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class Case:
    """A component to check: its kind, its name and the configuration to make it with."""

    kind: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Make the component, the same at each call."""
        torch.manual_seed(0)
        return registry.load(self.kind, self.name).from_config(self.config)


def keeps_its_configuration(case: Case) -> None:
    """Check that a component can be made again from its configuration as JSON holds it."""
    component = case.make()
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    again = type(component).from_config(json.loads(json.dumps(plain)))
    assert again.config == component.config, f"{component.config} became {again.config}"
    assert checked(parameters(type(component)), component.config, case.name) == component.config


def history(size: tuple[int, ...], *, lengths: tuple[int, ...] = (3, 2), seed: int = 0) -> VisitSequence:
    """Return histories of random images at irregular times, of different lengths, all observed."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    valid = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    times = torch.rand(len(lengths), longest, generator=generator).add(0.5).cumsum(dim=1)
    images = torch.rand(len(lengths), longest, 1, *size, generator=generator) * 2 - 1
    return VisitSequence(images, torch.where(valid, times, 0.0), valid, valid)


def after(visits: VisitSequence, gap: float = 0.7) -> Tensor:
    """Return a time after every valid visit, (B,)."""
    return torch.where(visits.valid, visits.times, -torch.inf).amax(dim=1) + gap


def built_conditioner(case: Case, stem_features: int = 4) -> Conditioner:
    """Return the conditioner, built, with random weights, in ``eval()`` mode."""
    conditioner = case.make()
    conditioner.build(channels=1, stem_features=stem_features, time_scale=1.0, covariates=())
    return randomised(conditioner).eval()


def built_denoiser(case: Case, routes: Routes) -> Denoiser:
    """Return the denoiser, built for some routes, with random weights, in ``eval()`` mode."""
    denoiser = case.make()
    denoiser.build(channels=1, routes=routes)
    return randomised(denoiser).eval()


def randomised(module: M) -> M:
    """Give every parameter small random values: zero-initialised layers would hide what depends on what."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return module


def conditioning(routes: Routes, batch: int, size: tuple[int, ...], seed: int = 0) -> Conditioning:
    """Return a random conditioning with some routes, and with the last visit and its gap for whom it may concern."""
    generator = torch.Generator().manual_seed(seed)

    def random(channels: int, *shape: int) -> Tensor | None:
        return torch.randn(batch, *shape, generator=generator) if channels else None

    return Conditioning(
        random(routes.concat, routes.concat, *size),
        random(routes.stem, routes.stem, *size),
        random(routes.embedding, routes.embedding),
        random(routes.tokens, 5, routes.tokens),
        base=torch.rand(batch, 1, *size, generator=generator) * 2 - 1,
        gap=torch.rand(batch, generator=generator) + 0.5,
    )


def tensors(given: Conditioning) -> dict[str, Tensor]:
    """Return the routes that are there."""
    return {name: tensor for name, tensor in vars(given).items() if tensor is not None}


def assert_same(one: Conditioning, two: Conditioning, message: str) -> None:
    """Check that two conditionings are equal, to rounding."""
    for name, tensor in tensors(one).items():
        difference = (tensor - tensors(two)[name]).abs().max().item()
        assert close(tensor, tensors(two)[name]), f"{message}: {name} moved by {difference:.2g}"


def restored(module: M, fresh: M) -> M:
    """Return `fresh` with the weights of `module`, by way of safetensors."""
    from safetensors.torch import load, save

    data = save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    fresh.load_state_dict(load(data), strict=True)
    return fresh.eval()


def assert_outlined(module: nn.Module, outline: nn.Module) -> None:
    """Check that a module made on torch's ``meta`` device has the tensors of `module` by name and shape.

    A model is made so before its weights are read: a configuration that does not fit them costs no memory then.
    """
    one, two = ({name: tensor.shape for name, tensor in each.state_dict().items()} for each in (module, outline))
    assert one == two, "made on the meta device it has other tensors"


def assert_gradients(module: nn.Module, outputs: list[Tensor]) -> None:
    """Check that a loss of some outputs reaches every parameter."""
    torch.stack([output.float().square().mean() for output in outputs]).sum().backward()
    assert_reached(dict(module.named_parameters()))


def assert_reached(parameters: Mapping[str, nn.Parameter]) -> None:
    """Check that every parameter has a finite gradient, and not all of them zero."""
    without = [name for name, parameter in parameters.items() if parameter.grad is None]
    assert not without, f"no gradient reaches {', '.join(without)}"
    grads = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
    assert all(bool(torch.isfinite(grad).all()) for grad in grads), "a gradient is not finite"
    assert not grads or any(bool(grad.any()) for grad in grads), "every gradient is zero"
