"""The source conditioner: the last visit and its gap to the target."""

from typing import Annotated

import torch
from torch import Tensor

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence
from longigen_baselines.gap import GapEmbedding


class SourceConditioner(Conditioner):
    """The last observed visit before the target as channels, as in Med-DDPM, and its gap as an embedding.

    Args:
        embedding: E, the width of the embedding.
    """

    used_covariates = ()

    def __init__(self, *, embedding: Annotated[int, Range(2)] = 64) -> None:
        super().__init__()
        self.features = embedding

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels, embedding=self.features)
        self.time_scale = time_scale
        self.gap = GapEmbedding(1, self.features)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,).

        Raises:
            ValueError: if a subject has no observed visit before its time.
        """
        image, time = history.last(target_time)
        gap = ((target_time - time) / self.time_scale)[:, None]
        return Conditioning(concat=image, embedding=self.gap(gap, torch.ones_like(gap, dtype=torch.bool)))
