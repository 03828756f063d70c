"""Random volumes and smooth displacement fields."""

import torch
from torch import Tensor

SIZE = (9, 8, 7)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(scale: float, size: tuple[int, int, int] = (12, 10, 14), seed: int = 0) -> Tensor:
    """Return a smooth field that is `scale` voxels at most."""
    field = torch.nn.functional.interpolate(noise(2, 3, 4, 4, 4, seed=seed), size=size, mode="trilinear")
    return scale * field / field.abs().max()
