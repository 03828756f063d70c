"""Sharpness: how strong the edges and the fine structure are, compared with those of the true volume."""

import math

import torch
from torch import Tensor
from torch.nn import functional

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


class LaplacianError(Metric):
    """How much less, or more, fine structure a volume has than the true one: 0 for as much, towards 1 for a blur.

    It compares the mean size of the Laplacian inside the foreground, and not the Laplacian voxel by voxel. Where images
    have noise, a voxelwise error rewards blur: a Gaussian of one voxel lowers that of a copy of the last visit on ACDC
    from 1.15 to 0.97, and raises this one from 0.03 to 0.69 (``benchmarks/copies.py``). `Sharpness` says in which
    direction the volume differs. NaN without a foreground and if the true volume has no curvature.
    """

    higher_is_better = False

    @property
    def definition(self) -> str:
        return (
            "|mean |Laplacian| of the generated over that of the true volume - 1|: second differences, borders "
            "repeated, mean inside the foreground, without axes that have fewer than a third of the longest axis's "
            "voxels"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        size = float(laplacian(true)[:, foreground].abs().sum())
        return abs(float(laplacian(generated)[:, foreground].abs().sum()) / size - 1) if size else math.nan


def _axes(volume: Tensor) -> list[int]:
    """Return the axes of a volume (C, W, H, D) along which it is compared."""
    longest = max(volume.shape[1:])
    return [axis for axis in (1, 2, 3) if THIN * volume.shape[axis] >= longest and volume.shape[axis] > 1]


def _gradient(volume: Tensor) -> float:
    axes = _axes(volume)
    slopes = torch.gradient(volume.double(), dim=axes) if axes else [torch.zeros_like(volume)]
    return float(torch.stack(list(slopes)).square().sum(dim=0).sqrt().mean())


def laplacian(volume: Tensor) -> Tensor:
    """Return the Laplacian (C, W, H, D), float64: the sum of second differences along the axes, borders repeated."""
    padded = functional.pad(volume.double()[None], (1,) * 6, mode="replicate")[0]
    total = torch.zeros_like(volume, dtype=torch.float64)
    for axis in _axes(volume):
        inner = padded
        for other in (1, 2, 3):
            if other != axis:
                inner = inner.narrow(other, 1, volume.shape[other])
        total += inner.diff(n=2, dim=axis)
    return total
