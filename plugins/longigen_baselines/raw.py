"""History frames as channels."""

from typing import Annotated

import torch
from torch import Tensor

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence
from longigen_baselines.gap import GapEmbedding


class RawConditioner(Conditioner):
    """The latest visits as they are, as channels, and their gaps to the target as an embedding.

    It is the ablation "without attention" of SADM (Yoon et al., IPMI 2023, arXiv 2212.08228). `concat` holds, in order
    of time, the images of the latest `frames` visits before the target, background where one is missing or there are
    fewer, each with its rate of change behind it if that is asked for, and then one channel per frame that is 1 where
    it was observed and 0 where not: a network could otherwise not tell a missing image from an empty one. `embedding`
    holds the gaps, of missing visits too.

    Args:
        frames: how many visits; older ones are not seen.
        embedding: E, the width of the embedding.
        rates: how strongly each frame's rate of change towards the last one, per typical gap, is a channel too
            (`VisitSequence.rates`); 0 for not at all.
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
