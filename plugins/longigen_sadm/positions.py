"""Positional encodings of tokens over space and over real time."""

import math

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn

SPACE_WAVELENGTHS = (4.0, 256.0)
"""Shortest and longest wavelength in patches: twice the Nyquist limit, and longer than any feasible grid."""

SPACE_AMPLITUDE = 0.1
"""Amplitude of the encoding over space, small so that it does not hide the anatomy at the start of training."""

TIME_WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest wavelength in typical gaps between visits."""


def sinusoids(x: Tensor, features: int, wavelengths: tuple[float, float]) -> Tensor:
    """Return sine and cosine of `x` (...) at `features` // 2 wavelengths in geometric progression, (..., features).

    If `features` is odd the last feature is zero. No position is encoded as zero.
    """
    number = features // 2
    shortest, longest = wavelengths
    step = torch.arange(number, device=x.device, dtype=torch.float32) / max(number - 1, 1)
    angle = x.float()[..., None] * (2 * math.pi / shortest) * (shortest / longest) ** step
    return nn.functional.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, features - 2 * number))


def space_encoding(grid: tuple[int, int, int], features: int, stride: int, like: Tensor) -> Tensor:
    """Return the encoding (w, h, d, features) of the centres of a grid of tokens.

    Args:
        grid: number of tokens w, h, d along each axis.
        features: number of features, split equally between the three axes; remaining ones are zero.
        stride: patches per token along an axis, so that all levels use the same coordinates.
        like: a tensor with the dtype and device of the result.
    """
    share = features // 6 * 2
    parts = []
    for axis, size in enumerate(grid):
        centre = (torch.arange(size, device=like.device) + 0.5) * stride
        shape = [size if other == axis else 1 for other in range(3)]
        parts.append(sinusoids(centre, share, SPACE_WAVELENGTHS).view(*shape, share).expand(*grid, share))
    encoding = SPACE_AMPLITUDE * torch.cat(parts, dim=-1)
    return nn.functional.pad(encoding, (0, features - 3 * share)).to(like.dtype)


class TimeEncoding(nn.Module):
    """Encoding of the gap from a visit to the target, in typical gaps between visits, (...) -> (..., features).

    Only gaps are encoded, so a constant shift of all times changes nothing, and visits need not be equally spaced. The
    gap is positive for earlier visits, negative for later ones and 0 for the target itself.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.mlp = Mlp(features, out_features=features, act_layer=nn.SiLU)

    def forward(self, gap: Tensor) -> Tensor:
        return self.mlp(sinusoids(gap, self.features, TIME_WAVELENGTHS).to(self.mlp.fc1.weight.dtype))
