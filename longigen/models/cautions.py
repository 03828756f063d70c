"""Warnings about subjects that a model is not made for: their times, covariates, and parts outside its grid."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from longigen.data.preprocess import Prepared
from longigen.utils.time_units import time_text

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel

MAX_OUTSIDE = 0.01
"""Largest fraction of a subject outside the model's grid without a warning."""
MAX_EXTRAPOLATION = 1.5
"""Largest time since the first visit without a warning, over the longest such time of the training data."""


def cautions(
    model: "LongitudinalModel", prepared: Prepared, times: Sequence[float], *, detail: bool
) -> Iterator[tuple[str, str]]:
    """Yield warnings about generating visits of a subject, each as its kind and one sentence.

    Args:
        model: the model.
        prepared: the subject, on the model's grid.
        times: the times to generate, ascending, in the model's time unit.
        detail: whether the last given visits' own voxels are kept; see `longigen.models.predict.Generated.volume`.
    """
    subject, unit = prepared.subject, model.statistics.time_unit
    _, longest = model.provenance.data.get("intervals", (0.0, math.inf))
    ahead = times[-1] - subject.times[0]
    if ahead > MAX_EXTRAPOLATION * longest:
        yield (
            "times",
            f"Time {time_text(times[-1])} is {ahead:g} {unit} after the first visit of subject {subject.id}, but the "
            f"model was trained on at most {longest:g} {unit}; the generated image is not reliable.",
        )
    given = {name for visit in subject.visits for name in visit.covariates}
    lacking = [name for name in model.statistics.covariates if name not in given]
    if lacking:
        yield (
            "covariates",
            f"Subject {subject.id} has no {' and no '.join(map(repr, lacking))}, which the model was trained with; it "
            "is taken as unknown.",
        )
    outside = prepared.lost_share()
    if outside > MAX_OUTSIDE:
        yield (
            "grid",
            f"{outside:.0%} of subject {subject.id} lies outside the model's grid of "
            f"{' × '.join(map(str, prepared.placement.shape))} voxels and "
            f"{'stays as in the last visit' if detail else 'is background'} in generated images; if its voxels are "
            "smaller than those of the training data, resample the scans.",
        )
