"""What is diffused: the follow-up image, or its difference from the last visit."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Diffused:
    """The variable x that a model diffuses, by its relation to the follow-up image (B, C, W, H, D) in [-1, 1].

    Attributes:
        base: the last visit (B, C, W, H, D), or None where the image itself is diffused.
        scale: what the difference from it is divided by, in model intensities: one for all, or (B, 1, 1, 1, 1).
    """

    base: Tensor | None = None
    scale: float | Tensor = 1.0

    def of(self, image: Tensor) -> Tensor:
        """Return the x of an image, or of one intensity everywhere."""
        return image if self.base is None else (image - self.base) / self.scale

    def image(self, x: Tensor) -> Tensor:
        """Return the image of an x."""
        return x if self.base is None else self.base + self.scale * x
