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
    since a missing image could not be distinguished from an empty one otherwise. `embedding` encodes the gaps of all
    these visits, missing ones too.

    Args:
        frames: number of visits; older ones are ignored.
        embedding: E, the width of the embedding.
        rates: factor of additional channels with the rate of change of each frame towards the last one, per typical gap
            (`VisitSequence.rates`); 0 for no such channels.
    """

    def __init__(
        self,
        *,
        frames: Annotated[int, Range(1)] = 4,
        embedding: Annotated[int, Range(2)] = 64,
        rates: Annotated[float, Range(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.frames, self.features, self.rates = frames, embedding, rates

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=self.frames * (channels * (2 if self.rates else 1) + 1), embedding=self.features)
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
        gap = (target_time[:, None] - latest.times) / self.time_scale
        return Conditioning(
            concat=torch.cat([images, observed.to(images.dtype)], dim=1), embedding=self.gap(gap, latest.valid)
        )
