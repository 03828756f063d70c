"""Warnings about subjects that a model is not made for: other voxels, real scans, parts outside its grid, far times."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nibabel.affines import voxel_sizes

from longigen.data.cohort import listed
from longigen.data.preprocess import Prepared
from longigen.errors import LongigenError
from longigen.utils.parallel import in_parallel
from longigen.utils.time_units import time_text

if TYPE_CHECKING:
    from longigen.models.longitudinal import LongitudinalModel

MAX_OUTSIDE = 0.01
"""Largest fraction of a subject outside the model's grid without a warning."""
MAX_LOST = 0.05
"""Largest fraction of a subject outside the model's grid, beyond that of the training subjects, that is not refused."""
MAX_VOXEL_CHANGE = 0.25
"""How much smaller or larger than those of training a subject's own voxels may be without a warning, as a fraction."""
MAX_EXTRAPOLATION = 1.5
"""Largest time since the first visit without a warning, over the longest such time of the training data."""
MIN_GAP = 0.5
"""Shortest time since the visit before it without a warning, over the shortest such time of the training data."""


def data_cautions(
    model: "LongitudinalModel", subjects: Sequence[Prepared], *, simulated: bool | None, own: bool = False
) -> Iterator[str]:
    """Yield warnings about generating visits of subjects, in one sentence each; no image is read.

    Args:
        model: the model.
        subjects: the subjects, preprocessed for the model.
        simulated: whether their images are simulated; None if that is not known.
        own: whether they are of the data set that the model was trained on.
    """
    if model.provenance.data.get("simulated") and not simulated:
        yield (
            "The model was trained on simulated images only; what it generates for real scans is not tested, and must "
            "not be taken for a forecast."
        )
    provenance, trained = model.provenance, model.provenance.trained_grid
    sizes = {prepared.subject.id: prepared.subject.visits[0].spacing for prepared in subjects}

    def those_of(names: Sequence[str]) -> str:
        return f"{_size_text(sizes[names[0]])} of {listed(names)}"

    if trained is None:
        if provenance.has_own_voxels and not own:
            yield (
                f"It is not recorded at which size of voxels the model was trained, so those of the subjects are taken "
                f"as they are ({those_of([*sizes])}); check that the training data had the same."
            )
        return
    resampled = [each.subject.id for each in subjects if each.pipeline.grid.spacing is not None]
    if resampled and provenance.has_own_voxels:
        yield (
            f"The model was trained on voxels of {_size_text(trained.median)}, so visits are resampled to that from "
            f"{those_of(resampled)}; what is written has their own voxels."
        )
    if provenance.keeps_voxels:
        far = [name for name, size in sizes.items() if not trained.contains(size, MAX_VOXEL_CHANGE)]
        if far:
            yield (
                f"The model takes voxels as they are and was trained on {_size_text(trained.smallest)} to "
                f"{_size_text(trained.largest)}, which is far from {those_of(far)}; check the voxel size in the "
                "files, or resample them."
            )


def require_channels(model: "LongitudinalModel", channels: Sequence[str]) -> None:
    """Check that visits have the channels that a model was trained on, in the same order.

    Args:
        model: the model.
        channels: the names of the visits' channels; none for visits of one image.

    Raises:
        LongigenError: if they have others.
    """
    own = model.statistics.channel_names
    if tuple(channels) != own:

        def words(names: Sequence[str]) -> str:
            return f"the channels {','.join(names)}" if names else "one image per visit"

        raise LongigenError(
            f"The model was trained on {words(own)} and these data have {words(channels)}; give data with the same, in "
            "the same order (--set chooses them; 'longigen info' of the data set's reader says how)."
        )


def shares_outside(subjects: Sequence[Prepared]) -> list[float]:
    """Return `Prepared.outside` of each subject."""
    return list(in_parallel(lambda prepared: prepared.outside, subjects))


def box_cautions(
    model: "LongitudinalModel",
    subjects: Sequence[Prepared],
    *,
    shape_chosen: bool = False,
    outside: Sequence[float] | None = None,
) -> Iterator[str]:
    """Yield a warning if a part of subjects lies outside the model's grid.

    Their first visits are read, unless the cache has them.

    Args:
        model: the model.
        subjects: the subjects, preprocessed for the model.
        shape_chosen: whether the user, or the user's own training, chose the grid's shape for these subjects, so that
            nothing is refused.
        outside: `Prepared.outside` of each subject, if it is known already.

    Raises:
        LongigenError: if a larger part of one lies outside than of any training subject, by more than `MAX_LOST`. Not
            with a grid that keeps each subject's voxels, which is a window on the middle of an image by design.
    """
    outside = shares_outside(subjects) if outside is None else outside
    shares = dict(zip(subjects, outside, strict=True))
    beyond = [prepared for prepared, share in shares.items() if share > MAX_OUTSIDE]
    if not beyond:
        return
    worst = max(beyond, key=lambda prepared: shares[prepared])
    trained = model.provenance.trained_grid
    placement = worst.placement
    lies = (
        f"{shares[worst]:.0%} of the foreground of subject {worst.subject.id} lies outside the model's grid of "
        f"{' × '.join(map(str, placement.shape))} voxels of {_size_text(voxel_sizes(placement.affine))}"
    )
    window = shape_chosen or model.provenance.keeps_voxels
    if shares[worst] > MAX_LOST + (trained.outside if trained else 0.0) and not window:
        config = model.provenance.preprocess
        key = "extent" if config.get("extent") else "shape"
        raise LongigenError(
            f"{lies}, where nothing is generated; crop the images to what the model was trained on, or choose the "
            "grid: --set preprocess.shape=0,0,0 (in Python shape=(0, 0, 0)) for each subject's whole image, or "
            f"--set preprocess.{key}={','.join(f'{size:g}' for size in config[key])} for the middle of it."
        )
    others = f" (and a part of {len(beyond) - 1} more)" if len(beyond) > 1 else ""
    yield f"{lies}{others}, where nothing is generated; check that what matters lies inside it."


def subject_cautions(
    model: "LongitudinalModel", prepared: Prepared, given: Sequence[int], times: Sequence[float], *, direct: bool
) -> Iterator[tuple[str, str]]:
    """Yield warnings about a subject: covariates that it lacks, and times that are far from those of training.

    Each is its kind and one sentence.

    Args:
        model: the model.
        prepared: the subject.
        given: indices of the given visits.
        times: the times to generate, ascending, in the subject's unit.
        direct: whether each visit is generated from the given ones alone, or from those generated before it too.
    """
    own, unit = prepared.subject, model.statistics.time_unit
    shortest, longest = map(float, model.provenance.data.get("intervals", (0.0, math.inf)))
    ahead = prepared.model_time(times[-1] - own.times[0])
    if ahead > MAX_EXTRAPOLATION * longest:
        yield (
            "far",
            f"Time {time_text(times[-1])} is {ahead:g} {unit} after the first visit of subject {own.id}, but the "
            f"model was trained on at most {longest:g} {unit}; the generated image is not reliable.",
        )
    recorded = {name for visit in own.visits for name in visit.covariates}
    lacking = [name for name in model.statistics.covariates if name not in recorded]
    if lacking:
        yield (
            "covariates",
            f"Subject {own.id} has no {' and no '.join(map(repr, lacking))}, which the model was trained with; it is "
            "taken as unknown.",
        )
    known = [own.times[index] for index in given] + ([] if direct else [*times])
    gaps = {time: time - max(other for other in known if other < time) for time in times}
    nearest = min(gaps, key=lambda time: gaps[time])
    gap = prepared.model_time(gaps[nearest])
    if gap < MIN_GAP * shortest:
        yield (
            "near",
            f"Time {time_text(nearest)} is {gap:.3g} {unit} after the visit before it of subject {own.id}, but the "
            f"training visits were at least {shortest:g} {unit} apart; so small a change is not reliable.",
        )


def _size_text(size: Sequence[float]) -> str:
    return f"{' × '.join(f'{step:.3g}' for step in size)} mm"
