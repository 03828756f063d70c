"""What a denoiser is trained on: one training batch after conditioning, and the variable that is diffused."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longigen.components.conditioning import Conditioning
from longigen.components.sampler import Sampler


@dataclass(frozen=True)
class DiffusionTarget:
    """The variable x that a model diffuses, by its relation to the follow-up image (B, C, W, H, D) in [-1, 1].

    Attributes:
        base: the last visit (B, C, W, H, D), or None where the image itself is diffused.
        scale: what the difference from it is divided by, in model intensities: one for all, or (B, 1, 1, 1, 1).
    """

    base: Tensor | None = None
    scale: float | Tensor = 1.0

    def encode(self, image: Tensor) -> Tensor:
        """Return x for an image (B, C, W, H, D), or for one intensity everywhere."""
        return image if self.base is None else (image - self.base) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        """Return the image for an x."""
        return x if self.base is None else self.base + self.scale * x


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training batch after conditioning and the dropping of conditions, passed to `Denoiser.losses`.

    Attributes:
        image: the follow-up (B, C, W, H, D) in [-1, 1].
        conditioning: what the conditioner said of the history and the follow-up's time.
        sampler: the model's, which corrupts x and measures the error of a prediction.
        generator: of everything that the losses draw.
        diffusion_target: converts an image to x and back.
    """

    image: Tensor
    conditioning: Conditioning
    sampler: Sampler
    generator: torch.Generator
    diffusion_target: DiffusionTarget

    @property
    def x(self) -> Tensor:
        """The clean variable that is diffused (B, C, W, H, D): the follow-up image or its scaled residual."""
        return self.diffusion_target.encode(self.image)
