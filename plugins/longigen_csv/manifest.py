"""A CSV or TSV manifest as a data set, with one row per visit."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
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
    Table,
    TableRow,
    Visit,
    Volume,
    has_decimal_comma,
    is_missing,
    open_image,
    parse_number,
    parse_regions,
    read_table,
    read_volume,
    refuse,
    require_fetched,
)
from longigen import time_unit as known_unit

DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}")
"""A cell that starts with a date, such as 2019-03-01 or 1/3/2019."""

REQUIRED = ("subject", "time", "path")
OPTIONAL = ("frame", "split", "labels")
CHANNEL = "path_"
"""The beginning of the columns of a manifest with several images per visit."""

LONGEST_NAME = 200
"""Bytes of a subject's name, to which names of files add some; file systems allow 255."""


class Row(NamedTuple):
    """One row of the manifest, that is one visit.

    `line` counts from 1, `images` are the paths by channel (one without a name, or None for a missing one), `cells` are
    covariates as text, by column, and `labels` is the path of the label map, or None.
    """

    line: int
    subject: str
    time: float
    images: Mapping[str, "Written | None"]
    frame: int | None
    split: str
    cells: Mapping[str, str]
    labels: Path | None = None


class Written(NamedTuple):
    """A path, and how it is written in the manifest."""

    path: Path
    text: str


class CSVDataset(Dataset):
    """A manifest in UTF-8 with the columns ``subject``, ``time`` and ``path``.

    Each row is a visit: a 3D NIfTI image at `path` (relative to the manifest), or one frame of a 4D image, counted from
    0 in the column ``frame``. A column ``split`` (train, validation, test) assigns subjects to parts of the split. A
    column ``labels`` has the path of the visit's label map, 3D or with a frame for each of the image, or is empty. Any
    other column is a covariate: numbers are used as they are, text is encoded as the index among the column's labels
    in alphabetical order (`levels`); empty cells, ``n/a``, ``NA`` and ``NaN`` are missing. Subjects are in the order of
    their first row, visits in order of time. Columns are separated by tabs in a ``.tsv`` file, else by commas; numbers
    have a decimal point. A path with backslashes, as Windows writes it, is read with slashes if that is a file.

    Instead of ``path``, several columns ``path_NAME``, such as ``path_T1w`` and ``path_FLAIR``, have the images of a
    visit that are the channels of one, in the order of the columns. An empty cell is a missing image.

    Args:
        path: path of the manifest.
        time_unit: unit of the column ``time``, one of `longigen.TIME_UNITS`.
        regions: the regions of the label maps, each as ``NAME=LABELS``: ``ventricles=4+11,hippocampus=47+48``.

    Raises:
        LongigenError: if the time unit is unknown or a region is not of that form; from `subjects` and `levels` if the
            manifest cannot be read.
    """

    def __init__(self, *, path: Path, time_unit: str = "years", regions: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.path = Path(path)
        self.time_unit = known_unit(time_unit)
        self._regions = parse_regions(regions, "csv: regions")

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.suffix.lower() in (".csv", ".tsv")

    @property
    def cautions(self) -> Sequence[str]:
        rows, _ = self._rows
        cautions = []
        changed = [
            (row.line, image.text)
            for row in rows
            if (image := next((i for i in row.images.values() if i and i.path != self.path.parent / i.text), None))
        ]
        if changed:
            first = f"'{changed[0][1]}' in line {changed[0][0]}"
            cautions.append(
                f"Backslashes in paths were read as slashes in {len(changed)} rows of {self.path}, such as {first}."
            )
        beside = [
            name
            for name in self._table.columns
            if name.startswith(CHANNEL) and any(row.cells.get(name, "").endswith((".nii", ".nii.gz")) for row in rows)
        ]
        if beside:
            cautions.append(
                f"{self.path} has a column 'path', so {' and '.join(map(repr, beside))} are read as covariates; leave "
                f"'path' out, and give two columns {CHANNEL}NAME or more, if they are the images of a visit."
            )
        if not self._regions and any(row.labels for row in rows):
            cautions.append(
                f"The label maps of {self.path} are not used, since it is not known which regions they show; name them "
                "with regions=, such as --set 'regions=left ventricle=3'."
            )
        return cautions

    @property
    def regions(self) -> Mapping[int, str]:
        return self._regions

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
        words = {row.split.lower() for row in rows if not is_missing(row.split)}
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
            cell = row.cells[column]
            if labels is None and not is_missing(cell) and parse_number(cell) is None:
                raise self._bad(
                    "bad-covariate",
                    f"line {row.line}",
                    f"has {cell!r} in column '{column}', whose other rows are numbers",
                    _no_number(cell, "correct it, leave it empty, or use text in the whole column"),
                    row.subject,
                )
        found = {name: image and self._image(row, image, images) for name, image in row.images.items()}
        if self._channels:
            return Visit.of_channels(found, subject=row.subject)
        return next(visit for visit in found.values() if visit is not None)

    def _image(self, row: Row, written: Written, images: dict[Path, SpatialImage]) -> Visit:
        """Return one image of a row as a visit."""
        path = written.path
        try:
            if path not in images:
                images[path] = open_image(path, row.subject)
            return Visit.of_file(
                path,
                subject=row.subject,
                time=row.time,
                frame=row.frame,
                image=images[path],
                covariates={
                    name: float(cell) if labels is None else float(labels.index(cell))
                    for name, labels in self._covariates.items()
                    if not is_missing(cell := row.cells[name])
                },
                labels=row.labels and partial(_read_labels, row.labels, row.subject, row.frame),
            )
        except BadData as error:
            finding = replace(error.finding, source=f"{self.path}, line {row.line}: {error.finding.source}")
            if finding.kind == "dimensions":
                finding = replace(finding, advice="give the frame of a 4D image in a column 'frame'")
            elif finding.kind == "missing-file" and "\\" in written.text:
                finding = replace(finding, advice="write its path relative to the table, with / for each backslash")
            raise BadData(finding) from None

    def _bad(self, kind: str, where: str, problem: str, advice: str, subject: str = "") -> BadData:
        return BadData(Finding(kind, f"{self.path}, {where}", problem, advice, subject))

    @cached_property
    def _covariates(self) -> dict[str, tuple[str, ...] | None]:
        """The labels of each categorical column, and None for each numeric one, which has at least one number."""
        rows, _ = self._rows
        columns: dict[str, tuple[str, ...] | None] = {}
        for name in rows[0].cells:
            values = [row.cells[name] for row in rows if not is_missing(row.cells[name])]
            text = [cell for cell in values if parse_number(cell) is None and not has_decimal_comma(cell)]
            columns[name] = tuple(sorted(set(text))) if text and len(text) == len(values) else None
        return columns

    @cached_property
    def _rows(self) -> tuple[tuple[Row, ...], list[Finding]]:
        """The rows that can be used, and the problems of the others."""
        table = self._table
        rows, findings = [], list(table.findings)
        for row in table.rows:
            try:
                rows.append(self._row(row))
            except BadData as error:
                findings.append(error.finding)
        if not rows and not findings:
            raise LongigenError(f"{self.path} has no row below its header; write one per visit.")
        if not rows:
            raise BadData(findings[0])
        return tuple(rows), findings

    def _row(self, table_row: TableRow) -> Row:
        line, row = table_row
        subject = row["subject"]

        def bad(column: str, why: str, advice: str) -> BadData:
            problem = f"has {column} {row[column]!r}, which {why}"
            return self._bad(f"bad-{column}", f"line {line}", problem, advice, subject)

        named = subject.isprintable() and not any(letter in subject for letter in "/\\")
        if not named or subject in ("", ".", "..") or len(subject.encode()) > LONGEST_NAME:
            raise bad("subject", "cannot name a file", "use letters, digits, '-' and '_', and not too many of them")
        time = parse_number(row["time"])
        if time is None:
            otherwise = "correct it, or remove the row"
            if DATE.match(row["time"]):
                otherwise = f"write the {self.time_unit} since the subject's first visit instead of a date"
            advice = _no_number(row["time"], otherwise)
            raise bad("time", f"is not a finite number of {self.time_unit}", advice)
        columns = {name: f"{CHANNEL}{name}" for name in self._channels} or {"": "path"}
        images = {name: self._written(row[column]) for name, column in columns.items()}
        if not any(images.values()):
            column = next(iter(columns.values()))
            advice = "write the path of the visit's image, or remove the row"
            why = "names no file" if not self._channels else "names no file, as no other column of an image does"
            raise bad(column, why, advice)
        frame = None
        if not is_missing(row.get("frame", "")):
            number = parse_number(row["frame"])
            if number is None or number < 0 or not number.is_integer():
                raise bad("frame", "is not a whole number from 0", "count the frames of the 4D image from 0")
            frame = int(number)
        known = (*REQUIRED, *OPTIONAL, *columns.values())
        covariates = {name: cell for name, cell in row.items() if name not in known}
        written = row.get("labels", "")
        labels = None if is_missing(written) else self.path.parent / written
        return Row(line, subject, time, images, frame, row.get("split", ""), covariates, labels)

    def _written(self, text: str) -> Written | None:
        """Return the path of a cell, with slashes for backslashes if that is a file; None for an empty one."""
        if not text or (self._channels and is_missing(text)):
            return None
        path, slashed = self.path.parent / text, self.path.parent / text.replace("\\", "/")
        return Written(slashed if os.path.isfile(slashed) and not os.path.exists(path) else path, text)

    @cached_property
    def _channels(self) -> tuple[str, ...]:
        """The names of the channels, in the order of their columns; none for one image per visit."""
        columns = self._table.columns
        names = tuple(name.removeprefix(CHANNEL) for name in columns if name.startswith(CHANNEL))
        return names if len(names) > 1 and "path" not in columns else ()

    @cached_property
    def _table(self) -> Table:
        if not self.path.is_file():
            require_fetched(self.path)
            raise LongigenError(f"{self.path} is not a file; give the path of a CSV or TSV manifest.")
        table = read_table(self.path)
        if not table.columns:
            raise LongigenError(f"{self.path} is empty; its first line must name the columns {', '.join(REQUIRED)}.")
        several = sum(name.startswith(CHANNEL) for name in table.columns) > 1
        missing = [name for name in REQUIRED if name not in table.columns and (name != "path" or not several)]
        if missing:
            raise LongigenError(
                f"{self.path} has no column {' and no column '.join(map(repr, missing))}; its columns are: "
                f"{', '.join(table.columns)}. Name those that hold a subject's id, a visit's time and an image's path "
                f"{', '.join(REQUIRED)}."
            )
        return table


def _read_labels(path: Path, subject: str, frame: int | None) -> Volume:
    """Read the label map of a visit: a 3D one, or the frame of a 4D one."""
    series = len(open_image(path, subject).shape) == 4
    return read_volume(path, subject, frame if series else None)


def _no_number(cell: str, advice: str) -> str:
    """Return advice for a cell that is not a number."""
    return f"write {cell.replace(',', '.')} with a decimal point" if has_decimal_comma(cell) else advice
