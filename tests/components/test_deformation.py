"""Tests of warps and flows against closed forms."""

import pytest
import torch

from helpers.fields import SIZE, noise, smooth
from longigen import doubled, flow, halved, warp


def test_zero_displacement_is_identity() -> None:
    for size in (SIZE, (5, 1, 2)):
        volume = noise(2, 1, *size)
        torch.testing.assert_close(warp(volume, torch.zeros(2, 3, *size)), volume, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_constant_displacement_shifts_along_axis(axis: int) -> None:
    """The volume is sampled at p + u: u = 1 returns the next voxel, and the border voxel is repeated."""
    volume, displacement = noise(2, 1, *SIZE), torch.zeros(2, 3, *SIZE)
    displacement[:, axis] = 1.0
    moved = warp(volume, displacement)
    count = SIZE[axis]
    index = (torch.arange(count) + 1).clamp(max=count - 1)
    torch.testing.assert_close(moved, volume.index_select(axis + 2, index), atol=1e-5, rtol=0)
    half = warp(volume, 0.5 * displacement)
    torch.testing.assert_close(half, 0.5 * (volume + moved), atol=1e-5, rtol=0)


def test_flow_of_constant_and_linear_velocity() -> None:
    constant = torch.tensor([0.7, -1.2, 0.4]).view(1, 3, 1, 1, 1).expand(1, 3, *SIZE)
    torch.testing.assert_close(flow(constant), constant, atol=1e-5, rtol=1e-5)
    # v = a (p - c) along W: p - c grows by e^a.
    places = torch.arange(33, dtype=torch.float32).view(1, 1, 33, 1, 1) - 16
    velocity = torch.cat([-0.3 * places.expand(1, 1, 33, 3, 3), torch.zeros(1, 2, 33, 3, 3)], dim=1)
    expected = (torch.exp(torch.tensor(-0.3)) - 1) * places.expand(1, 1, 33, 3, 3)
    torch.testing.assert_close(flow(velocity)[:, :1], expected, atol=0.02, rtol=0.01)


def test_flow_of_smooth_velocity_is_invertible() -> None:
    velocity = smooth(2.0, (24, 20, 22))
    displacement = flow(velocity)
    gradient = torch.stack(torch.gradient(displacement, dim=(2, 3, 4)), dim=2)  # (B, component, axis, ...)
    jacobian = gradient.permute(0, 3, 4, 5, 1, 2) + torch.eye(3)
    assert torch.linalg.det(jacobian).min() > 0.1
    back = displacement + warp(flow(-velocity), displacement)
    inside = back[:, :, 3:-3, 3:-3, 3:-3]
    assert inside.abs().max() < 0.12 * displacement.abs().max()


def test_halved_and_doubled_keep_a_shift() -> None:
    for size in ((8, 6, 4), (9, 7, 5)):
        field = torch.full((1, 3, *size), 0.8)
        coarse = halved(field) / 2  # the same shift in the coarse grid's voxels
        torch.testing.assert_close(doubled(coarse, field.shape[2:]), field)
