"""Smooth periodic noise for textures, and soft edges."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIZE, SPACING = 64, 2.0
"""The noise has a period of `SIZE` · `SPACING` mm, and is linear between points at a distance of `SPACING` mm."""

WIDTHS = (1.8, 3.0, 8.0)
"""Standard deviations of the Gaussians that smooth the white noise, in mm: fine, middle and coarse."""


@lru_cache(maxsize=4)
def _lattice(seed: int) -> Tensor:
    """Return periodic Gaussian noise (3, n, n, n) of unit variance, with its first planes repeated at the end."""
    noise = np.fft.rfftn(np.random.default_rng((seed, 0, 0, 0)).standard_normal((SIZE,) * 3))
    along, half = np.fft.fftfreq(SIZE, SPACING), np.fft.rfftfreq(SIZE, SPACING)
    square = along[:, None, None] ** 2 + along[:, None] ** 2 + half**2
    smooth = [np.fft.irfftn(noise * np.exp(-2 * (np.pi * width) ** 2 * square)) for width in WIDTHS]
    scaled = torch.from_numpy(np.stack([(field - field.mean()) / field.std() for field in smooth])).float()
    return F.pad(scaled[None], (0, 1) * 3, mode="circular")[0].contiguous()


def texture(seed: int, offset: np.ndarray, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return noise of the widths `WIDTHS` (3, N) at positions (N,) in mm, in the coordinates of the tissue.

    Args:
        seed: random seed of the noise, which all subjects share.
        offset: position of the subject in the noise (3,), in mm.
        x: x of the positions.
        y: y of the positions.
        z: z of the positions.
    """
    period = SIZE * SPACING
    positions = [
        torch.remainder(axis + shift, period) * (2 / period) - 1
        for axis, shift in zip((x, y, z), offset.tolist(), strict=True)
    ]
    grid = torch.stack(positions[::-1], -1).view(1, 1, 1, -1, 3)  # grid_sample expects the last axis first
    return F.grid_sample(_lattice(seed)[None], grid, align_corners=True).view(len(WIDTHS), -1)


def soft_edge(distance: Tensor, width: float) -> Tensor:
    """Return the fraction of a voxel on the positive side of a surface.

    Args:
        distance: signed distance from the surface, in mm.
        width: distance over which the fraction changes from 0 to 1, in mm.
    """
    fraction = (0.5 + distance / width).clamp(0, 1)
    return fraction * fraction * (3 - 2 * fraction)
