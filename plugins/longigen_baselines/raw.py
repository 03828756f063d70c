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
    since a missing image could not be distinguished from an empty one otherwise. With `extrapolate` the change until
    the target follows as C channels more. `embedding` encodes the gaps of all these visits, missing ones too.

    Args:
        frames: number of visits; older ones are ignored.
        embedding: E, the width of the embedding.
        rates: factor of additional channels with the rate of change of each frame towards the last one, per typical gap
            (`VisitSequence.rates`); 0 for no such channels.
        extrapolate: factor of the change from the last of the frames to the target, on the least-squares line through
            the last frame and all others; 0 for no such channels. It tells how fast this subject changes, in proportion
            to the time asked for.
    """

    def __init__(
        self,
        *,
        frames: Annotated[int, Range(1)] = 4,
        embedding: Annotated[int, Range(2)] = 64,
        rates: Annotated[float, Range(0)] = 0.0,
        extrapolate: Annotated[float, Range(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.frames, self.features, self.rates, self.extrapolate = frames, embedding, rates, extrapolate

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        concat = self.frames * (channels * (2 if self.rates else 1) + 1) + (channels if self.extrapolate else 0)
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
        if self.extrapolate:
            channels.append(self.extrapolate * change_to(latest, target_time).to(images.dtype))
        gap = (target_time[:, None] - latest.times) / self.time_scale
        return Conditioning(concat=torch.cat(channels, dim=1), embedding=self.gap(gap, latest.valid))


def change_to(visits: VisitSequence, target_time: Tensor) -> Tensor:
    """Return the change (B, C, W, H, D) from the last observed visit to a time (B,), on a line through that visit.

    With d the time from each visit to the last one, t_0, and r its rate of change towards it, the least-squares slope
    is Σ d² r / Σ d², and the change (T - t_0) Σ d² r / Σ d². It is 0 if there is one visit.
    """
    times = torch.where(visits.observed & visits.before(target_time), visits.times, -torch.inf)
    last = times.amax(dim=1, keepdim=True)
    squared = torch.where(times.isfinite(), (last - times).double(), 0.0).square()
    total = squared.sum(dim=1, keepdim=True)
    gap = torch.where(last.isfinite(), target_time[:, None] - last, 0.0)
    weights = (gap * squared / torch.where(total > 0, total, 1.0)).to(visits.images.dtype)
    return (weights[:, :, None, None, None, None] * visits.rates(target_time)).sum(dim=1)
