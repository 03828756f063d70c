"""An example: what a denoiser is trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longigen.conditioning import Conditioning
from longigen.diffused import Diffused
from longigen.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class Example:
    """A batch as a denoiser's losses see it: conditions dropped, history encoded.

    Attributes:
        image: the follow-up (B, C, W, H, D) in [-1, 1].
        conditioning: what the conditioner said of the history and the follow-up's time.
        sampler: the model's, which corrupts x and measures the error of a prediction.
        generator: of everything that the losses draw.
        diffused: how x follows from an image.
    """

    image: Tensor
    conditioning: Conditioning
    sampler: Sampler
    generator: torch.Generator
    diffused: Diffused

    @property
    def x(self) -> Tensor:
        """The clean variable that is diffused (B, C, W, H, D): the follow-up image or its scaled residual."""
        return self.diffused.of(self.image)
