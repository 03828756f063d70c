"""Linear extrapolation in time as the prediction."""

import torch
from torch import Tensor

from longigen import Conditioner, Conditioning, Routes, VisitSequence


class LinearConditioner(Conditioner):
    """Each voxel's line through time at the target's time, as `concat` of C channels. It has no parameters.

    The line is that of least squares through all observed visits before the target, at their real times: with t̄ and x̄
    the means over those visits,

        x̂(T) = x̄ + (T - t̄) Σ (t - t̄) x / Σ (t - t̄)².

    With one visit there is no slope and x̂ is that visit, as copy-last has it; with two it is the line through both.
    A voxel that does not change is predicted exactly. In generation too the line is through what was given alone: a
    visit made on the way was extrapolated from earlier visits and would only pull the line towards those. Nothing is
    clipped here, where the line may leave [-1, 1]: the model clips what it generates. With the `identity` denoiser, the
    `regression` sampler and the image as target it is the linear baseline, made like any model.
    """

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
        weights = line_weights(history.times, history.observed & history.before(target_time), target_time)
        weights = weights.to(history.images.dtype)[:, :, None, None, None, None]
        # Weights sum to 1, so this is their sum over images. No einsum: autocast would run it in half precision.
        return Conditioning(concat=last + (weights * (history.images - last[:, None])).sum(dim=1))


def line_weights(times: Tensor, used: Tensor, target_time: Tensor) -> Tensor:
    """Return the weight (B, L) of each visit in x̂(T): x̂ is linear in the images. A subject's weights sum to 1.

    Args:
        times: (B, L); those of visits that are not used may be anything.
        used: (B, L), bool: the visits that the line is fitted to, at least one.
        target_time: T, (B,).
    """
    # In double precision: a line far beyond visits that lie close together multiplies the rounding of its weights.
    count = used.sum(dim=1, keepdim=True).double()
    mean = torch.where(used, times, 0.0).double().sum(dim=1, keepdim=True) / count
    offset = torch.where(used, times.double() - mean, 0.0)
    spread = offset.square().sum(dim=1, keepdim=True)
    slope = torch.where(spread > 0, offset / spread.where(spread > 0, 1.0), 0.0)
    return used / count + (target_time.double()[:, None] - mean) * slope
