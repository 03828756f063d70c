"""Losses of the `cine` denoiser, per sample (B,), and the warp that training uses.

Volumes are (B, C, W, H, D) in [-1, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SCALES = 3
"""Errors are also taken at 1/2, 1/4 and 1/8 of the resolution in the plane: large motion has gradients there."""
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2


def warp_slices(volume: Tensor, displacement: Tensor) -> Tensor:
    """Return a volume sampled at p + u(p), by bicubic interpolation in the plane and linear interpolation across.

    Args:
        volume: (B, C, W, H, D).
        displacement: u (B, 3, W, H, D), in voxels; across the slices at most 1.

    The core's `warp` is trilinear, which blurs: by half a voxel in the plane as much as a mean of two voxels. A network
    that is trained through it would use that blur to lower its error.
    """
    C, W, H, D = volume.shape[1:]
    axes = [torch.arange(size, device=volume.device, dtype=torch.float32) for size in (W, H)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    places = places + to_slices(displacement[:, :2].float())
    last = torch.stack([torch.full((), max(size - 1, 1), device=volume.device) for size in (W, H)]).view(1, 2, 1, 1)
    grid = (2 * places / last - 1).flip(1).permute(0, 2, 3, 1)  # the last axis first
    below = torch.cat([volume[..., :1], volume[..., :-1]], dim=-1)
    above = torch.cat([volume[..., 1:], volume[..., -1:]], dim=-1)
    stack = to_slices(torch.cat([volume, above, below], dim=1).float())
    moved = functional.grid_sample(stack, grid, mode="bicubic", padding_mode="border", align_corners=True)
    here, above, below = from_slices(moved, D).split(C, dim=1)
    up, down = displacement[:, 2:].clamp(min=0), (-displacement[:, 2:]).clamp(min=0)
    return (1 - up - down) * here + up * above + down * below


def squared_error(image: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error, summed over the resolutions."""
    return _over_scales(image - true, torch.square)


def ensemble_error(first: Tensor, second: Tensor, true: Tensor) -> Tensor:
    """Return the fair CRPS of two draws x and x', summed over the resolutions.

    It is (|x - y| + |x' - y|) / 2 - |x - x'| / 2 per voxel (Ferro, QJRMS 2014, for two members).
    """
    differences = torch.cat([first - true, second - true, first - second])  # in one batch, which is faster on a GPU
    errors = _over_scales(differences, torch.abs).chunk(3)
    return (errors[0] + errors[1] - errors[2]) / 2


def amount_error(image: Tensor, true: Tensor, base: Tensor) -> Tensor:
    """Return |a - a'|, with a and a' the root mean squares of the generated and the true change from `base`.

    Changes are taken at 1/4 of the resolution in the plane, where the noise of scans hardly counts.
    """
    generated, expected = (_amount(volume - base) for volume in (image, true))
    return (generated - expected).abs()


def dissimilarity(image: Tensor, true: Tensor) -> Tensor:
    """Return 1 - SSIM of the slices (Wang et al., IEEE TIP 2004), with a Gaussian window in the plane."""
    channels, depth = true.shape[1], true.shape[-1]
    x, y = (to_slices(volume.float() + 1).flatten(0, 1)[:, None] for volume in (image, true))  # each channel by itself
    shape = x.shape
    mean_x, mean_y, xx, yy, xy = (m.reshape(shape) for m in _window(torch.cat([x, y, x * x, y * y, x * y])).chunk(5))
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    variance = xx - mean_x**2 + yy - mean_y**2
    similarity = luminance * (2 * (xy - mean_x * mean_y) + C2) / (variance + C2)
    return 1 - from_slices(similarity[:, 0].unflatten(0, (-1, channels)), depth).flatten(1).mean(dim=1)


def to_slices(volume: Tensor) -> Tensor:
    """Return the slices (B·D, C, W, H) of a volume (B, C, W, H, D)."""
    return volume.permute(0, 4, 1, 2, 3).flatten(0, 1)


def from_slices(slices: Tensor, depth: int) -> Tensor:
    """Return the volume (B, C, W, H, D) of slices (B·D, C, W, H)."""
    return slices.unflatten(0, (-1, depth)).permute(0, 2, 3, 4, 1)


def _amount(change: Tensor) -> Tensor:
    coarse = functional.avg_pool2d(to_slices(change.float()), 4, ceil_mode=True, count_include_pad=False)
    squares = from_slices(coarse, change.shape[-1]).square().flatten(1).mean(dim=1)
    return squares.clamp(min=1e-8).sqrt()  # the root of 0 has no gradient


def _over_scales(error: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the sum over the resolutions of the mean of a function of the error."""
    depth = error.shape[-1]
    slices, total = to_slices(error.float()), error.new_zeros(error.shape[0], dtype=torch.float32)
    for scale in range(SCALES + 1):
        if scale:
            slices = functional.avg_pool2d(slices, 2, ceil_mode=True, count_include_pad=False)
        total = total + function(from_slices(slices, depth)).flatten(1).mean(dim=1)
    return total


def _window(slices: Tensor) -> Tensor:
    """Return Gaussian means in the plane; positions outside are reflected, or on short axes repeated."""
    offsets = torch.arange(WINDOW, device=slices.device) - WINDOW // 2
    weights = torch.exp(-((offsets.float() / SIGMA) ** 2) / 2)
    weights = weights / weights.sum()
    half = WINDOW // 2
    mode = "reflect" if min(slices.shape[2:]) > half else "replicate"
    padded = functional.pad(slices, (half, half, half, half), mode=mode)
    return functional.conv2d(functional.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
