"""Smooth invertible deformations: free-form ones, and flows of a velocity field with a given divergence."""

import math

import numpy as np
import torch
from torch import Tensor

from longigen_simbrain.grid import Grid

STEP = 0.25
"""The largest step of a flow's integration."""


def free_form(coefficients: Tensor, knots: float, grid: Grid) -> Tensor:
    """Return the field (C, W, H, D) of cubic B-splines over the middle of `grid`.

    It depends on the place in mm alone, so two grids with one centre sample the same function. With all coefficients
    of a displacement u under `knots` / 2.48 the deformation x + u(x) is one to one (Choi and Lee, Injectivity
    conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 2000).

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


def undo(displacement: Tensor, grid: Grid, points: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Return the places x (3, ...) that x + `displacement`(x) takes to `points`, to `tolerance` mm, by iteration.

    Args:
        displacement: (3, W, H, D), on `grid`; it has to contract, which a gentle one does.
        grid: of the displacement.
        points: (3, ...), in mm.
        tolerance: in mm.
    """
    places = points
    for _ in range(50):
        before, places = places, points - grid.sample(displacement, places)
        if float((places - before).abs().max()) < tolerance:
            break
    return places


def flow(velocity: Tensor, grid: Grid, points: Tensor, amount: float) -> Tensor:
    """Move `points` (3, ...) along `velocity` (3, W, H, D) for `amount` (negative: backwards), by midpoint steps.

    The flow of a smooth field is a one-parameter group of diffeomorphisms: amounts add up, and -amount inverts.
    """
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = points + (0.5 * amount / steps) * grid.sample(velocity, points)
        points = points + (amount / steps) * grid.sample(velocity, middle)
    return points


def flow_with_jacobian(velocity: Tensor, grid: Grid, points: Tensor, amount: float) -> tuple[Tensor, Tensor]:
    """Return where `flow` takes `points` (3, ...), and the determinant (...) of the derivative of that map.

    The determinant obeys d(log J)/ds = div v along the path (Liouville's formula), so it is positive by construction.
    """
    log_jacobian = torch.zeros(points.shape[1:])
    steps = math.ceil(abs(amount) / STEP)
    for _ in range(steps):
        middle = points + (0.5 * amount / steps) * grid.sample(velocity, points)
        # Differences over one voxel, here: those between voxels' centres, interpolated, would blunt the peaks.
        for axis in range(3):
            half = torch.zeros(3, *(1,) * (points.ndim - 1))
            half[axis] = grid.spacing / 2
            high, low = (grid.sample(velocity[axis, None], middle + side * half)[0] for side in (1, -1))
            log_jacobian += (amount / steps / grid.spacing) * (high - low)
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
    # NumPy, since many operations on small arrays are where torch's threads cost more than they bring.
    walls, wanted = openness.numpy(), divergence.numpy()
    doors = [np.minimum(*_pairs(walls, axis)) / spacing for axis in range(3)]

    def fluxes(potential: np.ndarray) -> list[np.ndarray]:
        pairs = (_pairs(potential, axis) for axis in range(3))
        return [door * (high - low) for door, (low, high) in zip(doors, pairs, strict=True)]

    def inflow(potential: np.ndarray) -> np.ndarray:
        total = np.zeros_like(potential)
        for axis, flux in enumerate(fluxes(potential)):
            low, high = _pairs(total, axis)
            low -= flux / spacing
            high += flux / spacing
        return total

    potential = np.zeros_like(wanted)
    residual = -wanted * (walls > 0)
    direction = residual.copy()
    energy = np.vdot(residual, residual)
    goal = energy * tolerance**2
    for _ in range(2 * sum(wanted.shape)):
        if energy <= goal:
            break
        image = inflow(direction)
        length = energy / np.vdot(direction, image)
        potential += length * direction
        residual -= length * image
        before, energy = energy, np.vdot(residual, residual)
        direction = residual + (energy / before) * direction
    velocity = np.zeros((3, *wanted.shape), dtype=np.float32)
    for axis, flux in enumerate(fluxes(potential)):
        low, high = _pairs(velocity[axis], axis)
        low += flux / 2
        high += flux / 2
    return torch.from_numpy(velocity)


def _pairs(field: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return views of all cells but the last, and of all but the first, along an axis."""
    field = np.moveaxis(field, axis, 0)
    return np.moveaxis(field[:-1], 0, axis), np.moveaxis(field[1:], 0, axis)
