"""Symptoms: what is wrong with one subject, told from the vitals of its visits."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.affines import from_matvec, voxel_sizes
from nibabel.orientations import aff2axcodes

from longigen.data.dataset import Subject, Visit
from longigen.data.grid import Grid, Placement
from longigen.data.issues import BadData, Finding, Severity
from longigen.data.quality.volume_stats import VolumeStats
from longigen.data.volume import Volume, canonical_shape, canonical_spacing

DRIFT = 1.4
"""Visits whose intensities differ by this factor are not on one scale. From the first to any frame of 55 ACDC patients,
with all the blood that moves, it is 1.17 at most."""

SHIFT = 0.25
"""Visits whose dark intensities differ by this share of what tissue has above them are not on one scale either."""

THIN = 1 / 3
"""A volume with fewer slices than this share of its in-plane voxels has thick slices, and no voxels of 1 × 1 × 1 mm."""

SMALLEST, LARGEST = 0.02, 50.0
"""Sizes in mm between which a voxel of a scan lies."""


@dataclass(frozen=True, eq=False)
class SubjectRecord:
    """What is known of a subject once it has been read.

    Attributes:
        subject: the subject.
        vitals: of each of its visits; None for one that could not be read.
        thumbnail: of the first that could, and is not constant.
        findings: what was wrong with visits as they were read.
    """

    subject: Subject
    vitals: tuple[VolumeStats | None, ...]
    thumbnail: np.ndarray | None
    findings: tuple[Finding, ...]

    @property
    def read(self) -> list[tuple[Visit, VolumeStats]]:
        """The visits that could be read, in order of time."""
        pairs = zip(self.subject.visits, self.vitals, strict=True)
        return [(visit, vitals) for visit, vitals in pairs if vitals is not None]


def natural_sort_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key that sorts ``visit10`` after ``visit9``."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def check_subject(record: SubjectRecord) -> Iterator[Finding]:
    """Give what is wrong with a subject."""
    yield from record.findings
    read = record.read
    if len(read) < 2:
        visit = record.subject.visits[0]
        problem = f"has {'only one visit' if read else 'no visit'} that can be used, and a change needs two"
        yield Finding("single-visit", visit.source, problem, "add visits or remove the subject", record.subject.id)
    if not read:
        return
    yield from _alone(record.subject.id, read)
    yield from _geometry(record.subject.id, read)
    yield from _copies(record.subject.id, read)
    yield from _drift(record.subject.id, read)


def _alone(subject: str, read: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Look at each visit by itself; what several show is told once."""

    def told(
        kind: str, says: Callable[[VolumeStats], str | None], advice: str, severity: Severity
    ) -> Iterator[Finding]:
        ill = [(visit, problem) for visit, vitals in read if (problem := says(vitals)) is not None]
        if ill:
            visit, problem = ill[0]
            yield Finding(kind, visit.source, problem + _more(len(ill) - 1), advice, subject, severity)

    advice = "give the scan itself"
    yield from told("label-mask", _label_mask, advice, "warning")
    advice = "write the true voxel size into its header"
    yield from told("lost-zooms", _lost_zooms, advice, "warning")
    yield from told("voxel-size", _voxel_size, "correct its header, whose unit is probably not mm", "warning")


def _label_mask(vitals: VolumeStats) -> str | None:
    return "holds whole numbers in flat patches, as a label mask does" if vitals.labels else None


def _lost_zooms(vitals: VolumeStats) -> str | None:
    if not np.allclose(voxel_sizes(vitals.affine), 1.0, rtol=0, atol=1e-6):
        return None
    if min(vitals.shape) < THIN * max(vitals.shape):
        why = f"in a grid of {_times(vitals.shape)}"
    elif not vitals.affine[:3, 3].any():
        why = "and no origin"
    else:
        return None
    return f"has voxels of exactly 1 × 1 × 1 mm {why}, so their true size is probably lost"


def _voxel_size(vitals: VolumeStats) -> str | None:
    sizes = voxel_sizes(vitals.affine)
    if sizes.min() >= SMALLEST and sizes.max() <= LARGEST:
        return None
    return f"has voxels of {_millimetres(sizes)} mm, as no scan of a person has"


def _geometry(subject: str, read: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Compare each visit's grid with that of the first."""
    first = read[0][1]

    def differing(kind: str, spelt: Callable[[VolumeStats], str], noun: str, advice: str) -> Iterator[Finding]:
        other = [(visit, spelt(vitals)) for visit, vitals in read if spelt(vitals) != spelt(first)]
        if other:
            visit, its = other[0]
            problem = f"has {noun} {its} where the first visit has {spelt(first)}{_more(len(other) - 1)}"
            yield Finding(kind, visit.source, problem, advice, subject, "warning")

    advice = "check that it is the same region, registered"
    yield from differing("shape-differs", lambda v: _times(canonical_shape(v.affine, v.shape)), "shape", advice)
    advice = "check its header"
    yield from differing("spacing-differs", lambda v: _millimetres(canonical_spacing(v.affine)), "voxels of", advice)
    yield from differing("orientation-differs", lambda v: "".join(map(str, aff2axcodes(v.affine))), "axes", advice)
    placement = Placement.of(_field_of_view(first), Grid((1, 1, 1)))
    for visit, vitals in read[1:]:
        if vitals.shape == first.shape and np.array_equal(vitals.affine, first.affine):
            continue
        try:
            placement.to_model(_field_of_view(vitals), 0.0, visit.source, subject)
        except BadData as error:
            yield error.finding


def _field_of_view(vitals: VolumeStats) -> Volume:
    """Return a volume of one voxel that is as large as a visit, and lies where it does."""
    size = np.array(vitals.shape)
    affine = vitals.affine @ from_matvec(np.diag(size), (size - 1) / 2)
    return Volume(np.full((1, 1, 1), 0.5, dtype=np.float32), affine)  # nilearn warns of images of 0 and 1


def _copies(subject: str, read: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Look for visits that are one file twice."""
    seen: dict[bytes, Visit] = {}
    for visit, vitals in read:
        if vitals.constant:  # which is told
            continue
        earlier = seen.setdefault(vitals.digest, visit)
        if earlier is not visit:
            problem = f"holds the same voxels as the visit at time {earlier.time:g}"
            yield Finding("identical-visits", visit.source, problem, "give each visit its own scan", subject)


def _drift(subject: str, read: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Compare the scale of intensities, as far as all bright tissue agrees on it, with that of the first visit.

    A subject has one intensity range, the first visit's: visits on another scale are clipped or dim, and the model
    learns the scanner's gain for change.
    """
    first = np.subtract(read[0][1].bright, read[0][1].dark)
    if first.min() <= 0:
        return
    worst, told = 1.0, None
    for visit, vitals in read[1:]:
        bright = np.subtract(vitals.bright, vitals.dark)
        shift = (vitals.dark - read[0][1].dark) / first[1]
        if bright.min() <= 0:
            continue
        change = np.log(bright / first)
        gain = float(np.exp(change[np.abs(change).argmin()])) if abs(np.sign(change).sum()) == 3 else 1.0
        size = max(gain, 1 / gain, DRIFT * abs(shift) / SHIFT)
        if size >= DRIFT and size > worst:
            worst = size
            if max(gain, 1 / gain) >= DRIFT:
                told = visit, f"is {gain:.2g} times as bright as the first visit"
            else:
                told = (
                    visit,
                    f"has intensities that start at {vitals.dark:.4g}, the first visit's at {read[0][1].dark:.4g}",
                )
    if told is not None:
        advice = "bring the visits to one scale, or check that one was not converted otherwise"
        yield Finding("intensity-drift", told[0].source, told[1], advice, subject, "warning")


def _more(others: int) -> str:
    return f" ({others} more of its visits likewise)" if others else ""


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _millimetres(sizes: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes)
