"""The `haar` codec: three-dimensional Haar wavelets, exact and without parameters."""

from typing import Annotated

import torch
from torch import Tensor

from longigen import Codec, Range, patchify, unpatchify


class HaarCodec(Codec):
    """The orthonormal discrete wavelet transform by Haar's wavelet along three axes (Haar 1910; Mallat 1989).

    One level halves each axis: 2 × 2 × 2 voxels become one approximation, their sum / √8, and seven details, signed
    sums / √8. A further level transforms the approximations again. Details of finer levels are moved into channels by
    space to depth, so that all channels have the grid of the coarsest: an image of C channels becomes 8^level · C. This
    is how wavelet diffusion works on large volumes (Friedrich et al., WDM, 2024, arXiv 2402.19043).

    The transform is orthonormal, so white noise stays white noise, and squared errors of codes are those of images
    (Parseval): a diffusion model has the losses and the signal-to-noise ratios that it has on voxels. Only the network
    sees fewer voxels and more channels.

    Args:
        level: number of times that each axis is halved.
    """

    def __init__(self, *, level: Annotated[int, Range(1, 4)] = 1) -> None:
        super().__init__()
        self.level = level
        self.factor = 2**level

    @property
    def limit(self) -> float:
        return 8 ** (self.level / 2)  # of an image of ones: √8 per level

    @property
    def error(self) -> float:
        return 1e-6  # rounding in single precision

    def build(self, *, channels: int) -> None:
        self.channels = channels * 8**self.level

    def to_code(self, image: Tensor) -> Tensor:
        return _forward(image, self.level)

    def to_image(self, code: Tensor) -> Tensor:
        return _backward(code, self.level)


def _forward(image: Tensor, level: int) -> Tensor:
    """Return the transform (B, 8^level · C, …) of an image (B, C, …): the coarsest approximations first."""
    channels = image.shape[1]
    bands = torch.einsum("bckwhd,nk->bncwhd", patchify(image, 2).unflatten(1, (channels, 8)), _signs(image)).flatten(
        1, 2
    )
    if level == 1:
        return bands
    approximations, details = bands[:, :channels], bands[:, channels:]
    return torch.cat([_forward(approximations, level - 1), patchify(details, 2 ** (level - 1))], dim=1)


def _backward(code: Tensor, level: int) -> Tensor:
    """Return the image of a transform; the inverse of `_forward`, and its adjoint."""
    channels = code.shape[1] // 8**level
    if level > 1:
        coarse = channels * 8 ** (level - 1)
        approximations = _backward(code[:, :coarse], level - 1)
        code = torch.cat([approximations, unpatchify(code[:, coarse:], 2 ** (level - 1))], dim=1)
    voxels = torch.einsum("bncwhd,nk->bckwhd", code.unflatten(1, (8, channels)), _signs(code))
    return unpatchify(voxels.flatten(1, 2), 2)


def _signs(like: Tensor) -> Tensor:
    """Return the eight signed sums of the eight voxels of a cube, an orthogonal matrix (8, 8); the first is the sum."""
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=like.dtype, device=like.device)
    return torch.kron(torch.kron(pair, pair), pair) / 8**0.5
