"""Statistics of the training data that a model needs: channels, time scale, and the variance of the residual."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from longigen.components.base import Settings
from longigen.components.ranges import Channels, Range, Scale
from longigen.errors import LongigenError


@dataclass(frozen=True, kw_only=True)
class Statistics(Settings):
    """Statistics of a model's training data, stored in its config.json.

    The variance of the residual, follow-up minus last visit, at a time gap Δ is modelled as s² + (p Δ)².

    Args:
        channels: C of the volumes.
        channel_names: the names of the channels, such as T1w and FLAIR; none for visits of one image.
        residual_std: standard deviation of the residual over the training set, in model intensities.
        residual_noise_std: s, the standard deviation at a gap of 0, such as that of image noise.
        residual_std_per_gap: p, the increase of the standard deviation per typical gap.
        time_scale: the typical gap between visits, in `time_unit`.
        time_unit: the unit of all times, one of `TIME_UNITS`.
        covariates: names of the covariates in the histories.
        channel_stds: `residual_std` of each channel by itself; none for one channel, and for a code, in which channels
            are mixed.
        channel_noise_stds: the same for `residual_noise_std`.
        channel_stds_per_gap: the same for `residual_std_per_gap`.

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
    channel_names: tuple[str, ...] = ()
    channel_stds: tuple[Scale, ...] = ()
    channel_noise_stds: tuple[Annotated[float, Range(0)], ...] = ()
    channel_stds_per_gap: tuple[Annotated[float, Range(0)], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel_names and len(self.channel_names) != self.channels:
            raise LongigenError(
                f"The statistics name the channels {', '.join(self.channel_names)} and count {self.channels}; correct "
                "one of the two."
            )
        counts = {len(each) for each in (self.channel_stds, self.channel_noise_stds, self.channel_stds_per_gap)}
        if counts not in ({0}, {self.channels}):
            raise LongigenError(
                "The statistics need channel_stds, channel_noise_stds and channel_stds_per_gap for each of "
                f"{self.channels} channels, or none of them; correct them."
            )

    @property
    def record(self) -> dict[str, Any]:
        """The values for ``config.json``; those of single channels only where there are several."""
        optional = ("channel_names", "channel_stds", "channel_noise_stds", "channel_stds_per_gap")
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


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
