"""Smooth invertible deformations: free-form ones, and flows of a velocity field with a given divergence."""

import math

import torch
from torch import Tensor

from longigen_simbrain.grid import Grid

STEP = 0.25
"""The largest step of a flow's integration."""


def free_form(coefficients: Tensor, knots: float, grid: Grid) -> Tensor:
    """Return the field (C, W, H, D) of cubic B-splines over the middle of `grid`.

    It depends on the place in mm alone, so two grids with one centre sample the same function. With all coefficients
    of a displacement u under `knots` / 2.48 the deformation x + u(x) is one to one (Choi and Lee, Injectivity conditions of 2D and 3D
    uniform cubic B-spline functions, Graphical Models 2000).

    Args:
        coefficients: (C, n, n, n); 0 beyond them.
        knots: the distance of the knots, in mm.
        grid: where to evaluate.
    """
    number = coefficients.shape[-1]
    bases = []
    for size in grid.shape:
        place = (torch.arange(size) - (size - 1) / 2) * (grid.spacing / knots)
        distance = (place[:, None] - (torch.arange(number) - (number - 1) / 2)).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp(min=0) ** 3 / 6
        bases.append(torch.where(distance < 1, near, far))
    x, y, z = bases
    return torch.einsum("cijk,wi,hj,dk->cwhd", coefficients, x, y, z)


def flow(velocity: Tensor, grid: Grid, points: Tensor, amount: float) -> Tensor:
    """Move `points` (3, ...) along `velocity` (3, W, H, D) for `amount` (negative: backwards), by midpoint steps.

    The flow of a smooth field is a one-parameter group of diffeomorphisms: amounts add up, and -amount inverts.
    """
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = points + (0.5 * amount / steps) * grid.sample(velocity, points)
        points = points + (amount / steps) * grid.sample(velocity, middle)
    return points


def flow_with_jacobian(velocity: Tensor, grid: Grid, amount: float) -> tuple[Tensor, Tensor]:
    """Return where the flow takes the points of `grid` (3, W, H, D), and its Jacobian determinant (W, H, D).

    The determinant obeys d(log J)/ds = div v along the path (Liouville's formula), so it is positive by construction.
    """
    divergence = grid.divergence(velocity)[None]
    points, log_jacobian = grid.points, torch.zeros(grid.shape)
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = flow(velocity, grid, points, 0.5 * amount / steps)
        log_jacobian += (amount / steps) * grid.sample(divergence, middle)[0]
        points = points + (amount / steps) * grid.sample(velocity, middle)
    return points, log_jacobian.exp()


def with_divergence(divergence: Tensor, openness: Tensor, spacing: float, tolerance: float = 3e-3) -> Tensor:
    """Return the velocity k ∇ψ of this divergence that does not cross walls, by solving ∇·(k ∇ψ) = divergence.

    Conjugate gradients on the seven-point stencil. The sum of `divergence` over the open cells has to be 0.

    Args:
        divergence: (W, H, D).
        openness: (W, H, D), k in [0, 1]: 0 is wall. Two cells exchange at the smaller of theirs.
        spacing: of the cells, in mm.
        tolerance: of the residual, relative to the divergence.

    Returns:
        (3, W, H, D), at the centres of the cells.
    """
    doors = [torch.minimum(a, b) for a, b in (_pairs(openness, axis) for axis in range(3))]

    def fluxes(potential: Tensor) -> list[Tensor]:
        found = []
        for axis, door in enumerate(doors):
            low, high = _pairs(potential, axis)
            found.append(door * (high - low) / spacing)
        return found

    def outflow(potential: Tensor) -> Tensor:
        total = torch.zeros_like(potential)
        for axis, flux in enumerate(fluxes(potential)):
            low, high = _pairs(total, axis)
            low += flux / spacing
            high -= flux / spacing
        return total

    potential = torch.zeros_like(divergence)
    residual = -divergence * (openness > 0)
    direction = residual.clone()
    energy = (residual**2).sum()
    goal = energy * tolerance**2
    for _ in range(2 * sum(divergence.shape)):
        if energy <= goal:
            break
        image = -outflow(direction)
        length = energy / (direction * image).sum()
        potential += length * direction
        residual -= length * image
        before, energy = energy, (residual**2).sum()
        direction = residual + (energy / before) * direction
    velocity = torch.zeros(3, *divergence.shape)
    for axis, flux in enumerate(fluxes(potential)):
        low, high = _pairs(velocity[axis], axis)
        low += flux / 2
        high += flux / 2
    return velocity


def _pairs(field: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return views of all cells but the last, and of all but the first, along an axis."""
    size = field.shape[axis] - 1
    return field.narrow(axis, 0, size), field.narrow(axis, 1, size)
