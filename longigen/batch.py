"""A batch of training pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from longigen.visits import VisitSequence


@dataclass(frozen=True)
class Batch:
    """Histories and what came after: `history`, the `target` visit (B, C, W, H, D) and its `target_time` (B,)."""

    history: VisitSequence
    target: Tensor
    target_time: Tensor

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.history.to(device), self.target.to(device), self.target_time.to(device))

    @classmethod
    def collate(cls, batches: Sequence[Self]) -> Self:
        """Return one batch of several; histories may differ in length."""
        return cls(
            VisitSequence.collate([batch.history for batch in batches]),
            torch.cat([batch.target for batch in batches]),
            torch.cat([batch.target_time for batch in batches]),
        )
