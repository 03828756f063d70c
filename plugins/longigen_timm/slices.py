"""Volumes as slices in three planes."""

import torch
from torch import Tensor
from torch.nn import functional

PLANES = 3
"""Sagittal, coronal and axial: across W, H and D of a volume whose axes are R, A, S."""


def slices(volumes: Tensor, count: int, size: int) -> Tensor:
    """Return `count` slices in each of three planes, resized: (N, C, W, H, D) as (N, 3, count, C, size, size).

    They lie in the middles of `count` equal parts of the axis. A thin axis gives some of its slices more than once.
    """
    planes = []
    for axis in (2, 3, 4):
        extent = volumes.shape[axis]
        index = ((torch.arange(count, device=volumes.device) + 0.5) * extent / count).long()
        found = volumes.index_select(axis, index).movedim(axis, 1).flatten(0, 1)
        found = functional.interpolate(found, (size, size), mode="bilinear", align_corners=False)
        planes.append(found.unflatten(0, (-1, count)))
    return torch.stack(planes, dim=1)
