"""Spatial deformations: warp a volume by a displacement field, integrate a velocity field.

Fields are (B, 3, W, H, D), in voxels along W, H and D.
"""

import torch
from torch import Tensor
from torch.nn import functional

SQUARINGS = 6
"""A velocity field is integrated in 2^6 steps."""


def warp(volume: Tensor, displacement: Tensor) -> Tensor:
    """Return `volume` (B, C, W, H, D) sampled at p + u(p), trilinearly; outside, the nearest border voxel is used."""
    return _sampled(volume, displacement, _places(volume))


def flow(velocity: Tensor) -> Tensor:
    """Integrate a stationary velocity field over unit time by scaling and squaring; return the displacement field.

    If u is the displacement after a time step, then u + u(p + u) is the displacement after twice that step (Arsigny et
    al., MICCAI 2006). The first step, 2^-6 long, is velocity times time. The inverse deformation is the flow of
    -velocity.
    """
    displacement, places = velocity.float() / 2**SQUARINGS, _places(velocity)
    for _ in range(SQUARINGS):
        displacement = displacement + _sampled(displacement, displacement, places)
    return displacement


def composed(displacement: Tensor, before: Tensor) -> Tensor:
    """Return u(p) + v(p + u(p)): the displacement u of an image that was itself moved by v (`before`), as one field."""
    return displacement + warp(before, displacement)


def halved(volume: Tensor) -> Tensor:
    """Downsample a volume by 2: means over 2×2×2 voxels, sizes rounded up."""
    return functional.avg_pool3d(volume, 2, ceil_mode=True, count_include_pad=False)


def doubled(field: Tensor, size: torch.Size) -> Tensor:
    """Upsample a displacement field from the grid of `halved` to the original `size`, in voxels of the finer grid."""
    fine = 2 * functional.interpolate(field, scale_factor=2, mode="trilinear")
    return fine[:, :, : size[0], : size[1], : size[2]]


def _places(volume: Tensor) -> Tensor:
    """Return the place p of each voxel of (B, C, W, H, D), (3, W, H, D)."""
    axes = [torch.arange(size, device=volume.device, dtype=torch.float32) for size in volume.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _sampled(volume: Tensor, displacement: Tensor, places: Tensor) -> Tensor:
    # The sizes are filled in on the device: copying them from the CPU would wait for all that a GPU has to do.
    last = torch.stack([torch.full((), max(size - 1, 1), device=volume.device) for size in volume.shape[2:]])
    # grid_sample's coordinates run from -1 to 1 between the outer voxels' centres, the last axis first.
    grid = (2 * (places + displacement.float()) / last.view(3, 1, 1, 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return functional.grid_sample(volume.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
