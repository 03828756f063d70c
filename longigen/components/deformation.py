"""Deformations: warping, and the flow of a velocity field.

Fields are (B, 3, W, H, D), in voxels along W, H and D.
"""

import torch
from torch import Tensor
from torch.nn import functional

SQUARINGS = 6
"""A flow is integrated in 2^6 steps."""


def warp(volume: Tensor, displacement: Tensor) -> Tensor:
    """Return `volume` (B, C, W, H, D) as seen from p + u(p), trilinear; beyond its border lies its border."""
    sizes = volume.shape[2:]
    axes = [torch.arange(size, device=volume.device, dtype=torch.float32) for size in sizes]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement.float()
    # grid_sample counts from -1 to 1 between the outer voxels' centres, and names the last axis first.
    last = torch.tensor([max(size - 1, 1) for size in sizes], device=volume.device).view(3, 1, 1, 1)
    grid = (2 * places / last - 1).flip(1).permute(0, 2, 3, 4, 1)
    return functional.grid_sample(volume.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


def flow(velocity: Tensor) -> Tensor:
    """Return the displacement after unit time along a stationary velocity field, by scaling and squaring.

    With u the displacement after half of a time, u + u(p + u) is that after the whole of it (Arsigny et al., MICCAI
    2006); the first, after 2^-6, is velocity times time. The result can be undone: it is the flow of -velocity.
    """
    displacement = velocity.float() / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + warp(displacement, displacement)
    return displacement


def halved(volume: Tensor) -> Tensor:
    """Return means over 2×2×2 voxels; sizes are rounded up."""
    return functional.avg_pool3d(volume, 2, ceil_mode=True, count_include_pad=False)


def doubled(field: Tensor, size: torch.Size) -> Tensor:
    """Return a displacement on the grid of `halved` as one on the grid of `size`, in the latter's voxels."""
    fine = 2 * functional.interpolate(field, scale_factor=2, mode="trilinear")
    return fine[:, :, : size[0], : size[1], : size[2]]
