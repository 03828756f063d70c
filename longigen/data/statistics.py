"""What a model must know of the data it is trained on."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from longigen.components.base import Settings
from longigen.components.ranges import Channels, Range, Scale


@dataclass(frozen=True, kw_only=True)
class Statistics(Settings):
    """What a model must know of the data it was trained on.

    Args:
        channels: C of the volumes.
        residual_std: standard deviation of follow-up minus last visit over the training set, in model intensities.
        residual_noise_std: s in the model of the residual's variance at a gap Δ, s² + (p Δ)²: what is there without any
            time between, such as noise.
        residual_std_per_gap: p in it, per typical gap.
        time_scale: the typical gap between visits, in `time_unit`.
        time_unit: the unit of all times.
        covariates: names of the covariates that histories carry.

    Raises:
        LongigenError: for a value that is not allowed.
    """

    channels: Channels = 1
    residual_std: Scale = 1.0
    residual_noise_std: Annotated[float, Range(0)] = 1.0
    residual_std_per_gap: Annotated[float, Range(0)] = 0.0
    time_scale: Scale = 1.0
    time_unit: str = "years"
    covariates: tuple[str, ...] = ()


def growth(gaps: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """Return s and p of s² + (p Δ)², fitted to mean squared residuals by their relative error."""
    from scipy.optimize import nnls

    weights = 1 / np.maximum(squares, 1e-3 * squares.mean())
    columns = np.stack([np.ones_like(gaps), gaps**2], axis=1)
    found, _ = nnls(columns * weights[:, None], squares * weights)
    return float(np.sqrt(found[0])), float(np.sqrt(found[1]))
