"""Embedding of the time gap from a visit to the target."""

import math

import torch
from torch import Tensor, nn

WAVELENGTHS = (2.0, 256.0)
"""Shortest and longest wavelength of the sinusoids, in typical gaps between visits."""


class GapEmbedding(nn.Module):
    """Embedding of the gaps from several visits to the target: sinusoids, then a two-layer perceptron.

    - `gap` (B, frames) is measured in typical gaps between visits; `present` (B, frames), bool, is False for padding.
      The sinusoids of padding are zero, unlike those of any gap. The result is (B, features).
    """

    def __init__(self, frames: int, features: int) -> None:
        super().__init__()
        self.sinusoids = features // 2
        self.hidden = nn.Linear(frames * 2 * self.sinusoids, features)
        self.output = nn.Linear(features, features)

    def forward(self, gap: Tensor, present: Tensor) -> Tensor:
        shortest, longest = WAVELENGTHS
        step = torch.arange(self.sinusoids, device=gap.device, dtype=torch.float32) / max(self.sinusoids - 1, 1)
        frequency = (2 * math.pi / shortest) * (shortest / longest) ** step
        # The gaps of padding may have any value, and NaN times zero is NaN.
        angle = torch.where(present, gap, 0.0).float()[..., None] * frequency
        features = torch.cat([angle.sin(), angle.cos()], dim=-1) * present[..., None]
        hidden = self.hidden(features.flatten(1).to(self.hidden.weight.dtype))
        return self.output(nn.functional.silu(hidden))
