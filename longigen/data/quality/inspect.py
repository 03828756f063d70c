"""`examine`, the function behind `longigen doctor`: read every visit of a data set once and report its problems."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from longigen.data.dataset import Assigned, Dataset, Subject, Visit
from longigen.data.intensity import IntensityRange, without_padding
from longigen.data.issues import BadData, Finding
from longigen.data.preprocess import PreprocessSettings
from longigen.data.quality.cohort_checks import check_cohort
from longigen.data.quality.duplicates import find_duplicates
from longigen.data.quality.subject_checks import SubjectRecord, check_subject, natural_sort_key
from longigen.data.quality.volume_stats import VolumeStats, thumbnail
from longigen.data.split import Split, SplitSettings
from longigen.data.volume import Volume, affine_problem
from longigen.errors import LongigenError
from longigen.utils.files import reason
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
    """Read every visit of a data set once, and check visits, subjects and the cohort.

    A bad visit does not stop the others. Only the `VolumeStats` of a volume are kept in memory.

    Args:
        dataset: the data set.
        workers: number of threads, each reading one subject; by default the number of processors.
        callback: called as ``callback(visits read, all visits)``.

    Raises:
        LongigenError: if the whole data set cannot be read, such as for a missing folder or column.
    """
    findings: list[Finding] = []
    subjects = dataset.subjects(findings.append)
    records = _read_subjects(subjects, workers, callback or (lambda done, total: None))
    place = str(dataset.config.get("path") or type(dataset).__name__)
    parts = _split_parts(subjects, place, findings)
    for record in records:
        findings += check_subject(record)
    findings += find_duplicates(records, parts)
    findings += check_cohort(records, dataset.time_unit, place, dataset.covariate_units)
    return Examination(
        tuple(sorted(findings, key=lambda finding: (finding.severity == "warning", natural_sort_key(finding.subject)))),
        len(subjects),
        sum(len(record.readable) for record in records),
        dataset.time_unit,
        dataset.config.get("path"),
    )


def _split_parts(subjects: Sequence[Subject], place: str, findings: list[Finding]) -> dict[str, str]:
    """Return the part of the default split of each subject, by id; empty if the data set cannot be split."""
    try:
        split = Split.by_subject(subjects, SplitSettings())
    except LongigenError as error:
        problem = f"cannot be split into {', '.join(get_args(Assigned))} by default"
        findings.append(Finding("no-split", place, problem, str(error).rstrip(".")))
        return {}
    return {name: part for part, ids in split.ids.items() for name in ids}


def _read_subjects(
    subjects: Sequence[Subject], workers: int | None, callback: Callable[[int, int], None]
) -> list[SubjectRecord]:
    total = sum(len(subject.visits) for subject in subjects)
    records: list[SubjectRecord] = []
    done = 0
    for record in in_parallel(_read_subject, subjects, workers=workers):
        records.append(record)
        done += len(record.subject.visits)
        callback(done, total)
    return records


def _read_subject(subject: Subject) -> SubjectRecord:
    findings: list[Finding] = []
    stats: list[VolumeStats | None] = []
    picture: np.ndarray | None = None
    for visit in subject.visits:
        try:
            volume = _load(visit, subject.id)
        except BadData as error:
            findings.append(error.finding)
            stats.append(None)
            continue
        try:
            _check_range(volume, visit, subject.id)
        except BadData as error:
            findings.append(error.finding)
        volume_stats = VolumeStats.from_volume(volume)
        stats.append(volume_stats)
        if picture is None and not volume_stats.constant:
            picture = thumbnail(volume)
    return SubjectRecord(subject, tuple(stats), picture, tuple(findings))


def _load(visit: Visit, subject: str) -> Volume:
    """Load a visit; any exception of the data set's reader becomes a finding, so that it does not stop the others.

    Only the reader's code runs inside the ``try``, so an exception in longigen itself keeps its traceback.
    """

    def refuse(kind: str, problem: str, advice: str) -> BadData:
        return BadData(Finding(kind, visit.source, problem, advice, subject))

    try:
        volume = visit.load()
    except BadData:
        raise
    except Exception as error:
        problem = f"cannot be read ({type(error).__name__}: {reason(error)})"
        raise refuse("unreadable", problem, "replace or remove it, or correct its reader") from error
    if not isinstance(volume, Volume) or volume.data.ndim != 3 or not volume.data.size or volume.affine.shape != (4, 4):
        raise refuse("unreadable", "is not loaded as a 3D volume with an affine", "correct its reader")
    if not np.isfinite(volume.data).all():
        raise refuse("not-finite", "has NaN or infinite voxels", "replace them, or remove the visit")
    if problem := affine_problem(volume.affine):
        raise refuse("bad-affine", problem, "correct it")
    return volume


def _check_range(volume: Volume, visit: Visit, subject: str) -> None:
    """Check that the visit has an intensity range with the default settings of preprocessing.

    Raises:
        BadData: if it has (almost) only one intensity.
    """
    defaults = PreprocessSettings()
    IntensityRange.from_percentiles(
        without_padding(volume).data, lower=defaults.lower, upper=defaults.upper, source=visit.source, subject=subject
    )
