"""Diffusion-guided deformation."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from longigen import Conditioning, Denoiser, Example, Range, Routes, doubled, flow, halved, warp
from longigen_baselines.gap import GapEmbedding
from longigen_baselines.network import UNet, Widths, beside, check_widths
from longigen_baselines.registration import local_correlation, roughness

EMBEDDING = 32
"""Width of the embeddings of the noise level and of the gap."""


class DiffuseMorph(Denoiser):
    """The last visit, warped along a smooth field that a diffusion network's estimate gives.

    After DiffuseMorph (Kim, Han, Ye, ECCV 2022, arXiv 2112.05149), the SADM paper's [12]. A diffusion network G makes
    its estimate (ε, x or v, as the sampler says) of a noisy follow-up, and a deformation network M makes of the source
    and that estimate the field that warps the source. Both are trained together (their Eq. 6-8): G's error, and
    `weight` times the sum of -NCC, the local squared correlation of warped source and follow-up in windows of 9³
    voxels, and of the mean squared gradient of the field. The constant 1 is added to -NCC. Their published code has
    `weight` 20.

    What is different here, and why:

    - Theirs registers two images that are there: G sees source and target, and at inference is asked once, at t = 0,
      with the target itself. Here the target is what is wanted: G sees the source and what the conditioner says, and
      the sampler walks from noise, the warped source being the prediction x̂ of each step.
    - Their frames in between come from scaling G's estimate by η in [0, 1] from source to target. Here it is the field
      that is scaled, by the real time: M gives a stationary velocity per typical gap between visits, and the
      displacement is its flow over the gap asked for (scaling and squaring). Half of the time is so half of the way
      along the same paths, no time is the source itself, and there is no fold at any time; of a scaled estimate
      nothing of this can be said. M is told the gap as well, since the estimate shows a change and not its rate.
    - M and the velocity are on a grid of half the resolution, an eighth of the work; the flow is smooth at that.

    Args:
        widths: channels of the levels of both networks, the finest first.
        weight: of -NCC and of the field's roughness; G's error has 1.
        scale_input: let the noisy volume in as α z_t. Where there is hardly any signal nothing is then left of it; for
            samplers that predict x or v.

    Raises:
        LongigenError: for widths that cannot be.
    """

    predicts = "image"
    needs_base = True

    def __init__(
        self,
        *,
        widths: Widths = (8, 16, 32, 64),
        weight: Annotated[float, Range(above=0)] = 20.0,
        scale_input: bool = False,
    ) -> None:
        super().__init__()
        check_widths("diffusemorph", widths)
        self.widths, self.weight, self.scale_input = widths, weight, scale_input

    @property
    def stem_features(self) -> int:
        return self.widths[0]

    def build(self, *, channels: int, routes: Routes) -> None:
        self.level, self.gap = GapEmbedding(1, EMBEDDING), GapEmbedding(1, EMBEDDING)
        self.diffusion = UNet(
            2 * channels + routes.concat,
            channels,
            self.widths,
            vector=EMBEDDING + routes.embedding,
            tokens=routes.tokens,
        )
        self.deformation = UNet(2 * channels, 3, self.widths, vector=EMBEDDING, tokens=0)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        velocity = self.velocity(self.estimate(z_t, log_snr, conditioning), conditioning)
        return self.moved(velocity, conditioning).to(z_t.dtype)

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        given = example.conditioning
        z_t, log_snr, target = example.sampler.corrupt(example.x, example.generator)
        estimate = self.estimate(z_t, log_snr, given)
        velocity = self.velocity(estimate, given)
        likeness = local_correlation(self.moved(velocity, given), example.image)
        return {
            "denoising": example.sampler.loss(estimate, target, log_snr),
            "similarity": self.weight * (1 - likeness),
            "roughness": self.weight * roughness(velocity),
        }

    def estimate(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        """Return G's estimate, of the shape of `z_t`."""
        if self.scale_input:
            z_t = z_t * torch.sigmoid(log_snr).sqrt().view(-1, 1, 1, 1, 1)
        # The cosine schedule's time, which squashes any λ into [0, 1] (Ho and Salimans 2022, Section 4); 100 of it is
        # the range that the embedding of gaps was made for.
        time = torch.atan(torch.exp(-0.5 * log_snr.float())) * (200.0 / math.pi)
        level = self.level(time[:, None], torch.ones_like(time[:, None], dtype=torch.bool))
        vector = torch.cat([level, *([] if conditioning.embedding is None else [conditioning.embedding])], dim=1)
        return self.diffusion(beside(conditioning, z_t), vector, stem=conditioning.stem, tokens=conditioning.tokens)

    def velocity(self, estimate: Tensor, conditioning: Conditioning) -> Tensor:
        """Return M's velocity (B, 3, W/2, H/2, D/2), in that grid's voxels per typical gap."""
        assert conditioning.base is not None
        assert conditioning.gap is not None
        gap = conditioning.gap[:, None]
        volume = halved(torch.cat([conditioning.base, estimate.to(conditioning.base.dtype)], dim=1))
        return self.deformation(volume, self.gap(gap, torch.ones_like(gap, dtype=torch.bool))).float()

    @staticmethod
    def moved(velocity: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the last visit after its gap along a velocity."""
        assert conditioning.base is not None
        assert conditioning.gap is not None
        displacement = flow(conditioning.gap.view(-1, 1, 1, 1, 1) * velocity)
        return warp(conditioning.base, doubled(displacement, conditioning.base.shape[2:]))
