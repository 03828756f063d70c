"""Smooth noise that fills space, and soft edges."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIZE, SPACING = 64, 2.0
"""The noise repeats after `SIZE` · `SPACING` mm, and is linear between points `SPACING` mm apart."""

WIDTHS = (1.8, 3.0, 8.0)
"""The standard deviations of the Gaussians that white noise is smoothed with, in mm: fine, middle and coarse."""


@lru_cache(maxsize=4)
def _lattice(seed: int) -> Tensor:
    """Return (3, n, n, n) periodic Gaussian noise of unit variance, its first planes repeated at the end."""
    noise = np.fft.rfftn(np.random.default_rng((seed, 0, 0, 0)).standard_normal((SIZE,) * 3))
    along, half = np.fft.fftfreq(SIZE, SPACING), np.fft.rfftfreq(SIZE, SPACING)
    square = along[:, None, None] ** 2 + along[:, None] ** 2 + half**2
    smooth = [np.fft.irfftn(noise * np.exp(-2 * (np.pi * width) ** 2 * square)) for width in WIDTHS]
    scaled = torch.from_numpy(np.stack([(field - field.mean()) / field.std() for field in smooth])).float()
    return F.pad(scaled[None], (0, 1) * 3, mode="circular")[0].contiguous()


def texture(seed: int, offset: np.ndarray, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return the noise of widths `WIDTHS` (3, N) at places (N,) in mm, in the tissue's own coordinates.

    Args:
        seed: of the noise, which all subjects share.
        offset: (3,), in mm: where in it the subject lies.
        x: of the places; `y` and `z` likewise.
        y: of the places.
        z: of the places.
    """
    period = SIZE * SPACING
    places = [
        torch.remainder(axis + shift, period) * (2 / period) - 1
        for axis, shift in zip((x, y, z), offset.tolist(), strict=True)
    ]
    grid = torch.stack(places[::-1], -1).view(1, 1, 1, -1, 3)  # grid_sample wants the fastest axis first
    return F.grid_sample(_lattice(seed)[None], grid, align_corners=True).view(len(WIDTHS), -1)


def soft(distance: Tensor, width: float) -> Tensor:
    """Return the share of a voxel on the positive side of a surface.

    Args:
        distance: from it, in mm.
        width: over which the share goes from 0 to 1, in mm.
    """
    share = (0.5 + distance / width).clamp(0, 1)
    return share * share * (3 - 2 * share)
