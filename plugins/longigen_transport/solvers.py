"""Solvers of dy/dτ = u(y, τ) from τ = 0 to 1, each sample for itself.

`torchdiffeq` has an adaptive solver too. It takes one step size for a batch, so that a sample would depend on others.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
"""The velocity u (B, ...) at y (B, ...) and τ (B,)."""

SHRINK, GROW = 0.2, 5.0
"""Bounds of the factor from one step size to the next."""


def midpoint(field: Field, y: Tensor, evaluations: int) -> Tensor:
    """Return y at τ = 1 by equal steps of the midpoint method, of two evaluations; the first is Euler's if it has one.

    Args:
        field: the velocity.
        y: where to start (B, ...).
        evaluations: of the field, all of which are used.
    """
    steps = (evaluations + 1) // 2
    size = torch.full((len(y),), 1 / steps, dtype=torch.float64, device=y.device)
    for step in range(steps):
        tau = step * size
        y = y + _expand(size, y) * field(y, tau) if evaluations % 2 and step == 0 else _step(field, y, tau, size)[0]
    return y


def adaptive(field: Field, y: Tensor, evaluations: int, tolerance: float) -> Tensor:
    """Return y at τ = 1 by midpoint steps of sizes that keep the difference from Euler's method small.

    Args:
        field: the velocity.
        y: where to start (B, ...).
        evaluations: the most evaluations of the field; the last two go the whole rest of the way.
        tolerance: the largest root mean square, over a sample, of that difference in a step.
    """
    if evaluations == 1:
        return midpoint(field, y, 1)
    tau = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    size = torch.full_like(tau, 0.5)
    for left in range(evaluations // 2 - 1, -1, -1):
        size = torch.minimum(size, 1 - tau) if left else 1 - tau
        after, difference = _step(field, y, tau, size)
        error = difference.double().square().flatten(1).mean(dim=1).sqrt()
        accepted = (error <= tolerance) | (left == 0)
        y = torch.where(_expand(accepted, y), after, y)
        tau = torch.where(accepted, tau + size, tau)
        size = size * (0.9 * (tolerance / error.clamp(min=1e-12)).sqrt()).clamp(SHRINK, GROW)
        if bool((tau >= 1 - 1e-9).all()):
            break
    return y


def _step(field: Field, y: Tensor, tau: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return y after a midpoint step of a size (B,), and its difference from a step of Euler's method."""
    first = field(y, tau)
    second = field(y + _expand(size / 2, y) * first, tau + size / 2)
    return y + _expand(size, y) * second, _expand(size, y) * (second - first)


def _expand(per_sample: Tensor, like: Tensor) -> Tensor:
    per_sample = per_sample.view(-1, *[1] * (like.ndim - 1))
    return per_sample if per_sample.dtype == torch.bool else per_sample.to(like.dtype)
