"""One subject prepared: its visits registered, corrected, masked and on one grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from nibabel.affines import apply_affine

from longigen.data.dataset import Subject, Visit
from longigen.data.grid import to_canonical
from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.preparation.bias import correct_bias
from longigen.preparation.masks import mask_of
from longigen.preparation.registration import Midway, register_midway
from longigen.preparation.resampling import MidwayGrid, coarsest
from longigen.preparation.rigid import shift_and_angle
from longigen.preparation.settings import BRAIN, PrepareSettings

MAX_DISAGREEMENT = 1.0
"""Registrations that differ by more mm are a caution; on heads of real subjects they differ by hundredths."""

MAX_OUTSIDE = 0.01
"""A larger share of the mask outside of a visit's field of view is a caution."""

MAX_COARSER = 1.25
"""Voxels of a visit that are so many times as large as another one's are a caution."""


@dataclass(frozen=True, eq=False)
class PreparedVisit:
    """A visit on the subject's grid.

    Attributes:
        visit: the visit as it was given.
        image: the image.
        before: the given image, placed on the grid by its header alone.
        labels: the label map, or None.
        transform: the rigid matrix (4, 4) from the visit's own space to the space midway, in mm and RAS.
        shift: how far the transform moves the middle of the visit, in mm.
        angle: by how many degrees it turns.
        disagreement: see `longigen.preparation.registration.Midway`.
    """

    visit: Visit
    image: Volume
    before: Volume
    labels: Volume | None
    transform: np.ndarray
    shift: float
    angle: float
    disagreement: float


@dataclass(frozen=True, eq=False)
class PreparedSubject:
    """A subject's visits on one grid.

    Attributes:
        subject: the subject.
        visits: the visits, in order of time.
        mask: the mask of all visits on the grid, 1 inside; None without masks.
        outside: the share of the visits' masks that lies outside of the field of view of one of them.
        correlation: the mean correlation of two visits' intensities before and after; None for a single visit.
        cautions: what should be looked at, in sentences.
    """

    subject: Subject
    visits: tuple[PreparedVisit, ...]
    mask: Volume | None
    outside: float
    correlation: tuple[float, float] | None
    cautions: tuple[str, ...]


def prepare_subject(
    subject: Subject, settings: PrepareSettings, progress: Callable[[str], Any] = lambda step: None
) -> PreparedSubject:
    """Register, correct and mask the visits of a subject, and bring each onto one grid by one interpolation.

    The mask is the union of the visits' masks, so it draws none of their differences. Voxels that lie outside of the
    field of view of a visit are 0 in all visits.

    Args:
        subject: the subject.
        settings: the settings, the same for all visits.
        progress: called with the name of each step.

    Raises:
        LongigenError: if a visit cannot be read, masked, corrected or registered.
    """
    progress("reading")
    given = [to_canonical(visit.read(subject.id)) for visit in subject.visits]
    progress("masks")
    masks = [
        mask_of(settings.mask, visit, volume, subject.id) for visit, volume in zip(subject.visits, given, strict=True)
    ]
    brains = masks if settings.mask in BRAIN else [None] * len(masks)
    volumes = given
    if settings.bias == "n4":
        progress("bias field")
        volumes = [correct_bias(volume, brain) for volume, brain in zip(given, brains, strict=True)]
    progress("registration")
    midway = register_midway(volumes, brains)
    progress("resampling")
    grid, mask, outside, seen = _grid_and_mask(volumes, masks, midway, settings.spacing)
    visits = []
    for index, visit in enumerate(subject.visits):
        transform, volume = midway.transforms[index], volumes[index]
        image = grid.image_of(volume, transform)
        labels = visit.read_labels(subject.id)
        shift, angle = shift_and_angle(transform, apply_affine(volume.affine, (np.array(volume.data.shape) - 1) / 2))
        prepared = PreparedVisit(
            visit,
            image=replace(image, data=image.data * seen),
            before=grid.image_of(given[index], np.eye(4)),
            labels=None if labels is None else grid.labels_of(to_canonical(labels), transform),
            transform=transform,
            shift=shift,
            angle=angle,
            disagreement=midway.disagreements[index],
        )
        visits.append(prepared)
    inside = seen if mask is None else mask.data > 0
    before, after = (
        _correlation([volume.data for volume in each], inside)
        for each in ([visit.before for visit in visits], [visit.image for visit in visits])
    )
    correlation = None if before is None or after is None else (before, after)
    cautions = tuple(_cautions(subject, visits, volumes, outside, correlation))
    return PreparedSubject(subject, tuple(visits), mask, outside, correlation, cautions)


def _grid_and_mask(
    volumes: Sequence[Volume],
    masks: Sequence[Volume | None],
    midway: Midway,
    spacing: tuple[float, float, float],
) -> tuple[MidwayGrid, Volume | None, float, np.ndarray]:
    """Return the grid, the mask on it, the share of the mask that a visit does not see, and which voxels are kept.

    Raises:
        LongigenError: if no voxel is in the field of view of all visits.
    """
    whole = MidwayGrid.around(volumes, midway.transforms, spacing)
    common = np.logical_and.reduce(
        [whole.inside(volume, transform) for volume, transform in zip(volumes, midway.transforms, strict=True)]
    )
    moved = [
        whole.labels_of(mask, transform).data > 0
        for mask, transform in zip(masks, midway.transforms, strict=True)
        if mask is not None
    ]
    union = np.logical_or.reduce(moved) if moved else common
    keep = union & common
    if not keep.any():
        raise LongigenError("The fields of view of its visits have nothing in common; look at their images.")
    outside = float(1 - keep.sum() / union.sum())
    grid, part = whole.cropped(keep)
    mask = Volume(keep[part].astype(np.float32), grid.affine) if moved else None
    return grid, mask, outside, keep[part]


def _correlation(images: Sequence[np.ndarray], inside: np.ndarray) -> float | None:
    """Return the mean correlation of each two images inside of the mask; None if there are no two."""
    values = [
        np.corrcoef(first[inside], second[inside])[0, 1]
        for first, second in combinations(images, 2)
        if np.ptp(first[inside]) > 0 and np.ptp(second[inside]) > 0
    ]
    return float(np.mean(values)) if values else None


def _cautions(
    subject: Subject,
    visits: Sequence[PreparedVisit],
    volumes: Sequence[Volume],
    outside: float,
    correlation: tuple[float, float] | None,
) -> list[str]:
    cautions, name = [], f"Subject {subject.id}"
    worst = max(visits, key=lambda visit: visit.disagreement)
    if worst.disagreement > MAX_DISAGREEMENT:
        cautions.append(
            f"{name}: registrations of the visit at {worst.visit.time:g} disagree by {worst.disagreement:.1f} mm, so "
            "it may be misplaced; look at the picture."
        )
    if correlation is not None and correlation[1] < correlation[0] - 0.01:
        cautions.append(
            f"{name}: the visits are less alike after registration than before (correlation {correlation[0]:.3f}, then "
            f"{correlation[1]:.3f}); look at the picture."
        )
    if outside > MAX_OUTSIDE:
        cautions.append(
            f"{name}: {outside:.1%} of the mask is outside of the field of view of a visit, and is 0 in all visits."
        )
    if coarsest(volumes) > MAX_COARSER:
        cautions.append(
            f"{name}: one visit has voxels {coarsest(volumes):.1f} times as large as another, so it is smoother, which "
            "looks like change."
        )
    return cautions
