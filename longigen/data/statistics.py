"""Statistics of the training data that a model needs: channels, time scale, and the variance of the residual."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from longigen.components.base import Settings
from longigen.components.ranges import Channels, Range, Scale


@dataclass(frozen=True, kw_only=True)
class Statistics(Settings):
    """Statistics of a model's training data, stored in its config.json.

    The variance of the residual, follow-up minus last visit, at a time gap Δ is modelled as s² + (p Δ)².

    Args:
        channels: C of the volumes.
        residual_std: standard deviation of the residual over the training set, in model intensities.
        residual_noise_std: s, the standard deviation at a gap of 0, such as that of image noise.
        residual_std_per_gap: p, the increase of the standard deviation per typical gap.
        time_scale: the typical gap between visits, in `time_unit`.
        time_unit: the unit of all times, one of `TIME_UNITS`.
        covariates: names of the covariates in the histories.

    Raises:
        LongigenError: for an invalid value.
    """

    channels: Channels = 1
    residual_std: Scale = 1.0
    residual_noise_std: Annotated[float, Range(0)] = 1.0
    residual_std_per_gap: Annotated[float, Range(0)] = 0.0
    time_scale: Scale = 1.0
    time_unit: str = "years"
    covariates: tuple[str, ...] = ()


def fit_residual_variance(gaps: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """Fit s² + (p Δ)² to mean squared residuals; return s and p.

    Args:
        gaps: Δ (N,), in typical gaps between visits.
        squares: mean squared residual of each pair (N,); the fit minimises the relative squared error.
    """
    from scipy.optimize import nnls

    weights = 1 / np.maximum(squares, 1e-3 * squares.mean())
    columns = np.stack([np.ones_like(gaps), gaps**2], axis=1)
    coefficients, _ = nnls(columns * weights[:, None], squares * weights)
    return float(np.sqrt(coefficients[0])), float(np.sqrt(coefficients[1]))
