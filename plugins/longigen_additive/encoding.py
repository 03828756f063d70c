"""Encodings of numbers as feature vectors: time intervals, and covariates that may be missing."""

import math

import torch
from torch import Tensor, nn

WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest wavelength of the sinusoids, in typical gaps between visits, or in a covariate's own unit."""

SINUSOIDS = 16
"""Number of wavelengths, in geometric progression; each has a sine and a cosine."""

HIDDEN = 64
"""Width of the hidden layer of the perceptron."""


class NumberEncoding(nn.Module):
    """Encoding of several numbers as one vector: sinusoids, then a two-layer perceptron; (B, count) -> (B, features).

    The sinusoids of a missing number are zero, unlike those of any number.
    """

    def __init__(self, count: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(count * 2 * SINUSOIDS, HIDDEN)
        self.output = nn.Linear(HIDDEN, features)

    def forward(self, numbers: Tensor, present: Tensor) -> Tensor:
        shortest, longest = WAVELENGTHS
        step = torch.arange(SINUSOIDS, device=numbers.device, dtype=torch.float32) / (SINUSOIDS - 1)
        # Missing numbers may have any value, and NaN times zero is NaN.
        numbers = torch.where(present, numbers, 0.0).float()[..., None]
        angle = numbers * (2 * math.pi / shortest) * (shortest / longest) ** step
        sinusoids = torch.cat([angle.sin(), angle.cos()], dim=-1) * present[..., None]
        hidden = self.hidden(sinusoids.flatten(1).to(self.hidden.weight.dtype))
        return self.output(nn.functional.silu(hidden))


class CovariateEncoding(nn.Module):
    """Encoding of a covariate and the time since it was recorded as one vector, which is learned for missing ones.

    - `value` and `ago` (B,), the latter in typical gaps between visits; `present` (B,), bool. The result is
      (B, features). The time since recording lets the model extrapolate values that change with time, such as age.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.known = NumberEncoding(2, features)
        self.missing = nn.Parameter(0.1 * torch.randn(features))

    def forward(self, value: Tensor, ago: Tensor, present: Tensor) -> Tensor:
        known = self.known(torch.stack([value, ago], dim=1), present[:, None].expand(-1, 2))
        return torch.where(present[:, None], known, self.missing.to(known.dtype))
