"""Where and when a token is: encodings over space and over real time."""

import math

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn

SPACE_WAVELENGTHS = (4.0, 256.0)
"""Shortest and longest, in patches: twice Nyquist's limit, and longer than any grid that attention can afford."""

SPACE_AMPLITUDE = 0.1
"""Small, since the residual stream carries it to the output, where at full size it drowns the anatomy at the start."""

TIME_WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest, in typical gaps between visits."""


def sinusoids(x: Tensor, features: int, wavelengths: tuple[float, float]) -> Tensor:
    """Return sine and cosine of `x` (...) at `features` // 2 wavelengths in geometric progression, (..., features).

    An odd feature is zero. Of sine and cosine one is never small, so no position is encoded as zero.
    """
    number = features // 2
    shortest, longest = wavelengths
    step = torch.arange(number, device=x.device, dtype=torch.float32) / max(number - 1, 1)
    angle = x.float()[..., None] * (2 * math.pi / shortest) * (shortest / longest) ** step
    return nn.functional.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, features - 2 * number))


def space_encoding(grid: tuple[int, int, int], features: int, stride: int, like: Tensor) -> Tensor:
    """Return the encoding (w, h, d, features) of the centres of a grid of tokens, with dtype and device of `like`.

    Args:
        grid: w, h, d.
        features: shared equally by the three axes; what is left over is zero.
        stride: patches along an axis that one token spans, so that all levels share one coordinate.
        like: a tensor that names the dtype and the device.
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
    """The gap from a visit to the target, in typical gaps between visits, (...) -> (..., features).

    Only the gap enters, so shifting all times by a constant changes nothing, and visits need not be equally spaced.
    Earlier visits have a positive gap, later ones a negative one, the target itself 0.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.mlp = Mlp(features, out_features=features, act_layer=nn.SiLU)

    def forward(self, gap: Tensor) -> Tensor:
        return self.mlp(sinusoids(gap, self.features, TIME_WAVELENGTHS).to(self.mlp.fc1.weight.dtype))
