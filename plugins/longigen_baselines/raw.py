"""The raw conditioner: the images of the latest visits as channels."""

from typing import Annotated

import torch
from torch import Tensor

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence
from longigen_baselines.gap import GapEmbedding


class RawConditioner(Conditioner):
    """The images of the latest visits as channels, and their gaps to the target as an embedding.

    It is the ablation "without attention" of SADM (Yoon et al., IPMI 2023, arXiv 2212.08228). `concat` holds the images
    of the latest `frames` visits before the target, in order of time, with background for missing ones; with `rates`
    each is followed by its rate of change. One more channel per frame is 1 if the frame was observed and 0 if not,
    since a missing image could not be distinguished from an empty one otherwise. With `trend` the rate of change on a
    line through the frames follows, and the movement that would explain it. `embedding` encodes the gaps of all these
    visits, missing ones too.

    Args:
        frames: number of visits; older ones are ignored.
        embedding: E, the width of the embedding.
        rates: factor of additional channels with the rate of change of each frame towards the last one, per typical gap
            (`VisitSequence.rates`); 0 for no such channels.
        trend: factor of C + 3 additional channels; 0 for none. The first are the rate of change per typical gap, on the
            least-squares line through the last frame and all others. The others are the displacement u in voxels, per
            typical gap, by which the last frame x would change so: r ∇x / (|∇x|² + r²), with r the rate (the force of
            Thirion's demons, Medical Image Analysis 1998). Both are 0 if there is one frame.
    """

    used_covariates = ()

    def __init__(
        self,
        *,
        frames: Annotated[int, Range(1)] = 4,
        embedding: Annotated[int, Range(2)] = 64,
        rates: Annotated[float, Range(0)] = 0.0,
        trend: Annotated[float, Range(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.frames, self.features, self.rates, self.trend = frames, embedding, rates, trend

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        concat = self.frames * (channels * (2 if self.rates else 1) + 1) + (channels + 3 if self.trend else 0)
        self.routes = Routes(concat=concat, embedding=self.features)
        self.time_scale = time_scale
        self.gap = GapEmbedding(self.frames, self.features)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        latest = history.latest(self.frames, target_time)
        images = latest.images
        if self.rates:
            change = self.rates * self.time_scale * latest.rates(target_time)
            images = torch.cat([images, change.to(images.dtype)], dim=2)
        images = images.flatten(1, 2)
        observed = latest.observed[:, :, None, None, None].expand(-1, -1, *images.shape[2:])
        channels = [images, observed.to(images.dtype)]
        if self.trend:
            rate = self.time_scale * slope(latest, target_time)
            last, _ = history.last(target_time)
            moved = torch.cat([rate, explaining_displacement(last, rate)], dim=1)
            channels.append(self.trend * moved.to(images.dtype))
        gap = (target_time[:, None] - latest.times) / self.time_scale
        return Conditioning(concat=torch.cat(channels, dim=1), embedding=self.gap(gap, latest.valid))


def slope(visits: VisitSequence, before: Tensor) -> Tensor:
    """Return the rate of change (B, C, W, H, D) per unit of time, on a line through the last visit before a time (B,).

    With d the time from each visit to the last one, and r its rate of change towards it, the least-squares slope is
    Σ d² r / Σ d², over the visits that have the channel. It is 0 if there is one.
    """
    used = visits.channel_mask & visits.before(before)[:, :, None]
    times = torch.where(used, visits.times[:, :, None], -torch.inf)
    last = times.amax(dim=1, keepdim=True)
    squared = torch.where(times.isfinite(), (last - times).double(), 0.0).square()
    total = squared.sum(dim=1, keepdim=True)
    weights = (squared / torch.where(total > 0, total, 1.0)).to(visits.images.dtype)
    return (weights[:, :, :, None, None, None] * visits.rates(before)).sum(dim=1)


def explaining_displacement(image: Tensor, change: Tensor) -> Tensor:
    """Return the displacement (B, 3, W, H, D), in voxels, by which sampling an image would give a change of it.

    It is Σ_c r_c ∇x_c / (Σ_c |∇x_c|² + Σ_c r_c²), which is at most half a voxel, and 0 where nothing changes.
    """
    gradients = torch.stack(
        [
            torch.gradient(image, dim=axis)[0] if image.shape[axis] > 1 else torch.zeros_like(image)
            for axis in (2, 3, 4)
        ],
        dim=1,
    )  # (B, 3, C, W, H, D)
    strength = gradients.square().sum(dim=(1, 2)) + change.square().sum(dim=1)
    force = (change[:, None] * gradients).sum(dim=2)
    return force / strength.clamp(min=torch.finfo(torch.float16).tiny)[:, None]
