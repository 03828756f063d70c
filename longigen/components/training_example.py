"""The input of the denoiser's losses: a conditioned training batch, and the residual or image that is diffused."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longigen.components.conditioning import Conditioning
from longigen.components.sampler import Sampler


@dataclass(frozen=True)
class DiffusionTarget:
    """Converts between the follow-up image and the diffused variable x: the image itself or its scaled residual.

    Attributes:
        base: the last visit (B, C, W, H, D); None if the image itself is diffused.
        scale: divisor of the residual image - base, in model intensities: a number, or (B, C, 1, 1, 1), where B and C
            may be 1.
        start: the last visit as x (B, C, W, H, D), for a process that starts there; None if it starts from noise.

    With several `Sampler.contexts`, C stands for the channels of all of them.
    """

    base: Tensor | None = None
    scale: float | Tensor = 1.0
    start: Tensor | None = None

    def encode(self, image: Tensor) -> Tensor:
        """Return x for an image (B, C, W, H, D) in [-1, 1], or for a constant intensity."""
        return image if self.base is None else (image - self.base) / self.scale

    def decode(self, x: Tensor) -> Tensor:
        """Return the image for a value of x (B, C, W, H, D)."""
        return x if self.base is None else self.base + self.scale * x


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training batch after conditioning and condition dropout, passed to `Denoiser.losses`.

    Attributes:
        image: the follow-up image (B, C, W, H, D) in [-1, 1].
        conditioning: the conditioner's output for the history and the follow-up's time.
        sampler: the model's sampler, which corrupts x and computes the loss of a prediction.
        generator: the random generator for everything that the losses draw.
        diffusion_target: converts an image to x and back.
        counted: which channels of the image count in the losses (B, C), bool; the others have no image at the follow-up
            or at no visit before it, and hold the last visit's. None if all count.
    """

    image: Tensor
    conditioning: Conditioning
    sampler: Sampler
    generator: torch.Generator
    diffusion_target: DiffusionTarget
    counted: Tensor | None = None

    def counting(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return a prediction (B, C, W, H, D) that equals its target in the channels that do not count.

        So a distance of the two is 0 there, and has no gradient.
        """
        if self.counted is None:
            return prediction
        return torch.where(self.counted[:, :, None, None, None], prediction, target.to(prediction.dtype))

    @property
    def x(self) -> Tensor:
        """The clean diffused variable (B, C, W, H, D): the follow-up image or its scaled residual."""
        return self.diffusion_target.encode(self.image)
