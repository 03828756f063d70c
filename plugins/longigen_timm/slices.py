"""Cut volumes into slices in three planes."""

import torch
from torch import Tensor
from torch.nn import functional

PLANES = 3
"""Sagittal, coronal and axial: perpendicular to W, H and D of a volume with axes R, A, S."""


def slices(volumes: Tensor, count: int, size: int) -> Tensor:
    """Return `count` resized slices in each of three planes: (N, C, W, H, D) to (N, 3, count, C, size, size).

    They are in the middle of `count` equal parts of the axis. For a thin axis some slices are repeated.
    """
    planes = []
    for axis in (2, 3, 4):
        extent = volumes.shape[axis]
        index = ((torch.arange(count, device=volumes.device) + 0.5) * extent / count).long()
        plane = volumes.index_select(axis, index).movedim(axis, 1).flatten(0, 1)
        plane = functional.interpolate(plane, (size, size), mode="bilinear", align_corners=False)
        planes.append(plane.unflatten(0, (-1, count)))
    return torch.stack(planes, dim=1)
