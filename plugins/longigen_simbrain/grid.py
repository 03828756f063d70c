"""Regular grids in millimetres, and fields sampled on them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """A RAS grid: `shape` (W, H, D), isotropic `spacing` in mm, and `origin`, the centre of voxel (0, 0, 0) in mm."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """The affine from voxel index to mm (4, 4), float64."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine

    @cached_property
    def points(self) -> Tensor:
        """The voxel centres (3, W, H, D) in mm."""
        axes = [o + self.spacing * torch.arange(n) for o, n in zip(self.origin, self.shape, strict=True)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def sample(self, field: Tensor, points: Tensor) -> Tensor:
        """Return `field` (C, W, H, D) on this grid, interpolated trilinearly at `points` (3, ...) in mm: (C, ...).

        It is 0 outside the grid.
        """
        columns = (1,) * (points.ndim - 1)
        origin = torch.tensor(self.origin).view(3, *columns)
        size = torch.tensor(self.shape).view(3, *columns)
        position = (points - origin) * (2 / self.spacing) / (size - 1) - 1
        # grid_sample expects the last axis first.
        position = position.flatten(1).flip(0).T.reshape(1, 1, 1, -1, 3)
        return F.grid_sample(field[None], position, align_corners=True).view(-1, *points.shape[1:])

    def gradient(self, field: Tensor) -> Tensor:
        """Return the derivatives (3, C, W, H, D) of `field` (C, W, H, D) by x, y and z, by central differences."""
        return torch.stack(torch.gradient(field, spacing=self.spacing, dim=(1, 2, 3)))

    def divergence(self, field: Tensor) -> Tensor:
        """Return the divergence (W, H, D) of `field` (3, W, H, D)."""
        return torch.stack([torch.gradient(field[a], spacing=self.spacing, dim=a)[0] for a in range(3)]).sum(0)

    def jacobian(self, field: Tensor) -> Tensor:
        """Return the Jacobian determinant (W, H, D) of the map `field` (3, W, H, D)."""
        x, y, z = self.gradient(field)
        return (x * torch.linalg.cross(y, z, dim=0)).sum(0)
