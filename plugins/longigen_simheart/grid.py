"""The grid of the slices, over a fixed field of view."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FIELD = (160.0, 160.0, 108.0)
"""The field of view in mm, centred on the origin: right, anterior, and towards the heart's base."""

SLAB = 3.0
"""The largest thickness, in mm, of the slabs that a slice is averaged over."""


@dataclass(frozen=True)
class Grid:
    """A RAS grid of `shape` (W, H, D) voxels over `FIELD`."""

    shape: tuple[int, int, int]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of the voxels in mm."""
        x, y, z = (extent / size for extent, size in zip(FIELD, self.shape, strict=True))
        return x, y, z

    @property
    def affine(self) -> np.ndarray:
        """The affine from voxel index to mm (4, 4), float64."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [float(self._centres(axis, 1)[0]) for axis in range(3)]
        return affine

    @property
    def slabs(self) -> int:
        """Number of slabs that a slice is averaged over."""
        return int(np.ceil(self.spacing[2] / SLAB))

    def coordinates(self, slabs: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Return x (W, 1, 1), y (H, 1) and z (D · `slabs`) of the centres of slabs, in mm; they can be broadcast."""
        x, y, z = (self._centres(axis, slabs if axis == 2 else 1) for axis in range(3))
        return x[:, None, None], y[:, None], z

    def _centres(self, axis: int, parts: int) -> Tensor:
        number = self.shape[axis] * parts
        return ((torch.arange(number, dtype=torch.float64) + 0.5) / number - 0.5).mul(FIELD[axis]).float()
