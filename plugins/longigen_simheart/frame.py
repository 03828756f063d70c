"""Where the heart lies: between the scanner's coordinates and the heart's."""

import math

import torch
from torch import Tensor

from longigen_simheart.subject import Traits


def frame(traits: Traits, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return places in the heart's frame, (2, ...) and heights, given the scanner's x, y and z, all in mm.

    The heart's axis leans by a shear and the section is stretched along the septum and shrunk across: volumes stay.
    """
    x = x - traits.centre[0] - traits.tilt[0] * z
    y = y - traits.centre[1] - traits.tilt[1] * z
    cosine, sine, stretch = math.cos(traits.septum), math.sin(traits.septum), math.exp(traits.stretch)
    return torch.stack([(cosine * x + sine * y) / stretch, (cosine * y - sine * x) * stretch]), z - traits.apex


def unframe(traits: Traits, place: Tensor, height: Tensor) -> Tensor:
    """Return (3, ...) the scanner's x, y and z of places and heights in the heart's frame: undoes `frame`."""
    z = height + traits.apex
    cosine, sine, stretch = math.cos(traits.septum), math.sin(traits.septum), math.exp(traits.stretch)
    along, across = place[0] * stretch, place[1] / stretch
    x = cosine * along - sine * across + traits.centre[0] + traits.tilt[0] * z
    y = sine * along + cosine * across + traits.centre[1] + traits.tilt[1] * z
    return torch.stack([x, y, z.expand_as(x)])


def turned(place: Tensor, angle: Tensor) -> Tensor:
    """Turn `place` (2, ...) by `angle`, from +x to +y."""
    x, y = place
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y])


def cosine(place: Tensor) -> Tensor:
    """Return cos δ of `place` (2, ...): of its angle to the septum's direction."""
    return place[0] / place.square().sum(0).clamp(min=1e-6).sqrt()
