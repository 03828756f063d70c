"""`examine`, the function behind `longigen doctor`: read every visit of a data set once and report its problems."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from longigen.data.channels import missing_channels
from longigen.data.dataset import Assigned, Dataset, Subject
from longigen.data.issues import BadData, Finding
from longigen.data.preprocess import Preprocess, PreprocessSettings
from longigen.data.quality.cohort_checks import check_cohort
from longigen.data.quality.duplicates import find_duplicates
from longigen.data.quality.label_checks import check_labels
from longigen.data.quality.label_stats import LabelStats
from longigen.data.quality.registration import Motion, SmallImage, estimate_motion
from longigen.data.quality.subject_checks import SubjectRecord, check_subject, natural_sort_key
from longigen.data.quality.volume_stats import VolumeStats, thumbnail
from longigen.data.requirements import check_copied_subjects, check_visits
from longigen.data.split import Split, SplitSettings
from longigen.errors import LongigenError
from longigen.utils.parallel import in_parallel


@dataclass(frozen=True)
class Examination:
    """The result of examining a data set.

    Attributes:
        findings: the problems, errors first, then by subject; independent of the number of workers.
        subjects: number of subjects.
        visits: number of visits that could be read.
        time_unit: the data set's time unit.
        path: the data set's path; None if it reads no files.
    """

    findings: tuple[Finding, ...]
    subjects: int
    visits: int
    time_unit: str
    path: Path | None = None

    @classmethod
    def of(cls, findings: Sequence[Finding], dataset: Dataset, *, subjects: int, visits: int) -> "Examination":
        """Return the result with findings in any order."""
        order = sorted(findings, key=lambda each: (each.severity == "warning", natural_sort_key(each.subject)))
        return cls(tuple(order), subjects, visits, dataset.time_unit, dataset.config.get("path"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "time_unit": self.time_unit,
            "subjects": self.subjects,
            "visits": self.visits,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [vars(finding) for finding in self.findings],
        }

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


def examine(
    dataset: Dataset, *, workers: int | None = None, callback: Callable[[int, int], None] | None = None
) -> Examination:
    """Read every visit of a data set once, with its label map, and check visits, subjects and the cohort.

    An error is what training refuses with its default grid and split (`longigen.data.requirements`); what should be
    checked, and may be right, is a warning. A bad visit does not stop the others. Only the `VolumeStats` of a volume
    are kept in memory.

    Args:
        dataset: the data set.
        workers: number of threads, each reading one subject; by default the number of processors.
        callback: called as ``callback(visits read, all visits)``.

    Raises:
        LongigenError: if the whole data set cannot be read, such as for a missing folder or column.
    """
    findings: list[Finding] = []
    subjects = dataset.subjects(findings.append)
    place = str(dataset.config.get("path") or type(dataset).__name__)
    pipeline = _pipeline(subjects, place, findings)
    read = partial(_read_subject, pipeline, dataset.regions)
    records = _read_subjects(subjects, read, workers, callback or (lambda done, total: None))
    parts = _split_parts(subjects, place, findings)
    for record in records:
        findings += check_subject(record)
    copies = list(check_copied_subjects([r.subject for r in records], [r.digests for r in records], parts))
    findings += copies
    findings += missing_channels(subjects)
    findings += find_duplicates(records, parts, known={finding.subject for finding in copies})
    findings += check_labels(records, dataset.regions, place)
    findings += check_cohort(records, dataset.time_unit, place, dataset.covariate_units)
    visits = sum(len(record.readable) for record in records)
    return Examination.of(findings, dataset, subjects=len(subjects), visits=visits)


def _pipeline(subjects: Sequence[Subject], place: str, findings: list[Finding]) -> Preprocess:
    """Return the default preprocessing, or one on a grid of one voxel if the default grid is impossible."""
    try:
        if subjects:
            return PreprocessSettings().pipeline(subjects)
    except LongigenError as error:
        problem = "has visits that no default grid can hold"
        findings.append(Finding("impossible-grid", place, problem, str(error).rstrip(".")))
    return PreprocessSettings(shape=(1, 1, 1)).pipeline(subjects)


def _split_parts(subjects: Sequence[Subject], place: str, findings: list[Finding]) -> dict[str, str]:
    """Return the part of the default split of each subject, by id; empty if the data set cannot be split."""
    if not subjects and findings:  # which say why there are none
        return {}
    try:
        split = Split.by_subject(subjects, SplitSettings())
    except LongigenError as error:
        problem = f"cannot be split into {', '.join(get_args(Assigned))} by default"
        findings.append(Finding("no-split", place, problem, str(error).rstrip(".")))
        return {}
    return {name: part for part, ids in split.ids.items() for name in ids}


def _read_subjects(
    subjects: Sequence[Subject],
    read: Callable[[Subject], SubjectRecord],
    workers: int | None,
    callback: Callable[[int, int], None],
) -> list[SubjectRecord]:
    total = sum(len(subject.visits) for subject in subjects)
    records: list[SubjectRecord] = []
    done = 0
    for record in in_parallel(read, subjects, workers=workers):
        records.append(record)
        done += len(record.subject.visits)
        callback(done, total)
    return records


def _read_subject(pipeline: Preprocess, regions: Mapping[int, str], subject: Subject) -> SubjectRecord:
    findings: list[Finding] = []
    stats: list[VolumeStats | None] = []
    picture: np.ndarray | None = None
    motions: list[Motion | None] = []
    labels: list[LabelStats | None] = []
    first: SmallImage | None = None
    for prepared, index, finding in check_visits(subject, pipeline):
        if finding is not None:
            findings.append(finding)
        try:
            volume = prepared.own(index)  # the volume that was just checked
        except BadData:
            stats.append(None)
            motions.append(None)
            labels.append(LabelStats.of(subject.visits[index], subject.id, None, regions))
            continue
        volume_stats = VolumeStats.from_volume(volume)
        stats.append(volume_stats)
        labels.append(LabelStats.of(subject.visits[index], subject.id, volume, regions))
        if picture is None and not volume_stats.constant:
            picture = thumbnail(volume)
        small = None if finding is not None or volume_stats.labels else SmallImage.of(volume)
        motions.append(None if small is None or first is None else estimate_motion(first, small))
        first = first or small
    channels = [each for name in subject.channels if (each := subject.of_channel(name)).visits]
    return SubjectRecord(
        subject,
        tuple(stats),
        picture,
        tuple(findings),
        tuple(motions),
        tuple(labels),
        tuple(_read_subject(pipeline, {}, each) for each in channels),
    )
