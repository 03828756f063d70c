"""The GAN baseline: a U-Net generator and a patch discriminator."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from longigen import Conditioning, Denoiser, Example, LongigenError, Range, Routes
from longigen_baselines.network import GROUP, UNet, Widths, check_widths, concatenate


class GAN(Denoiser):
    """A U-Net that generates the follow-up in one evaluation, trained with a patch discriminator.

    The objective is that of pix2pix (Isola et al., CVPR 2017, arXiv 1611.07004, Eq. 4): `l1` times the L1 distance to
    the true follow-up, in intensities of [-1, 1], plus an adversarial loss. The SADM paper compares with such a network
    as "GAN" in its Table 1 ([4], Yoon et al., IPMI 2023), with another architecture.

    - The discriminator is conditional, as in pix2pix: its input is the last visit and the real or generated diffusion
      target (with a residual target, the scaled change).
    - The adversarial loss is least squares (Mao et al., ICCV 2017, arXiv 1611.04076, Eq. 9, with targets 0 and 1)
      instead of pix2pix's cross-entropy. Its gradient does not vanish when the discriminator is confident, which
      happens early with small training budgets.
    - Generation is deterministic: pix2pix draws by dropout, but reports that it has almost no effect. The network does
      not denoise, and is used with the `regression` sampler.

    Args:
        widths: channels of the generator's levels, at full resolution and each half of it.
        discriminator: channels of the discriminator's levels, each at half the resolution of the one before.
        l1: weight of the L1 distance; the adversarial loss has weight 1.

    Raises:
        LongigenError: if the widths are invalid.
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
        volume = concatenate(conditioning)
        x = self.generator(volume, conditioning.embedding, stem=conditioning.stem, tokens=conditioning.tokens)
        return x.to(z_t.dtype)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        fake = self._generate(example)
        distance = (example.diffusion_target.decode(fake) - example.image).float().abs().flatten(1).mean(dim=1)
        return {"l1": self.l1 * distance, "adversarial": self._least_squares(fake, example, 1.0)}

    def adversary_losses(self, example: Example) -> Mapping[str, Tensor]:
        with torch.no_grad():
            fake = self._generate(example)
        return {
            "real": 0.5 * self._least_squares(example.x, example, 1.0),
            "fake": 0.5 * self._least_squares(fake, example, 0.0),
        }

    def _generate(self, example: Example) -> Tensor:
        """Return the generated diffusion target; the noisy volume and the noise level are not used."""
        unused = torch.zeros_like(example.image)
        return example.counting(self(unused, unused.flatten(1)[:, 0], example.conditioning), example.x)

    def _least_squares(self, x: Tensor, example: Example, label: float) -> Tensor:
        """Return the mean squared distance (B,) of the discriminator's output for `x` to a label, 0 or 1."""
        if self.adversary is None:
            raise RuntimeError("the GAN has no discriminator before it is built")
        base, _ = example.conditioning.require_base()
        output = self.adversary(torch.cat([x, base], dim=1))
        return (output.float() - label).square().flatten(1).mean(dim=1)


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 2, with one output for each remaining position (Isola et al. 2017, Section 3.2.2)."""

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
