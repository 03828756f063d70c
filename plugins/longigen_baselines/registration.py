"""Registration losses: similarity of two volumes and roughness of a deformation field."""

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 9
"""Width of the windows of the local correlation, in voxels, as in DiffuseMorph's code."""


def local_correlation(one: Tensor, two: Tensor) -> Tensor:
    """Return the squared correlation in windows of 9³ voxels, averaged over the voxels and channels of a sample (B,).

    It is in [0, 1], and 0 where a window is constant. Windows are cropped at the border.
    """
    one, two = one.float() + 1, two.float() + 1  # background becomes 0, so that its windows are exactly constant

    inside = _window_means(torch.ones_like(one[:1]))

    def mean(volume: Tensor) -> Tensor:
        return _window_means(volume) / inside

    mean_one, mean_two = mean(one), mean(two)
    covariance = mean(one * two) - mean_one * mean_two
    variances = [(mean(v * v) - m * m).clamp(min=0) for v, m in ((one, mean_one), (two, mean_two))]
    return (covariance.square() / (variances[0] * variances[1] + 1e-9)).flatten(1).mean(dim=1)


def _window_means(volume: Tensor) -> Tensor:
    """Return means over windows with zero padding, one axis after the other, which is 27 times less work."""
    volume = functional.pad(volume, [WINDOW // 2] * 6)
    for kernel in ((WINDOW, 1, 1), (1, WINDOW, 1), (1, 1, WINDOW)):
        volume = functional.avg_pool3d(volume, kernel, stride=1)
    return volume


def roughness(field: Tensor) -> Tensor:
    """Return the mean square of the differences between neighbouring voxels, over components and axes, (B,)."""
    steps = [field.float().diff(dim=axis).square().flatten(1) for axis in (2, 3, 4) if field.shape[axis] > 1]
    return torch.stack([step.mean(dim=1) for step in steps]).sum(dim=0) / 3 if steps else field.new_zeros(len(field))
