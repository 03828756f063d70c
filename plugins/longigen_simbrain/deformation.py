"""Smooth invertible deformations: free-form deformations, and flows of velocity fields with a given divergence."""

import math

import numpy as np
import torch
from torch import Tensor

from longigen_simbrain.grid import Grid

STEP = 0.25
"""The largest step in the integration of a flow."""


def free_form(coefficients: Tensor, knots: float, grid: Grid) -> Tensor:
    """Return a field (C, W, H, D) of cubic B-splines around the centre of `grid`.

    It is a function of the position in mm, so two grids with the same centre sample the same function. If all
    coefficients of a displacement u are below `knots` / 2.48, the deformation x + u(x) is invertible (Choi and Lee,
    Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 2000).

    Args:
        coefficients: coefficients (C, n, n, n); 0 outside.
        knots: distance between knots, in mm.
        grid: grid to evaluate the field on.
    """
    number = coefficients.shape[-1]
    bases = []
    for size in grid.shape:
        position = (torch.arange(size) - (size - 1) / 2) * (grid.spacing / knots)
        distance = (position[:, None] - (torch.arange(number) - (number - 1) / 2)).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp(min=0) ** 3 / 6
        bases.append(torch.where(distance < 1, near, far))
    x, y, z = bases
    return torch.einsum("cijk,wi,hj,dk->cwhd", coefficients, x, y, z)


def invert(displacement: Tensor, grid: Grid, points: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Return the positions x (3, ...) with x + `displacement`(x) = `points`, by fixed-point iteration.

    Args:
        displacement: displacement field (3, W, H, D) on `grid`; it must be a contraction, that is vary slowly.
        grid: grid of the displacement.
        points: points (3, ...), in mm.
        tolerance: tolerance of the iteration, in mm.
    """
    positions = points
    for _ in range(50):
        before, positions = positions, points - grid.sample(displacement, positions)
        if float((positions - before).abs().max()) < tolerance:
            break
    return positions


def flow(velocity: Tensor, grid: Grid, points: Tensor, amount: float) -> Tensor:
    """Move `points` (3, ...) along `velocity` (3, W, H, D) for the time `amount`, by midpoint steps.

    The flow of a smooth field is a one-parameter group of diffeomorphisms: amounts add up, and -amount is the inverse.
    """
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = points + (0.5 * amount / steps) * grid.sample(velocity, points)
        points = points + (amount / steps) * grid.sample(velocity, middle)
    return points


def flow_with_jacobian(velocity: Tensor, grid: Grid, points: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Return `flow` of `points` (3, ...), and the determinant of its Jacobian (...).

    The determinant J satisfies d(log J)/ds = div v along the path (Liouville's formula), so it is always positive.
    """
    log_jacobian = torch.zeros(points.shape[1:])
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = points + (0.5 * amount / steps) * grid.sample(velocity, points)
        # Differences over one voxel around the point; interpolated differences of voxel centres would flatten peaks.
        for axis in range(3):
            half = torch.zeros(3, *(1,) * (points.ndim - 1))
            half[axis] = grid.spacing / 2
            high, low = (grid.sample(velocity[axis, None], middle + side * half)[0] for side in (1, -1))
            log_jacobian += (amount / steps / grid.spacing) * (high - low)
        points = points + (amount / steps) * grid.sample(velocity, middle)
    return points, log_jacobian.exp()


def velocity_with_divergence(divergence: Tensor, openness: Tensor, spacing: float, tolerance: float = 3e-3) -> Tensor:
    """Return the velocity k ∇ψ with a given divergence that does not cross walls, from ∇·(k ∇ψ) = divergence.

    Solved by conjugate gradients on the seven-point stencil. The sum of `divergence` over the open cells must be 0.

    Args:
        divergence: divergence (W, H, D).
        openness: k (W, H, D) in [0, 1], where 0 is a wall; k between two cells is the smaller of their values.
        spacing: size of the cells in mm.
        tolerance: tolerance of the residual, relative to the divergence.

    Returns:
        The velocity (3, W, H, D) at the centres of the cells.
    """
    # In NumPy, as torch's threads slow down many operations on small arrays.
    openings, target = openness.numpy(), divergence.numpy()
    conductances = [np.minimum(*_pairs(openings, axis)) / spacing for axis in range(3)]

    def fluxes(potential: np.ndarray) -> list[np.ndarray]:
        pairs = (_pairs(potential, axis) for axis in range(3))
        return [conductance * (high - low) for conductance, (low, high) in zip(conductances, pairs, strict=True)]

    def inflow(potential: np.ndarray) -> np.ndarray:
        total = np.zeros_like(potential)
        for axis, flux in enumerate(fluxes(potential)):
            low, high = _pairs(total, axis)
            low -= flux / spacing
            high += flux / spacing
        return total

    potential = np.zeros_like(target)
    residual = -target * (openings > 0)
    direction = residual.copy()
    energy = np.vdot(residual, residual)
    goal = energy * tolerance**2
    for _ in range(2 * sum(target.shape)):
        if energy <= goal:
            break
        image = inflow(direction)
        length = energy / np.vdot(direction, image)
        potential += length * direction
        residual -= length * image
        before, energy = energy, np.vdot(residual, residual)
        direction = residual + (energy / before) * direction
    velocity = np.zeros((3, *target.shape), dtype=np.float32)
    for axis, flux in enumerate(fluxes(potential)):
        low, high = _pairs(velocity[axis], axis)
        low += flux / 2
        high += flux / 2
    return torch.from_numpy(velocity)


def _pairs(field: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return views of all cells but the last, and of all but the first, along an axis."""
    field = np.moveaxis(field, axis, 0)
    return np.moveaxis(field[:-1], 0, axis), np.moveaxis(field[1:], 0, axis)
