"""A generator against a discriminator of patches."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, Example, LongigenError, Range, Routes
from longigen_baselines.network import GROUP, UNet, Widths, beside, check_widths


class GAN(Denoiser):
    """A U-Net that makes the follow-up in one evaluation, against a discriminator that sees patches.

    The objective is that of pix2pix (Isola et al., CVPR 2017, arXiv 1611.07004, Eq. 4): an L1 distance to the true
    follow-up, in intensities of [-1, 1], times `l1`, and an adversarial loss. It is the kind of network that the SADM
    paper calls GAN in its Table 1 ([4], Yoon et al., IPMI 2023), whose own differs.

    - The discriminator is conditional, as pix2pix's: it sees the last visit beside what it is to tell real or not, the
      diffused variable (with the residual, the change alone, in units of its spread).
    - The adversarial loss is least squares (Mao et al., ICCV 2017, arXiv 1611.04076, Eq. 9, with targets 0 and 1),
      where pix2pix has cross-entropy: its gradient does not vanish where the discriminator is sure, and at this
      budget it soon is.
    - Nothing is drawn: pix2pix's dropout at generation is said there to change next to nothing. So it does not
      denoise, and goes with the `regression` sampler.

    Args:
        widths: channels of the generator's levels, at full resolution and each half of it.
        discriminator: channels of the discriminator's, each at half the resolution of the one before.
        l1: weight of the L1 distance; the adversarial loss has 1.

    Raises:
        LongigenError: for widths that cannot be.
    """

    denoises = False
    predicts = "x"
    needs_base = True

    def __init__(
        self,
        *,
        widths: Widths = (8, 16, 32, 64),
        discriminator: tuple[Annotated[int, Range(4)], ...] = (16, 32, 64),
        l1: Annotated[float, Range(0)] = 100.0,
    ) -> None:
        super().__init__()
        check_widths("gan", widths)
        if not discriminator or any(width % GROUP for width in discriminator):
            raise LongigenError(f"gan: discriminator must be multiples of {GROUP}, got {discriminator}; change it.")
        self.widths, self.discriminator, self.l1 = widths, discriminator, l1

    @property
    def stem_features(self) -> int:
        return self.widths[0]

    def build(self, *, channels: int, routes: Routes) -> None:
        self.generator = UNet(
            channels + routes.concat, channels, self.widths, vector=routes.embedding, tokens=routes.tokens
        )
        self.adversary = PatchDiscriminator(2 * channels, self.discriminator)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        volume = self.generator(
            beside(conditioning), conditioning.embedding, stem=conditioning.stem, tokens=conditioning.tokens
        )
        return volume.to(z_t.dtype)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        fake = self._generated(example)
        distance = (example.diffusion_target.decode(fake) - example.image).float().abs().flatten(1).mean(dim=1)
        return {"l1": self.l1 * distance, "adversarial": self._squares(fake, example, 1.0)}

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        with torch.no_grad():
            fake = self._generated(example)
        return {
            "real": 0.5 * self._squares(example.x, example, 1.0),
            "fake": 0.5 * self._squares(fake, example, 0.0),
        }

    def _generated(self, example: Example) -> Tensor:
        nothing = torch.zeros_like(example.image)
        return self(nothing, nothing.flatten(1)[:, 0], example.conditioning)

    def _squares(self, x: Tensor, example: Example, wanted: float) -> Tensor:
        """Return how far the discriminator's opinion of `x` is from the one that is wanted, (B,)."""
        assert self.adversary is not None
        assert example.conditioning.base is not None
        opinion = self.adversary(torch.cat([x, example.conditioning.base], dim=1))
        return (opinion.float() - wanted).square().flatten(1).mean(dim=1)


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 2 and one opinion for each place that is left (Isola et al. 2017, Section 3.2.2)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, widths[0], 3, stride=2, padding=1)
        self.down = nn.ModuleList(nn.Conv3d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(width // GROUP, width) for width in widths[1:])
        self.head = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, volume: Tensor) -> Tensor:
        x = functional.leaky_relu(self.stem(volume), 0.2)
        for convolution, norm in zip(self.down, self.norms, strict=True):
            x = functional.leaky_relu(norm(convolution(x)), 0.2)
        return self.head(x)
