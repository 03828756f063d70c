"""The doctor: reads everything of a data set once, and says what is wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from longigen.data.dataset import Assigned, Dataset, Subject, Visit
from longigen.data.intensity import IntensityRange
from longigen.data.issues import BadData, Finding
from longigen.data.preprocess import PreprocessSettings
from longigen.data.quality.cohort_checks import check_cohort
from longigen.data.quality.duplicates import find_duplicates
from longigen.data.quality.subject_checks import SubjectRecord, check_subject, natural_sort_key
from longigen.data.quality.volume_stats import VolumeStats, thumbnail
from longigen.data.split import Split, SplitSettings
from longigen.data.volume import Volume
from longigen.errors import LongigenError
from longigen.utils.files import reason
from longigen.utils.parallel import in_parallel


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    Attributes:
        findings: errors first, then by subject; the same whatever the number of workers.
        subjects: how many the data set gave.
        visits: how many of their visits could be read.
        time_unit: of the data set.
        path: of the data set; None where it reads no files.
    """

    findings: tuple[Finding, ...]
    subjects: int
    visits: int
    time_unit: str
    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
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
    """Read every visit of a data set once, and look at visits, subjects and the whole.

    A bad visit does not stop the rest. Of a volume only its `VolumeStats` are kept, so that memory does not grow with
    the size or the number of volumes.

    Args:
        dataset: the data set.
        workers: subjects that are read at a time, in threads; by default as many as there are processors.
        callback: is told how many visits have been read, and of how many.

    Raises:
        LongigenError: if all of the data set cannot be used: there is no such folder, or no such column.
    """
    findings: list[Finding] = []
    subjects = dataset.subjects(findings.append)
    records = _read(subjects, workers, callback or (lambda done, total: None))
    place = str(dataset.config.get("path") or type(dataset).__name__)
    parts = _parts(subjects, place, findings)
    for record in records:
        findings += check_subject(record)
    findings += find_duplicates(records, parts)
    findings += check_cohort(records, dataset.time_unit, place)
    return Examination(
        tuple(sorted(findings, key=lambda found: (found.severity == "warning", natural_sort_key(found.subject)))),
        len(subjects),
        sum(vitals is not None for record in records for vitals in record.vitals),
        dataset.time_unit,
        dataset.config.get("path"),
    )


def _parts(subjects: Sequence[Subject], place: str, findings: list[Finding]) -> dict[str, str]:
    """Return the part of the default split that each subject falls into, by id; empty where there is no such split."""
    try:
        split = Split.of(subjects, SplitSettings())
    except LongigenError as error:
        problem = f"cannot be split into {', '.join(get_args(Assigned))} by default"
        findings.append(Finding("no-split", place, problem, str(error).rstrip(".")))
        return {}
    return {name: part for part, ids in split.ids.items() for name in ids}


def _read(
    subjects: Sequence[Subject], workers: int | None, callback: Callable[[int, int], None]
) -> list[SubjectRecord]:
    total = sum(len(subject.visits) for subject in subjects)
    records: list[SubjectRecord] = []
    done = 0
    for record in in_parallel(_examine_subject, subjects, workers=workers):
        records.append(record)
        done += len(record.subject.visits)
        callback(done, total)
    return records


def _examine_subject(subject: Subject) -> SubjectRecord:
    findings: list[Finding] = []
    vitals: list[VolumeStats | None] = []
    picture: np.ndarray | None = None
    for visit in subject.visits:
        try:
            volume = _load(visit, subject.id)
        except BadData as error:
            findings.append(error.finding)
            vitals.append(None)
            continue
        try:
            _check_range(volume, visit, subject.id)
        except BadData as error:
            findings.append(error.finding)
        kept = VolumeStats.of(volume)
        vitals.append(kept)
        if picture is None and not kept.constant:
            picture = thumbnail(volume)
    return SubjectRecord(subject, tuple(vitals), picture, tuple(findings))


def _load(visit: Visit, subject: str) -> Volume:
    """Load a visit; whatever a data set's reader raises is a finding, since it must not stop the rest.

    Only the reader's own code runs inside the ``try``: a defect of ours keeps its traceback.
    """

    def refuse(kind: str, problem: str, advice: str) -> BadData:
        return BadData(Finding(kind, visit.source, problem, advice, subject))

    try:
        volume = visit.load()
    except BadData:
        raise
    except Exception as error:
        problem = f"cannot be read ({type(error).__name__}: {reason(error)})"
        raise refuse("unreadable", problem, "replace or remove it, or mend its reader") from error
    if not isinstance(volume, Volume) or volume.data.ndim != 3 or not volume.data.size or volume.affine.shape != (4, 4):
        raise refuse("unreadable", "is not given as a 3D volume with an affine", "mend its reader")
    if not np.isfinite(volume.data).all():
        raise refuse("not-finite", "holds NaN or infinity", "replace them, or remove the visit")
    if not np.isfinite(volume.affine).all() or np.linalg.matrix_rank(volume.affine[:3, :3]) < 3:
        raise refuse("bad-affine", "has an affine that cannot be inverted", "correct it")
    return volume


def _check_range(volume: Volume, visit: Visit, subject: str) -> None:
    """Refuse what training refuses: a visit of (almost) one intensity has no range.

    Raises:
        BadData: for such a visit.
    """
    defaults = PreprocessSettings()
    IntensityRange.of(volume.data, lower=defaults.lower, upper=defaults.upper, source=visit.source, subject=subject)
