"""Data that are not ready: whatever a data set reads, a plain folder tree SUBJECT/VISIT of NIfTI, or DICOM files."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

from longigen.data.dataset import Subject
from longigen.data.issues import Finding
from longigen.data.open_dataset import claims_on, open_dataset
from longigen.errors import LongigenError
from longigen.models.bids_names import plain_stem
from longigen.preparation.dicom import convert, files_below, is_dicom
from longigen.preparation.masks import BESIDE
from longigen.registry.registry import registry
from longigen.utils.files import user_path

DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?([01]\d)[-_]?([0-3]\d)(?=\d{6}(?!\d)|\D|$)")
"""A date in the name of a visit, which a time of the day with six digits may follow."""

UNITS = {"d": "days", "w": "weeks", "m": "months", "y": "years"}
UNIT = r"(d|days?|w|wks?|weeks?|m|mo|months?|y|yrs?|years?)"
SPANS = (
    re.compile(rf"(?<![a-z]){UNIT}[-_ ]?(\d+(?:\.\d+)?)(?![\d.])"),
    re.compile(rf"(?<![\d.])(?P<number>\d+(?:\.\d+)?)[-_ ]?{UNIT}(?![a-z])"),
)
"""A time and its unit in the name of a visit in lower case, such as ``m12``, ``year_2`` or ``6months``."""

BASELINE = re.compile(r"(?<![a-z])(baseline|bl|base)(?![a-z])")


@dataclass(frozen=True)
class RawData:
    """Subjects to prepare.

    Attributes:
        subjects: the subjects.
        origin: the name of the data set that they are from.
        time_unit: unit of their times.
        regions: the region of each label of their label maps.
        levels: the labels of covariates that are text, in the order of their codes 0, 1, …
        covariate_units: units of covariates, by name.
        problems: what cannot be used, and why.
        notes: what was guessed or left out, in sentences.
    """

    subjects: Sequence[Subject]
    origin: str
    time_unit: str
    regions: Mapping[int, str] = field(default_factory=dict)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    covariate_units: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[Finding] = ()
    notes: Sequence[str] = ()


def open_raw(raw: str, changes: Sequence[str], pattern: str | None, out: Path) -> RawData:
    """Open data that are not ready; only headers are read.

    Args:
        raw: what `longigen.data.open_dataset` opens, a folder tree SUBJECT/VISIT of NIfTI, or a folder of DICOM files.
        changes: ``key=value`` of the data set's parameters.
        pattern: the names of the images to take in a folder tree, such as ``*T1*``.
        out: the prepared folder, in which DICOM files are converted.

    Raises:
        LongigenError: if there is nothing that can be used.
    """
    path = user_path(raw)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()) and not claims_on(path)[0]:
        raise LongigenError(f"{out} is inside of {raw}, so it would be taken for a subject; write to another folder.")
    if raw in registry.entries("dataset") or not path.is_dir() or claims_on(path)[0]:
        if pattern is not None:
            raise LongigenError(
                f"{raw} is read by a data set, and --images chooses among the files of a plain folder tree; choose "
                "with --set instead, such as --set suffix=T1w."
            )
        return _of_dataset(raw, changes)
    if changes:
        raise LongigenError(f"{raw} is a plain folder tree, which has no parameters; leave out --set {changes[0]}.")
    files = list(files_below(path))
    notes: Sequence[str] = ()
    if not any(plain_stem(file.name) for file in files):
        if not any(map(is_dicom, files)):
            raise LongigenError(
                f"{raw} holds neither NIfTI (.nii, .nii.gz) nor DICOM files; give a folder of scans, or a CSV "
                "(subject, time, path)."
            )
        path, notes = convert(path, out)
        files = list(files_below(path))
    tree = _of_tree(path, files, pattern)
    return RawData(tree.subjects, tree.origin, tree.time_unit, problems=tree.problems, notes=[*notes, *tree.notes])


def _of_dataset(raw: str, changes: Sequence[str]) -> RawData:
    name, dataset = open_dataset(raw, changes)
    problems: list[Finding] = []
    subjects = dataset.subjects(problems.append)
    channels = subjects[0].channels if subjects else ()
    if channels:
        raise LongigenError(
            f"The visits of {raw} have the images {', '.join(channels)}, and one image of a visit is prepared at a "
            f"time; choose it, such as --set suffix={channels[0]} of a BIDS folder."
        )
    return RawData(
        subjects,
        name,
        dataset.time_unit,
        dataset.regions,
        dataset.levels,
        dataset.covariate_units,
        problems,
        list(dataset.cautions),
    )


def _of_tree(root: Path, files: Sequence[Path], pattern: str | None) -> RawData:
    """Return the subjects of a folder tree: ``SUBJECT/VISIT.nii.gz``, or one image below each ``SUBJECT/VISIT/``."""
    images = [file for file in files if plain_stem(file.name) and len(file.relative_to(root).parts) > 1]
    if not images:
        raise LongigenError(
            f"{root} has its images in one folder, so it is not known whose they are; sort them into SUBJECT/VISIT/, "
            "or list them in a CSV (subject, time, path)."
        )
    names = {file.with_name(str(plain_stem(file.name))) for file in images}
    masks = [file for file in images if _is_mask(file, names)]
    chosen = [file for file in images if file not in masks and (pattern is None or fnmatch(file.name, pattern))]
    if not chosen:
        raise LongigenError(
            f"{root} has no image with a name like '{pattern}'; there is, for example, {images[0].name}."
        )
    found: dict[str, dict[str, list[Path]]] = {}
    for file in chosen:
        subject, *between, name = file.relative_to(root).parts
        visit = between[0] if between else str(plain_stem(name))
        found.setdefault(subject, {}).setdefault(visit, []).append(file)
    for visits in found.values():
        for several in visits.values():
            if len(several) > 1:
                raise LongigenError(
                    f"{several[0].parent} holds {len(several)} images of a visit, such as {several[0].name} and "
                    f"{several[1].name}; choose one by its name, as in --images '*T1*'."
                )
    unit, times, note = _times(found)
    notes = [note]
    if len(chosen) + len(masks) < len(images):
        notes.append(
            f"{len(images) - len(masks) - len(chosen)} images whose names are not like '{pattern}' are left out."
        )
    subjects, problems = [], []
    for subject, visits in found.items():
        try:
            paths = [paths[0] for paths in visits.values()]
            subjects.append(Subject.from_files(paths, times[subject], time_unit=unit, id=subject))
        except LongigenError as error:
            problems.append(Finding("bad-subject", str(root / subject), f"cannot be used ({str(error).rstrip('.')})",
                                    "correct it, or remove it", subject))  # fmt: skip
    return RawData(subjects, "folder", unit, problems=problems, notes=notes)


def _is_mask(file: Path, names: set[Path]) -> bool:
    """Return whether a file is the brain mask of an image beside it, by its name."""
    stem = str(plain_stem(file.name))
    return any(stem.endswith(end) and file.with_name(stem.removesuffix(end)) in names for end in BESIDE)


def _times(found: Mapping[str, Mapping[str, Sequence[Path]]]) -> tuple[str, Mapping[str, list[float]], str]:
    """Return the unit of times, the times of each subject's visits, and how they were found, in a sentence.

    The names of all visits must have dates, or numbers with one unit. Else visits are numbered in the order of their
    names.
    """
    readers: Sequence[tuple[str, Callable[[str], float | None]]] = [
        ("days", _ordinal),
        *((unit, lambda name, letter=letter: _span(name, letter)) for letter, unit in UNITS.items()),
    ]
    for unit, read in readers:
        times = {subject: [read(visit) for visit in visits] for subject, visits in found.items()}
        known = {s: [time for time in each if time is not None] for s, each in times.items()}
        if all(len(known[s]) == len(each) == len(set(known[s])) for s, each in times.items()):
            if read is _ordinal:
                known = {s: [time - min(each) for time in each] for s, each in known.items()}
                return (
                    unit,
                    known,
                    "Times are days since each subject's first visit, by the dates in the visits' names.",
                )
            first = next(visit for visits in found.values() for visit in visits)
            return unit, known, f"Times are the {unit} in the visits' names, such as {first}."
    order = {subject: sorted(visits, key=_natural) for subject, visits in found.items()}
    places = {s: [float(order[s].index(visit)) for visit in visits] for s, visits in found.items()}
    note = (
        "The visits' names have no dates, and no times such as m12 in one unit, so they are numbered 0, 1, 2 in the "
        "order of their names; a CSV (subject, time, path) says their times."
    )
    return "index", places, note


def _ordinal(name: str) -> float | None:
    match = DATE.search(name)
    try:
        return None if match is None else float(date(int(match[1]), int(match[2]), int(match[3])).toordinal())
    except ValueError:  # no day of the calendar
        return None


def _span(name: str, letter: str) -> float | None:
    """Return the number beside a unit in a name, if the unit begins with a letter; 0 for a baseline."""
    text = name.lower()
    before, after = (pattern.search(text) for pattern in SPANS)
    if before is not None:
        return float(before[2]) if before[1].startswith(letter) else None
    if after is not None:
        return float(after["number"]) if after[2].startswith(letter) else None
    return 0.0 if BASELINE.search(text) else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by so that ``visit10`` comes after ``visit9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]
