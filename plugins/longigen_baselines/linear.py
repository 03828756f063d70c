"""The linear baseline: extrapolation of each voxel in time."""

import torch
from torch import Tensor

from longigen import Conditioner, Conditioning, Routes, VisitSequence


class LinearConditioner(Conditioner):
    """Linear extrapolation of each voxel to the target's time, as `concat` of C channels. It has no parameters.

    The line is the least-squares fit to all observed visits before the target, at their real times: with t̄ and x̄ the
    means over those visits,

        x̂(T) = x̄ + (T - t̄) Σ (t - t̄) x / Σ (t - t̄)².

    With one visit x̂ is that visit, like copy-last; with two it is the line through both. A constant voxel is predicted
    exactly. The fit uses given visits only, also in generation: a generated visit was itself extrapolated from earlier
    ones and adds no information. The line may leave [-1, 1]; the model clips what it generates. With the `identity`
    denoiser, the `regression` sampler and ``target=image`` it is the linear baseline.
    """

    used_covariates = ()

    autoregressive = False

    def build(self, *, channels: int, stem_features: int, time_scale: float, covariates: tuple[str, ...]) -> None:
        self.routes = Routes(concat=channels)
        self.time_scale = time_scale

    def forward(self, history: VisitSequence, target_time: Tensor) -> Conditioning:
        """Return the conditioning for a visit at `target_time` (B,).

        Raises:
            ValueError: if a subject has no observed visit before its time.
        """
        last, _ = history.last(target_time)
        used = history.channel_mask & history.before(target_time)[:, :, None]
        weights = torch.stack([line_weights(history.times, each, target_time) for each in used.unbind(dim=2)], dim=2)
        weights = weights.to(history.images.dtype)[:, :, :, None, None, None]
        # Equal to the weighted sum of the images, as the weights sum to 1. Not einsum, which autocast runs in half
        # precision.
        return Conditioning(concat=last + (weights * (history.images - last[:, None])).sum(dim=1))


def line_weights(times: Tensor, used: Tensor, target_time: Tensor) -> Tensor:
    """Return the weight (B, L) of each visit in x̂(T), which is linear in the images. A subject's weights sum to 1.

    Args:
        times: times of the visits (B, L); unused visits may have any time.
        used: visits that the line is fitted to (B, L), bool; without one, all weights are 0.
        target_time: T (B,).
    """
    # In double precision, as an extrapolation far beyond closely spaced visits amplifies rounding errors.
    count = used.sum(dim=1, keepdim=True).double().clamp(min=1)
    mean = torch.where(used, times, 0.0).double().sum(dim=1, keepdim=True) / count
    offset = torch.where(used, times.double() - mean, 0.0)
    spread = offset.square().sum(dim=1, keepdim=True)
    slope = torch.where(spread > 0, offset / spread.where(spread > 0, 1.0), 0.0)
    return used / count + (target_time.double()[:, None] - mean) * slope
