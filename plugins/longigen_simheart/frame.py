"""Transformation between the scanner's coordinates and those of the heart."""

import math

import torch
from torch import Tensor

from longigen_simheart.subject import Traits


def to_heart_frame(traits: Traits, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions (2, ...) and heights in the heart's frame from the scanner's x, y and z, all in mm.

    The heart's axis is tilted by a shear, and sections are stretched along the septum and shrunk across it, which
    preserves volumes.
    """
    x = x - traits.centre[0] - traits.tilt[0] * z
    y = y - traits.centre[1] - traits.tilt[1] * z
    cosine, sine, stretch = math.cos(traits.septum), math.sin(traits.septum), math.exp(traits.stretch)
    return torch.stack([(cosine * x + sine * y) / stretch, (cosine * y - sine * x) * stretch]), z - traits.apex


def from_heart_frame(traits: Traits, position: Tensor, height: Tensor) -> Tensor:
    """Return the scanner's x, y and z (3, ...) of positions and heights in the heart's frame."""
    z = height + traits.apex
    cosine, sine, stretch = math.cos(traits.septum), math.sin(traits.septum), math.exp(traits.stretch)
    along, across = position[0] * stretch, position[1] / stretch
    x = cosine * along - sine * across + traits.centre[0] + traits.tilt[0] * z
    y = sine * along + cosine * across + traits.centre[1] + traits.tilt[1] * z
    return torch.stack([x, y, z.expand_as(x)])


def rotate(position: Tensor, angle: Tensor) -> Tensor:
    """Rotate `position` (2, ...) by `angle`, from +x to +y."""
    x, y = position
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y])


def septum_cosine(position: Tensor) -> Tensor:
    """Return cos δ, where δ is the angle of `position` (2, ...) to the direction of the septum."""
    return position[0] / position.square().sum(0).clamp(min=1e-6).sqrt()
