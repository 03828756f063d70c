"""The `cronos` conditioner: times alone, for processes that start from the visits themselves."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from longigen import Conditioner, Conditioning, Range, Routes, VisitSequence


class CronosConditioner(Conditioner):
    """The times of the last visits and of the target, and no image: the images are where processes start.

    For CRONOS and Temporal Flow Matching (Disch et al., arXiv 2512.16577 and 2508.21580), with the sampler `transport`
    from as many `contexts`. `embedding` is a two-layer perceptron of the gaps from the last `frames` observed visits to
    the target, in typical gaps, and of which of them exist.

    The paper gives the network the time on the way instead, (1 - τ) t_context + τ t_target, which at τ = 0 says nothing
    of the target; the released code masks it, so its network never sees a time. Here both can be had; by default the
    target's time is an input at all τ.

    On a regular grid, where the target is always the next visit, the gaps are always the same: that is Temporal Flow
    Matching, which needs no time.

    Args:
        frames: number of visits whose times are seen; the sampler's `contexts`.
        time: ``target`` for these gaps; ``way`` for the published model, read literally: the time on the way of each
            visit, in typical gaps since the first of them, and no time of the target; ``none`` for no time at all, as
            in the released code, and for a regular grid.
        embedding: E, the width of the embedding of gaps. The times on the way are the embedding themselves, which the
            denoiser projects.
    """

    used_covariates = ()

    def __init__(
        self,
        *,
        frames: Annotated[int, Range(1)] = 1,
        time: Literal["target", "way", "none"] = "target",
        embedding: Annotated[int, Range(2)] = 64,
    ) -> None:
        super().__init__()
        self.frames, self.time = frames, time
        self.features = {"target": embedding, "way": 2 * frames, "none": 0}[time]

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(embedding=self.features)
        self.time_scale = time_scale
        if self.time == "target":
            self.hidden = nn.Linear(2 * self.frames, self.features)
            self.output = nn.Linear(self.features, self.features)

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,)."""
        if self.time == "none":
            return Conditioning()
        latest = history.latest_observed(self.frames, target_time)
        # The times of padding may have any value, and NaN times zero is NaN.
        gap = torch.where(latest.valid, (target_time[:, None] - latest.times) / self.time_scale, 0.0)
        exists = latest.valid.to(gap.dtype)
        dtype = history.images.dtype
        if self.time == "way":
            # Times since the first of the visits, as differences of gaps to the target, which is not in them.
            start = (gap.amax(dim=1, keepdim=True) - gap) * exists
            drift = torch.cat([gap, torch.zeros_like(gap)], dim=1)
            return Conditioning(embedding=torch.cat([start, exists], dim=1).to(dtype), drift=drift.to(dtype))
        inputs = torch.cat([gap, exists], dim=1).to(self.hidden.weight.dtype)
        return Conditioning(embedding=self.output(nn.functional.silu(self.hidden(inputs))))
