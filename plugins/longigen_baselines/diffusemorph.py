"""The DiffuseMorph baseline: a deformation of the last visit, guided by a diffusion network."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from longigen import Conditioning, Denoiser, Example, Moved, Range, Routes, doubled, flow, halved, warp
from longigen_baselines.gap import GapEmbedding
from longigen_baselines.network import UNet, Widths, check_widths, concatenate
from longigen_baselines.registration import local_correlation, roughness

EMBEDDING = 32
"""Width of the embeddings of the noise level and of the gap."""


class DiffuseMorph(Denoiser):
    """Warp the last visit along a smooth deformation field that is computed from a diffusion network's estimate.

    After DiffuseMorph (Kim, Han, Ye, ECCV 2022, arXiv 2112.05149), reference [12] of the SADM paper. A diffusion
    network G estimates ε, x or v of a noisy follow-up (the sampler's prediction type). A deformation network M computes
    from the source image and that estimate the field that warps the source. Both are trained together (their Eq. 6-8).
    The loss is G's denoising error plus `weight` times the sum of two terms: the negative NCC, that is the local
    squared correlation of warped source and follow-up in windows of 9³ voxels, and the mean squared gradient of the
    field. A constant 1 is added to the negative NCC. The published code uses a `weight` of 20.

    Differences from the paper:

    - DiffuseMorph registers two given images: G sees source and target, and inference is one evaluation at t = 0 with
      the target itself. Here the target is unknown: G sees the source and the conditioning, and samples are drawn by
      the reverse process, in which the warped source is the prediction x̂ of each step.
    - DiffuseMorph generates frames between the two images by scaling G's estimate by η in [0, 1]. Here the field is
      scaled by the real time: M predicts a stationary velocity per typical gap between visits, and the displacement is
      its flow over the requested gap (scaling and squaring). So half the time is half the way along the same path, a
      gap of zero is the source itself, and the deformation does not fold; a scaled estimate guarantees none of these.
      M also gets the gap as input, since the estimate shows the change and not its rate.
    - M and the velocity use a grid of half the resolution, which is an eighth of the work for a smooth field.

    Args:
        widths: channels of the levels of both networks, the finest first.
        weight: weight of the negative NCC and of the field's roughness; the denoising error has weight 1.
        scale_input: multiply z_t by α, so that at high noise the network relies on the conditioning. For samplers that
            predict x or v.

    Raises:
        LongigenError: if the widths are invalid.
    """

    predicts = "image"
    needs_base = True
    moves = True

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
        base, _ = conditioning.require_base()
        return self.moved(z_t, log_snr, conditioning).image(base)

    def moved(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Moved:
        velocity = self.velocity(self.estimate(z_t, log_snr, conditioning), conditioning)
        return Moved(self.displacement(velocity, conditioning), torch.zeros_like(z_t))

    def losses(self, example: Example) -> Mapping[str, Tensor]:
        conditioning = example.conditioning
        z_t, log_snr, target = example.sampler.corrupt(example.x, example.generator)
        estimate = self.estimate(z_t, log_snr, conditioning)
        velocity = self.velocity(estimate, conditioning)
        base, _ = conditioning.require_base()
        moved = example.counting(warp(base, self.displacement(velocity, conditioning)), example.image)
        correlation = local_correlation(moved, example.image)
        return {
            "denoising": example.sampler.loss(example.counting(estimate, target), target, log_snr),
            "similarity": self.weight * (1 - correlation),
            "roughness": self.weight * roughness(velocity),
        }

    def estimate(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        """Return G's estimate, of the shape of `z_t`."""
        if self.scale_input:
            z_t = z_t * torch.sigmoid(log_snr).sqrt().view(-1, 1, 1, 1, 1)
        # The time of the cosine schedule maps any λ into [0, 1] (Ho and Salimans 2022, Section 4). The embedding of
        # gaps is designed for values up to 100.
        time = torch.atan(torch.exp(-0.5 * log_snr.float())) * (200.0 / math.pi)
        level = self.level(time[:, None], torch.ones_like(time[:, None], dtype=torch.bool))
        embedding = conditioning.embedding_at(log_snr)
        vector = level if embedding is None else torch.cat([level, embedding], dim=1)
        volume = concatenate(conditioning, z_t)
        return self.diffusion(volume, vector, stem=conditioning.stem, tokens=conditioning.tokens)

    def velocity(self, estimate: Tensor, conditioning: Conditioning) -> Tensor:
        """Return M's velocity (B, 3, W/2, H/2, D/2), in voxels of that grid per typical gap."""
        base, gap = conditioning.require_base()
        gap = gap[:, None]
        volume = halved(torch.cat([base, estimate.to(base.dtype)], dim=1))
        return self.deformation(volume, self.gap(gap, torch.ones_like(gap, dtype=torch.bool))).float()

    @staticmethod
    def displacement(velocity: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the displacement (B, 3, W, H, D) of the flow of a velocity over the gap to the target."""
        base, gap = conditioning.require_base()
        return doubled(flow(gap.view(-1, 1, 1, 1, 1) * velocity), base.shape[2:])
