"""The checks of metrics."""

from collections.abc import Callable

import torch
from torch import Tensor

from longigen.testing.case import Case, keeps_its_configuration


def _volumes(size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a true volume, the previous one, noise and a foreground."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*(torch.linspace(-2, 2, n) for n in size), indexing="ij")
    true = torch.sin(axes[0] + 0.5 * axes[1]) * torch.cos(axes[2])
    previous = 0.8 * true + 0.1 * torch.sin(3 * axes[1])
    noise = torch.randn(1, *size, generator=generator)
    return true[None], previous[None], noise, true > -0.8


def prefers_what_is_closer(case: Case) -> None:
    """Check that less error is better, on volumes thick and thin."""
    metric = case.make()
    for size in ((20, 18, 16), (24, 20, 5)):
        true, previous, noise, foreground = _volumes(size)
        values = [metric((true + s * noise).clamp(-1, 1), true, previous, foreground) for s in (0.02, 0.1, 0.5)]
        assert all(isinstance(value, float) for value in values), f"gives {type(values[0]).__name__}, not float"
        ordered = sorted(values, reverse=metric.higher_is_better)
        assert values == ordered, f"at {size} and growing error it is {values}"


def is_best_for_the_truth(case: Case) -> None:
    """Check that nothing is better than the true volume."""
    metric, (true, previous, noise, foreground) = case.make(), _volumes((16, 16, 16))
    best = metric(true, true, previous, foreground)
    other = metric((true + 0.01 * noise).clamp(-1, 1), true, previous, foreground)
    assert best > other if metric.higher_is_better else best < other, f"the truth has {best}, an error {other}"


def is_defined(case: Case) -> None:
    """Check that its definition is one line."""
    definition = case.make().definition
    assert definition, "the definition is empty"
    assert "\n" not in definition, "the definition is longer than one line"


CHECKS: dict[str, Callable[[Case], None]] = {
    "can be made again from its configuration": keeps_its_configuration,
    "is defined in one line": is_defined,
    "is best for the truth": is_best_for_the_truth,
    "prefers what is closer": prefers_what_is_closer,
}
