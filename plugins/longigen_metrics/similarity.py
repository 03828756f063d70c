"""Structural similarity (SSIM) in three dimensions, and of slices."""

import math
from typing import Literal

import torch
from torch import Tensor

from longigen import BACKGROUND, Metric

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
DATA_RANGE = 2.0
RULE = (
    "Gaussian window of 11 voxels with sigma 1.5, on a shorter axis the largest odd window w that fits with sigma "
    "1.5 w/11; background 0, data range 2, K1 0.01, K2 0.03, reflected borders"
)


class SSIM(Metric):
    """Structural similarity (Wang et al., IEEE TIP 2004), averaged over the volume; 1 for identical volumes.

    Much of a volume is background that any model predicts correctly, so this value is high for all models;
    `ForegroundSSIM` leaves the background out.

    Args:
        data_range: the range to which differences are compared: ``fixed``, of all intensities; or ``images``, the
            larger max - min of the two volumes, as torchmetrics has it by default and papers that use it. Tables and
            protocols call the latter ``ssim-own-range``.
    """

    default = True

    def __init__(self, *, data_range: Literal["fixed", "images"] = "fixed") -> None:
        self.data_range = data_range

    @property
    def variant(self) -> str:
        return "" if self.data_range == "fixed" else "own-range"

    @property
    def definition(self) -> str:
        rule = RULE.replace("data range 2", "data range the larger max - min of the two volumes")
        return f"3D SSIM, mean over the whole volume; {rule if self.variant else RULE}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        span = max(float(volume.max() - volume.min()) for volume in (generated, true)) if self.variant else DATA_RANGE
        return float(ssim_map(generated, true, span=span).mean())


class ForegroundSSIM(Metric):
    """Structural similarity, averaged over the foreground; NaN if there is none.

    Windows at the edge of the foreground also contain voxels outside it.
    """

    default = True

    @property
    def definition(self) -> str:
        return f"3D SSIM, mean of its map inside the foreground; {RULE}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        if not bool(foreground.any()):
            return math.nan
        return float(ssim_map(generated, true)[:, foreground].mean())


class SliceSSIM(Metric):
    """Structural similarity of each slice, averaged over the slices: for volumes of thick or few slices.

    Slices are across the axis with the fewest voxels. A three-dimensional window would mix slices that are a
    centimetre apart.
    """

    default = True

    @property
    def definition(self) -> str:
        return (
            "2D SSIM of each slice across the axis with the fewest voxels (the last of several), mean over all slices; "
            f"{RULE}"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        sizes = true.shape[1:]
        across = max(axis for axis, size in enumerate(sizes) if size == min(sizes))
        return float(ssim_map(generated, true, across).mean())


def ssim_map(generated: Tensor, true: Tensor, across: int | None = None, *, span: float = DATA_RANGE) -> Tensor:
    """Return the structural similarity at each voxel (Wang et al., Eq. 13), (C, W, H, D), float64.

    With `across`, the windows lie within the slices across that axis (0, 1 or 2). `span` is the data range.

    Intensities are shifted so that background is 0 instead of -1. The luminance term compares ratios of means, which
    makes sense only for intensities from 0 up: with 0 as mid-grey, means of 0.05 and -0.05 would count as opposite.

    The result equals torchmetrics' `structural_similarity_index_measure` in double precision (a test compares them).
    That function cannot be used itself: in single precision rounding errors of E[x²] - E[x]² give 0.9994 for identical
    volumes of 128³, and in double precision its dense window needs 47 GB for 96³.
    """
    x, y = generated.double() - BACKGROUND, true.double() - BACKGROUND
    windows = [
        torch.eye(size, dtype=x.dtype, device=x.device) if axis == across else window_matrix(size).to(x.device)
        for axis, size in enumerate(x.shape[1:])
    ]

    def mean(volume: Tensor) -> Tensor:
        return torch.einsum("cwhd,iw,jh,kd->cijk", volume, *windows)

    mean_x, mean_y = mean(x), mean(y)
    var_x = mean(x * x) - mean_x**2
    var_y = mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (var_x + var_y + c2)


def window_matrix(size: int) -> Tensor:
    """Return the Gaussian window along one axis as a matrix (size, size), float64, whose rows sum to 1.

    Row i holds the weights of the window around voxel i; positions outside are reflected at the outer voxels.
    """
    window = min(WINDOW, size - 1 + size % 2)
    offsets = torch.arange(window) - window // 2
    weights = torch.exp(-((offsets.double() * WINDOW / (SIGMA * window)) ** 2) / 2)
    voxels = torch.arange(size)[:, None]
    positions = (voxels + offsets).abs()
    positions = torch.where(positions >= size, 2 * (size - 1) - positions, positions)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.index_put_((voxels, positions), (weights / weights.sum()).expand_as(positions), accumulate=True)
