"""What the checks of several kinds compare."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from longigen.components.conditioning import Conditioning
from longigen.errors import LongigenError
from longigen.testing.case import Case

M = TypeVar("M", bound=nn.Module)


def keeps_its_configuration(case: Case) -> None:
    """Check that a component can be made again from its configuration as JSON holds it."""
    component = case.make()
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in component.config.items()}
    try:
        again = type(component).from_config(json.loads(json.dumps(plain)))
    except (LongigenError, TypeError, ValueError) as error:
        raise AssertionError(f"its configuration {component.config} does not make it again: {error}") from error
    assert again.config == component.config, f"the configuration {component.config} became {again.config}"


def close(one: Tensor, two: Tensor) -> bool:
    """Say whether two tensors are equal, to rounding."""
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def tensors(given: Conditioning) -> dict[str, Tensor]:
    """Return the routes that are there."""
    return {name: tensor for name, tensor in vars(given).items() if tensor is not None}


def assert_same(one: Conditioning, two: Conditioning, message: str) -> None:
    """Check that two conditionings are equal, to rounding."""
    assert one.routes == two.routes, f"{message}: routes are {one.routes} and {two.routes}"
    for name, tensor in tensors(one).items():
        other = tensors(two)[name]
        assert tensor.shape == other.shape, f"{message}: {name} is {tuple(tensor.shape)} and {tuple(other.shape)}"
        assert close(tensor, other), f"{message}: {name} moved by {(tensor - other).abs().max().item():.2g}"


def restored(module: M, fresh: M) -> M:
    """Return `fresh` with the weights of `module`, by way of safetensors."""
    from safetensors.torch import load, save

    data = save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    fresh.load_state_dict(load(data), strict=True)
    return fresh.eval()


def assert_outlined(module: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Check that a module made on torch's ``meta`` device has the tensors of `module` by name and shape.

    A model is made so before its weights are read: a configuration that does not fit them costs no memory then.
    """
    try:
        with torch.device("meta"):
            outline = make()
    except Exception as error:
        raise AssertionError(f"it cannot be made and built on torch's meta device ({error})") from error
    one, two = ({name: tensor.shape for name, tensor in each.state_dict().items()} for each in (module, outline))
    differing = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    assert not differing, f"made on torch's meta device, it differs in {', '.join(differing)}"


def assert_reached(parameters: Mapping[str, nn.Parameter]) -> None:
    """Check that every parameter has a finite gradient, and not all of them zero."""
    without = [name for name, parameter in parameters.items() if parameter.grad is None]
    assert not without, f"no gradient reaches {', '.join(without)}"
    grads = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    broken = [name for name, grad in grads.items() if not bool(torch.isfinite(grad).all())]
    assert not broken, f"the gradient of {', '.join(broken)} is not finite"
    assert not grads or any(bool(grad.any()) for grad in grads.values()), "every gradient is zero"
