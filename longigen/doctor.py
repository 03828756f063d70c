"""The doctor: reads everything of a data set once, and says what is wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from longigen.dataset import Assigned, Dataset, Subject, Visit
from longigen.errors import LongigenError
from longigen.files import reason
from longigen.finding import BadData, Finding
from longigen.intensity import IntensityRange
from longigen.parallel import in_parallel
from longigen.plausibility import implausible
from longigen.preprocess import PreprocessSettings
from longigen.resemblance import alike
from longigen.split import Split, SplitSettings
from longigen.symptoms import Record, natural, symptoms
from longigen.vitals import Vitals, thumbnail
from longigen.volume import Volume


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    Attributes:
        findings: errors first, then by subject; the same whatever the number of workers.
        subjects: how many the data set gave.
        visits: how many of their visits could be read.
    """

    findings: tuple[Finding, ...]
    subjects: int
    visits: int

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

    A bad visit does not stop the rest. Of a volume only its `Vitals` are kept, so that memory does not grow with the
    size or the number of volumes.

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
        findings += symptoms(record)
    findings += alike(records, parts)
    findings += implausible(records, dataset.time_unit, place)
    return Examination(
        tuple(sorted(findings, key=lambda found: (found.severity == "warning", natural(found.subject)))),
        len(subjects),
        sum(vitals is not None for record in records for vitals in record.vitals),
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


def _read(subjects: Sequence[Subject], workers: int | None, callback: Callable[[int, int], None]) -> list[Record]:
    total = sum(len(subject.visits) for subject in subjects)
    records: list[Record] = []
    done = 0
    for record in in_parallel(_examine_subject, subjects, workers=workers):
        records.append(record)
        done += len(record.subject.visits)
        callback(done, total)
    return records


def _examine_subject(subject: Subject) -> Record:
    findings: list[Finding] = []
    vitals: list[Vitals | None] = []
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
        kept = Vitals.of(volume)
        vitals.append(kept)
        if picture is None and not kept.constant:
            picture = thumbnail(volume)
    return Record(subject, tuple(vitals), picture, tuple(findings))


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
