"""Sharpness: how strong the edges are, compared with those of the true volume."""

import math

import torch
from torch import Tensor

from longigen import Metric

THIN = 3
"""An axis with fewer voxels than the longest over this number is left out: its voxels are usually thick."""


class Sharpness(Metric):
    """Mean length of the gradient of the generated volume over that of the true one: below 1 for a blurred volume.

    Squared error rewards blur wherever a model is not sure, and this metric does not. Noise makes it larger. It is the
    length and not its square, in which a few strong edges would hide a blur of everything else. It is NaN if the true
    volume is constant.
    """

    higher_is_better = None
    default = True

    @property
    def definition(self) -> str:
        return (
            "mean length of the gradient of the generated over that of the true volume: central differences (one-sided "
            "at the borders), whole volume, without axes that have fewer than a third of the longest axis's voxels"
        )

    def aim(self, samples: int) -> float | None:
        return 1.0

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        length = _gradient(true)
        return _gradient(generated) / length if length else math.nan


def _gradient(volume: Tensor) -> float:
    longest = max(volume.shape[1:])
    axes = [axis for axis in (1, 2, 3) if THIN * volume.shape[axis] >= longest and volume.shape[axis] > 1]
    slopes = torch.gradient(volume.double(), dim=axes) if axes else [torch.zeros_like(volume)]
    return float(torch.stack(list(slopes)).square().sum(dim=0).sqrt().mean())
