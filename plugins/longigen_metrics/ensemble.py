"""Ensemble metrics: whether the spread of several samples matches the error of the forecast (calibration)."""

import math

import torch
from torch import Tensor

from longigen import Metric, SetMetric


class CRPS(Metric):
    """Continuous ranked probability score (CRPS) in model intensities, averaged over the voxels of the foreground.

    For samples x_1 … x_K of a voxel with true value y it is the fair estimator of Ferro (QJRMS 2014),

        1/K Σ_i |x_i - y| - 1/(2 K (K - 1)) Σ_i Σ_j |x_i - x_j|

    Its expectation is the CRPS of the samples' distribution for any K, so more samples alone do not improve it. The
    CRPS of a single sample, a point forecast, is its mean absolute error. NaN without a foreground.
    """

    higher_is_better = False
    ensemble = True
    default = True

    @property
    def definition(self) -> str:
        return (
            "CRPS per voxel, mean inside the foreground, model intensities: mean |x_i - y| - sum_ij |x_i - x_j| / "
            "(2 K (K - 1)) (fair estimator, Ferro 2014); for one sample its mean absolute error"
        )

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        samples, truth = _inside(generated, true, foreground)
        if not truth.numel():
            return math.nan
        count = len(samples)
        score = (samples - truth).abs().mean(dim=0)
        if count > 1:
            # For sorted samples, Σ_i Σ_j |x_i - x_j| = 2 Σ_i (2 i - K - 1) x_(i), with i from 1.
            weights = 2 * torch.arange(1, count + 1, dtype=samples.dtype, device=samples.device) - count - 1
            score -= torch.tensordot(weights, samples.sort(dim=0).values, dims=1) / (count * (count - 1))
        return float(score.mean())


class Coverage(Metric):
    """The fraction of foreground voxels whose true value lies between the smallest and the largest sample (inclusive).

    If the true value is from the same distribution as the samples, all K + 1 ranks are equally likely, and two of them
    are outside. So the value of a calibrated model is (K - 1)/(K + 1), and that of an overconfident one is smaller. NaN
    for a single sample, and without a foreground.
    """

    higher_is_better = None
    ensemble = True
    default = True

    @property
    def definition(self) -> str:
        return "share of the foreground's voxels with min_i x_i <= y <= max_i x_i; (K - 1) / (K + 1) if calibrated"

    def ideal_value(self, samples: int) -> float | None:
        return (samples - 1) / (samples + 1)

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        samples, truth = _inside(generated, true, foreground)
        if len(samples) < 2 or not truth.numel():
            return math.nan
        return float(((samples.amin(dim=0) <= truth) & (truth <= samples.amax(dim=0))).double().mean())


class SpreadSkill(SetMetric):
    """Spread-skill ratio: the spread of the samples over the error of their mean, over all visits.

    √(mean of s² (K + 1)/K) / √(mean of (x̄ - y)²) (Fortin et al., J. Hydrometeorology 2014), where s² is the variance of
    K samples with divisor K - 1, and (K + 1)/K accounts for the error of their mean. It is 1 for a calibrated
    model and smaller for an overconfident one. Means are taken over the foreground of each visit and then over visits,
    before the ratio: errors are often correlated over an image, and the mean of ratios of single visits would then be
    far above 1 even for a calibrated model.
    """

    higher_is_better = None
    ensemble = True
    default = True

    @property
    def definition(self) -> str:
        return (
            "sqrt(mean of s^2 (K + 1) / K) / RMSE of the samples' mean, inside the foreground, means over voxels and "
            "then visits before the ratio (Fortin et al. 2014); 1 if calibrated"
        )

    def ideal_value(self, samples: int) -> float | None:
        return 1.0

    def visit_features(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> Tensor:
        """Return the mean of s² (K + 1)/K, which is NaN for one sample, and the mean squared error of the mean."""
        samples, truth = _inside(generated, true, foreground)
        count = len(samples)
        error = (samples.mean(dim=0) - truth).square().mean()
        spread = samples.var(dim=0).mean() if count > 1 and truth.numel() else error * math.nan
        return torch.stack([spread * (count + 1) / count, error])

    def compute(self, features: Tensor) -> float:
        spread, error = features[~features[:, 1].isnan()].mean(dim=0).tolist()  # NaN: a visit without a foreground
        return math.sqrt(spread / error) if error else math.nan


def _inside(generated: Tensor, true: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples (K, C, N) and the true values (C, N) inside the foreground, float64."""
    return generated[:, :, foreground].double(), true[:, foreground].double()
