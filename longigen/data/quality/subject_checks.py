"""Checks of one subject from the statistics of its visits: label masks, voxel sizes, geometry, copies, intensities."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes

from longigen.data import requirements
from longigen.data.dataset import Subject, Visit
from longigen.data.issues import Finding
from longigen.data.quality.label_stats import LabelStats
from longigen.data.quality.registration import Motion
from longigen.data.quality.volume_stats import VolumeStats
from longigen.data.volume import canonical_shape, canonical_spacing, format_shape

MAX_GAIN = 1.4
"""Visits whose intensities differ by a larger factor are on different scales. Between the first and any other frame of
55 ACDC patients, where the blood moves, the factor is at most 1.17."""

MAX_OFFSET = 0.25
"""Visits whose dark intensities differ by more than this share of the tissue's intensity are on different scales."""

THICK_SLICE_RATIO = 1 / 3
"""A volume with fewer slices than this share of its in-plane voxels has thick slices, so not voxels of 1 × 1 × 1 mm."""

MAX_SHEAR = 1.0
"""The largest difference from a right angle between the axes of a scan, in degrees, that is due to rounding."""

MIN_VOXEL_MM, MAX_VOXEL_MM = 0.02, 50.0
"""The range of plausible voxel sizes of a scan, in mm."""


@dataclass(frozen=True, eq=False)
class SubjectRecord:
    """The result of reading a subject: statistics of its visits, a thumbnail, and problems of reading.

    Attributes:
        subject: the subject.
        stats: statistics of each visit; None for a visit that could not be read.
        thumbnail: of the first readable visit that is not constant; None if there is none.
        findings: problems found while reading the visits.
        motions: the rigid motion of each visit relative to the first that can be used; None for that visit, and where
            it is not known.
        labels: what is known of each visit's label map; None where it has none.
        channels: the same of each channel, for visits of several images; the other attributes are then of the first
            image that each visit has.
    """

    subject: Subject
    stats: tuple[VolumeStats | None, ...]
    thumbnail: np.ndarray | None
    findings: tuple[Finding, ...]
    motions: tuple[Motion | None, ...]
    labels: tuple[LabelStats | None, ...]
    channels: "tuple[SubjectRecord, ...]" = ()

    @property
    def readable(self) -> list[tuple[Visit, VolumeStats]]:
        """The visits that could be read and their statistics, in order of time."""
        pairs = zip(self.subject.visits, self.stats, strict=True)
        return [(visit, stats) for visit, stats in pairs if stats is not None]

    @property
    def digests(self) -> list[str | None]:
        """A hash of each visit's voxels; None if it could not be read, or is constant, which is a finding already."""
        return [None if stats is None or stats.constant else stats.digest for stats in self.stats]


def natural_sort_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key that sorts ``visit10`` after ``visit9``."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part)


def check_subject(record: SubjectRecord) -> Iterator[Finding]:
    """Yield the findings on a subject: problems of reading, single visits, geometry, copies and intensities."""
    yield from record.findings
    readable = record.readable
    if not readable:
        visit, problem = record.subject.visits[0], "has no visit that can be used, where at least two are needed"
        yield Finding("single-visit", visit.source, problem, "add visits, or leave the subject out", record.subject.id)
        return
    yield from requirements.check_subject(replace(record.subject, visits=tuple(visit for visit, _ in readable)))
    yield from _check_headers(record.subject.id, [visit for visit, _ in readable])
    for part in record.channels or (record,):
        if part.readable:
            yield from _check_each_visit(record.subject.id, part.readable)
            yield from _check_geometry(record.subject.id, part.readable)
            yield from _check_registration(part)
            yield from (finding for _, finding in requirements.check_copied_visits(part.subject, part.digests))
            yield from _check_intensity_scale(record.subject.id, part.readable)
    yield from _check_channels(record)


def _check_channels(record: SubjectRecord) -> Iterator[Finding]:
    """Find visits that have the same voxels in two channels, as if one file were given for both."""
    seen: dict[str, str] = {}
    for part in record.channels:
        name = part.subject.channel
        for visit, digest in zip(part.subject.visits, part.digests, strict=True):
            other = name if digest is None else seen.setdefault(digest, name)
            if other != name:
                problem, advice = f"is the {name} and has the voxels of the {other}", "give each channel its own scan"
                yield Finding("identical-channels", visit.source, problem, advice, record.subject.id, "warning")


def _check_each_visit(subject: str, visits: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Check each visit separately; a problem of several visits is one finding."""

    def check(kind: str, find_problem: Callable[[VolumeStats], str | None], advice: str) -> Iterator[Finding]:
        bad = [(visit, problem) for visit, stats in visits if (problem := find_problem(stats)) is not None]
        if bad:
            visit, problem = bad[0]
            yield Finding(kind, visit.source, problem + and_more(len(bad) - 1), advice, subject, "warning")

    yield from check("label-mask", _label_mask_problem, "give the scan itself")
    yield from check("lost-zooms", _lost_voxel_size_problem, "write the true voxel size into its header")
    yield from check("voxel-size", _voxel_size_problem, "correct its header, whose unit is probably not mm")
    yield from check("sheared", _shear_problem, "resample it to right angles, or correct its header")
    advice = "nothing, since it is taken as background; or write the background's own intensity there"
    yield from check("padding-value", _padding_problem, advice)


def _check_headers(subject: str, visits: Sequence[Visit]) -> Iterator[Finding]:
    """Yield what the files of a subject state in two ways; a problem of several visits is one finding."""
    by_kind: dict[str, list[Finding]] = {}
    for visit in visits:
        for caution in visit.cautions:
            by_kind.setdefault(caution.kind, []).append(caution)
    for first, *others in by_kind.values():
        yield replace(first, problem=first.problem + and_more(len(others)), subject=subject)


def _padding_problem(stats: VolumeStats) -> str | None:
    padding = stats.padding
    if padding is None:
        return None
    return (
        f"has the value {padding.value:g} in {100 * padding.share:.2g} % of its voxels and the others from "
        f"{padding.low:g} to {padding.high:g}, so almost all of the intensity range is empty: it is a padding value"
    )


def _label_mask_problem(stats: VolumeStats) -> str | None:
    return "has whole numbers in uniform regions, like a label mask" if stats.labels else None


def _lost_voxel_size_problem(stats: VolumeStats) -> str | None:
    if not np.allclose(voxel_sizes(stats.affine), 1.0, rtol=0, atol=1e-6):
        return None
    if min(stats.shape) < THICK_SLICE_RATIO * max(stats.shape):
        reason = f"in a grid of {format_shape(stats.shape)}"
    elif not stats.affine[:3, 3].any():
        reason = "and its origin at 0"
    else:
        return None
    return f"has voxels of exactly 1 × 1 × 1 mm {reason}, so their true size is probably lost"


def _voxel_size_problem(stats: VolumeStats) -> str | None:
    sizes = voxel_sizes(stats.affine)
    if sizes.min() >= MIN_VOXEL_MM and sizes.max() <= MAX_VOXEL_MM:
        return None
    return f"has voxels of {_format_mm(sizes)} mm, which is implausible for a scan of a person"


def _shear_problem(stats: VolumeStats) -> str | None:
    axes = stats.affine[:3, :3] / voxel_sizes(stats.affine)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    shear = float(np.degrees(np.arcsin(min(cosine, 1.0))))
    if shear <= MAX_SHEAR:
        return None
    return f"has axes that are {shear:.2g}° from a right angle, and a model takes its voxels for boxes"


def _check_geometry(subject: str, visits: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Compare shape, spacing, orientation and position of each visit with those of the first."""
    first = visits[0][1]

    def compare(kind: str, describe: Callable[[VolumeStats], str], noun: str, advice: str) -> Iterator[Finding]:
        different = [(visit, describe(stats)) for visit, stats in visits if describe(stats) != describe(first)]
        if different:
            visit, text = different[0]
            problem = f"has {noun} {text} where the first visit has {describe(first)}{and_more(len(different) - 1)}"
            yield Finding(kind, visit.source, problem, advice, subject, "warning")

    advice = "check that it is the same region, registered"
    yield from compare("shape-differs", lambda v: format_shape(canonical_shape(v.affine, v.shape)), "shape", advice)
    advice = "check its header"
    yield from compare("spacing-differs", lambda v: _format_mm(canonical_spacing(v.affine)), "voxels of", advice)
    yield from compare("orientation-differs", lambda v: "".join(map(str, aff2axcodes(v.affine))), "axes", advice)


def _check_registration(record: SubjectRecord) -> Iterator[Finding]:
    """Find visits that do not lie on the first one; the one that is shifted furthest is named."""
    pairs = zip(record.subject.visits, record.motions, strict=True)
    misplaced = [(visit, motion) for visit, motion in pairs if motion is not None and motion.is_misplaced]
    if misplaced:
        visit, motion = max(misplaced, key=lambda pair: pair[1].shift)
        problem = f"{motion}{and_more(len(misplaced) - 1)}"
        advice = "register the visits to each other"
        yield Finding("misregistered", visit.source, problem, advice, record.subject.id, "warning")


def _check_intensity_scale(subject: str, visits: Sequence[tuple[Visit, VolumeStats]]) -> Iterator[Finding]:
    """Compare the intensity scale (gain and offset) of each visit with that of the first; report the largest change.

    All visits of a subject are scaled by the first visit's intensity range. Visits on another scale become too dark or
    are clipped, and the model learns a change of gain as if it were a change of anatomy. The gain is the smallest
    factor of the bright percentiles, if all three change in the same direction.
    """
    baseline = visits[0][1]
    first = np.subtract(baseline.bright, baseline.dark)
    if first.min() <= 0:
        return
    largest, finding = 1.0, None
    advice = "bring the visits to one intensity scale, or check that all were converted in the same way"
    for visit, stats in visits[1:]:
        bright = np.subtract(stats.bright, stats.dark)
        offset = (stats.dark - baseline.dark) / first[1]
        if bright.min() <= 0:
            continue
        change = np.log(bright / first)
        gain = float(np.exp(change[np.abs(change).argmin()])) if abs(np.sign(change).sum()) == 3 else 1.0
        size = max(gain, 1 / gain, MAX_GAIN * abs(offset) / MAX_OFFSET)
        if size >= MAX_GAIN and size > largest:
            largest = size
            if max(gain, 1 / gain) >= MAX_GAIN:
                problem = f"is {gain:.2g} times as bright as the first visit"
            else:
                problem = (
                    f"has a darkest intensity of {stats.dark:.4g}, where the first visit has {baseline.dark:.4g} "
                    "(1st percentiles)"
                )
            finding = Finding("intensity-drift", visit.source, problem, advice, subject, "warning")
    if finding is not None:
        yield finding


def and_more(others: int) -> str:
    """Return words for the other visits of a subject with the same problem."""
    return f" (and {others} more of its visits)" if others else ""


def _format_mm(sizes: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes)
