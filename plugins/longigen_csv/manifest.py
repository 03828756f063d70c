"""A CSV or TSV manifest as a data set, with one row per visit."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from nibabel.spatialimages import SpatialImage

from longigen import (
    PARTS,
    Assigned,
    BadData,
    Dataset,
    Finding,
    LongigenError,
    OnBad,
    Subject,
    Visit,
    open_image,
    refuse,
)
from longigen import time_unit as known_unit

REQUIRED = ("subject", "time", "path")
OPTIONAL = ("frame", "split")
MISSING = ("", "n/a", "na", "nan")


class Row(NamedTuple):
    """One row of the manifest, that is one visit; `line` counts from 1, `cells` are covariates as text, by column."""

    line: int
    subject: str
    time: float
    path: Path
    frame: int | None
    split: str
    cells: Mapping[str, str]


class CSVDataset(Dataset):
    """A manifest in UTF-8 with the columns ``subject``, ``time`` and ``path``.

    Each row is a visit: a 3D NIfTI image at `path` (relative to the manifest), or one frame of a 4D image, counted from
    0 in the column ``frame``. A column ``split`` (train, validation, test) assigns subjects to parts of the split. Any
    other column is a covariate: numbers are used as they are, text is encoded as the index among the column's labels
    in alphabetical order (`levels`); empty cells, ``n/a``, ``NA`` and ``NaN`` are missing. Subjects are in the order of
    their first row, visits in order of time. Columns are separated by tabs in a ``.tsv`` file, else by commas.

    Args:
        path: path of the manifest.
        time_unit: unit of the column ``time``, one of `longigen.TIME_UNITS`.

    Raises:
        LongigenError: if the time unit is unknown; from `subjects` and `levels` if the manifest cannot be read.
    """

    def __init__(self, *, path: Path, time_unit: str = "years") -> None:
        super().__init__()
        self.path = Path(path)
        self.time_unit = known_unit(time_unit)

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.suffix.lower() in (".csv", ".tsv")

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        subjects, findings = self._subjects_and_findings
        for finding in findings:
            bad(finding)
        return subjects

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each categorical covariate, in the order of their codes 0, 1, …"""
        return {name: labels for name, labels in self._covariates.items() if labels is not None}

    @cached_property
    def _subjects_and_findings(self) -> tuple[tuple[Subject, ...], list[Finding]]:
        """The subjects and visits that can be used, and the problems of the others."""
        rows, findings = self._rows
        findings = list(findings)
        images: dict[Path, SpatialImage] = {}
        by_subject: dict[str, list[Row]] = {}
        for row in rows:
            by_subject.setdefault(row.subject, []).append(row)
        subjects = []
        for name, subject_rows in by_subject.items():
            try:
                part = self._part(subject_rows)
            except BadData as error:
                findings.append(error.finding)
                continue
            visits: dict[float, tuple[int, Visit]] = {}
            for row in subject_rows:
                try:
                    if row.time in visits:
                        raise self._bad(
                            "duplicate-time",
                            f"lines {visits[row.time][0]} and {row.line}",
                            f"are two visits at time {row.time:g}",
                            "correct or remove one of them",
                            name,
                        )
                    visits[row.time] = row.line, self._visit(row, images)
                except BadData as error:
                    findings.append(error.finding)
            if visits:
                subjects.append(Subject(name, tuple(visits[time][1] for time in sorted(visits)), part))
        return tuple(subjects), findings

    def _part(self, rows: Sequence[Row]) -> Assigned | None:
        """Return the part of the split in the rows of a subject."""
        words = {row.split.lower() for row in rows if not _missing(row.split)}
        unknown = sorted(words - set(PARTS))
        where, name = f"line {rows[0].line}", rows[0].subject
        if unknown:
            raise self._bad("bad-split", where, f"has split {unknown[0]!r}", "write train, validation or test", name)
        parts: list[Assigned] = sorted({PARTS[word] for word in words})
        if len(parts) > 1:
            lines = f"lines {', '.join(str(row.line) for row in rows)}"
            raise self._bad("two-splits", lines, f"are in the splits {' and '.join(parts)}", "choose one of them", name)
        return parts[0] if parts else None

    def _visit(self, row: Row, images: dict[Path, SpatialImage]) -> Visit:
        for column, labels in self._covariates.items():
            if labels is None and not _missing(row.cells[column]) and _number(row.cells[column]) is None:
                raise self._bad(
                    "bad-covariate",
                    f"line {row.line}",
                    f"has {row.cells[column]!r} in column '{column}', whose other rows are numbers",
                    "correct it, leave it empty, or use text in the whole column",
                    row.subject,
                )
        try:
            if row.path not in images:
                images[row.path] = open_image(row.path, row.subject)
            return Visit.from_file(
                row.path,
                subject=row.subject,
                time=row.time,
                frame=row.frame,
                image=images[row.path],
                covariates={
                    name: float(cell) if labels is None else float(labels.index(cell))
                    for name, labels in self._covariates.items()
                    if not _missing(cell := row.cells[name])
                },
            )
        except BadData as error:
            finding = replace(error.finding, source=f"{self.path}, line {row.line}: {error.finding.source}")
            if finding.kind == "dimensions":
                finding = replace(finding, advice="give the frame of a 4D image in a column 'frame'")
            raise BadData(finding) from None

    def _bad(self, kind: str, where: str, problem: str, advice: str, subject: str = "") -> BadData:
        return BadData(Finding(kind, f"{self.path}, {where}", problem, advice, subject))

    @cached_property
    def _covariates(self) -> dict[str, tuple[str, ...] | None]:
        """The labels of each categorical column, and None for each numeric one, which has at least one number."""
        rows, _ = self._rows
        columns: dict[str, tuple[str, ...] | None] = {}
        for name in rows[0].cells:
            values = [row.cells[name] for row in rows if not _missing(row.cells[name])]
            text = [cell for cell in values if _number(cell) is None]
            columns[name] = tuple(sorted(set(text))) if text and len(text) == len(values) else None
        return columns

    @cached_property
    def _rows(self) -> tuple[tuple[Row, ...], list[Finding]]:
        """The rows that can be used, and the problems of the others."""
        header, lines = self._table
        rows, findings = [], []
        for line, cells in lines:
            try:
                rows.append(self._row(line, header, cells))
            except BadData as error:
                findings.append(error.finding)
        if not rows and not findings:
            raise LongigenError(f"{self.path} has no row below its header; write one per visit.")
        if not rows:
            raise BadData(findings[0])
        return tuple(rows), findings

    def _row(self, line: int, header: list[str], cells: list[str]) -> Row:
        if len(cells) != len(header):
            raise self._bad(
                "bad-row",
                f"line {line}",
                f"has {len(cells)} cells where the header has {len(header)} columns",
                "add or remove a separator, or quote text that contains one",
            )
        row = dict(zip(header, cells, strict=True))
        subject = row["subject"]

        def bad(column: str, why: str, advice: str) -> BadData:
            problem = f"has {column} {row[column]!r}, which {why}"
            return self._bad(f"bad-{column}", f"line {line}", problem, advice, subject)

        if not subject or subject in (".", "..") or not subject.isprintable() or any(c in subject for c in "/\\"):
            raise bad("subject", "cannot name a file", "use letters, digits, '-' and '_'")
        time = _number(row["time"])
        if time is None:
            raise bad("time", f"is not a finite number of {self.time_unit}", "correct it, or remove the row")
        if not row["path"] or "\0" in row["path"]:
            raise bad("path", "names no file", "write the path of the visit's image, or remove the row")
        frame = None
        if not _missing(row.get("frame", "")):
            number = _number(row["frame"])
            if number is None or number < 0 or not number.is_integer():
                raise bad("frame", "is not a whole number from 0", "count the frames of the 4D image from 0")
            frame = int(number)
        covariates = {name: cell for name, cell in row.items() if name not in (*REQUIRED, *OPTIONAL)}
        return Row(line, subject, time, self.path.parent / row["path"], frame, row.get("split", ""), covariates)

    @cached_property
    def _table(self) -> tuple[list[str], list[tuple[int, list[str]]]]:
        """The header, and the line number and stripped cells of each row; empty lines are skipped."""
        if not self.path.is_file():
            raise LongigenError(f"{self.path} is not a file; give the path of a CSV or TSV manifest.")
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                header = [name.strip() for name in next(reader, [])]
                self._check_header(header)
                rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise LongigenError(f"{self.path} cannot be read ({error}); save it as CSV or TSV in UTF-8.") from None
        return header, [(line, cells) for line, cells in rows if any(cells)]

    def _check_header(self, header: Sequence[str]) -> None:
        if not any(header):
            raise LongigenError(f"{self.path} is empty; its first line must name the columns {', '.join(REQUIRED)}.")
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise LongigenError(
                f"{self.path} has no column {' and no column '.join(map(repr, missing))}; its columns are: "
                f"{', '.join(header)}."
            )
        invalid = [name for index, name in enumerate(header) if name in header[:index] or not name]
        if invalid:
            raise LongigenError(
                f"{self.path} has two columns {invalid[0]!r}, or one without a name; give each column its own name."
            )


def _missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _number(cell: str) -> float | None:
    """Return a finite number, or None for any other text."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
