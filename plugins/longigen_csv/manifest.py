"""A manifest: one row per visit, in a CSV or TSV file."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nibabel.spatialimages import SpatialImage

from longigen import (
    Dataset,
    LongigenError,
    Subject,
    Visit,
    canonical_shape,
    did_you_mean,
    open_image,
    read_volume,
    spatial_shape,
)

REQUIRED = ("subject", "time", "path")
MISSING = ("", "n/a", "na", "nan")
TIME_UNITS = ("years", "months", "weeks", "days", "hours", "seconds", "cycle", "frames", "index")


class Row(NamedTuple):
    """One visit as the manifest has it; `line` counts from 1, `cells` are the covariates' texts by column."""

    line: int
    subject: str
    time: float
    path: Path
    frame: int | None
    cells: Mapping[str, str]


class CSVDataset(Dataset):
    """A manifest in UTF-8, with the columns ``subject``, ``time`` and ``path``.

    Each row is a visit: a 3D NIfTI at `path` (relative to the manifest), or one frame of a 4D one, counted from 0 in
    the column ``frame``. Any other column is a covariate: numbers as they are, text as the index of the label among the
    column's labels in alphabetical order (`levels`); empty, ``n/a``, ``NA`` and ``NaN`` are missing. Subjects come in
    the order in which they first appear, visits in order of time. ``.tsv`` is separated by tabs, anything else by
    commas.

    Args:
        path: of the manifest.
        time_unit: of the column ``time``: years, months, weeks, days, hours, seconds, cycle, frames or index.

    Raises:
        LongigenError: for another time unit, and from `subjects` and `levels` for whatever is wrong in the manifest, or
            in the header of an image, with its line.
    """

    def __init__(self, *, path: Path, time_unit: str = "years") -> None:
        super().__init__()
        if time_unit not in TIME_UNITS:
            raise LongigenError(
                f"There is no time unit '{time_unit}'.{did_you_mean(time_unit, TIME_UNITS)} "
                f"There is: {', '.join(TIME_UNITS)}."
            )
        self.path = Path(path)
        self.time_unit = time_unit

    @classmethod
    def claims(cls, path: Path) -> bool:
        return path.suffix.lower() in (".csv", ".tsv")

    def subjects(self) -> Sequence[Subject]:
        return self._subjects

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each column of text, in the order of their codes: 0, 1, …"""
        return {name: labels for name, labels in self._covariates.items() if labels is not None}

    @cached_property
    def _subjects(self) -> tuple[Subject, ...]:
        rows: dict[str, list[Row]] = {}
        for row in self._rows:
            rows.setdefault(row.subject, []).append(row)
        for visits in rows.values():
            visits.sort(key=lambda row: row.time)
            for first, second in pairwise(visits):
                if first.time == second.time:
                    raise LongigenError(
                        f"{self.path}, lines {first.line} and {second.line}: subject {first.subject} has two visits at "
                        f"time {first.time:g}; correct one, or remove it."
                    )
        images: dict[Path, SpatialImage] = {}
        return tuple(Subject(name, tuple(self._visit(row, images) for row in visits)) for name, visits in rows.items())

    def _visit(self, row: Row, images: dict[Path, SpatialImage]) -> Visit:
        try:
            if row.path not in images:
                images[row.path] = open_image(row.path, row.subject)
            image = images[row.path]
            shape = spatial_shape(image, row.path, row.subject, row.frame)
        except LongigenError as error:
            raise LongigenError(f"{self.path}, line {row.line}: {error}") from None
        assert image.affine is not None
        return Visit(
            time=row.time,
            load=partial(read_volume, row.path, row.subject, row.frame),
            shape=canonical_shape(image.affine, shape),
            source=str(row.path) if row.frame is None else f"{row.path}, frame {row.frame}",
            covariates={
                name: float(cell) if labels is None else float(labels.index(cell))
                for name, labels in self._covariates.items()
                if not _missing(cell := row.cells[name])
            },
        )

    @cached_property
    def _covariates(self) -> dict[str, tuple[str, ...] | None]:
        """The covariates' columns, with the labels of those that hold text."""
        columns: dict[str, tuple[str, ...] | None] = {}
        for name in self._rows[0].cells:
            given = [(row.line, row.cells[name]) for row in self._rows if not _missing(row.cells[name])]
            text = [(line, cell) for line, cell in given if _number(cell) is None]
            if text and len(text) < len(given):
                line, cell = text[0]
                raise LongigenError(
                    f"{self.path}, line {line}: column '{name}' holds numbers elsewhere but {cell!r} here; correct it, "
                    "leave it empty, or write text in the whole column."
                )
            columns[name] = tuple(sorted({cell for _, cell in text})) if text else None
        return columns

    @cached_property
    def _rows(self) -> tuple[Row, ...]:
        rows = tuple(self._row(line, cells) for line, cells in self._lines())
        if not rows:
            raise LongigenError(f"{self.path} has no row below its header; write one per visit.")
        return rows

    def _row(self, line: int, cells: dict[str, str]) -> Row:
        def refuse(column: str, why: str) -> LongigenError:
            subject = f" (subject {cells['subject']})" if cells["subject"] else ""
            return LongigenError(f"{self.path}, line {line}{subject}: {column} {cells[column]!r} {why}.")

        subject = cells["subject"]
        if not subject or subject in (".", "..") or not subject.isprintable() or any(c in subject for c in "/\\"):
            raise refuse("subject", "cannot name a file; use letters, digits, '-' and '_'")
        time = _number(cells["time"])
        if time is None:
            raise refuse("time", f"is not a finite number of {self.time_unit}; correct it, or remove the row")
        if not cells["path"] or "\0" in cells["path"]:
            raise refuse("path", "names no file; write the path of the visit's image, or remove the row")
        frame = None
        if not _missing(cells.get("frame", "")):
            number = _number(cells["frame"])
            if number is None or number < 0 or not number.is_integer():
                raise refuse("frame", "is not a whole number from 0")
            frame = int(number)
        covariates = {name: cell for name, cell in cells.items() if name not in (*REQUIRED, "frame")}
        return Row(line, subject, time, self.path.parent / cells["path"], frame, covariates)

    def _lines(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Give each row's line number and cells by column, stripped; empty lines are skipped."""
        if not self.path.is_file():
            raise LongigenError(f"{self.path} is not a file; give the path of a CSV or TSV manifest.")
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                header = [name.strip() for name in next(reader, [])]
                self._check_header(header)
                for cells in reader:
                    if not any(cell.strip() for cell in cells):
                        continue
                    if len(cells) != len(header):
                        raise LongigenError(
                            f"{self.path}, line {reader.line_num}: {len(cells)} cells where the header has "
                            f"{len(header)} columns; add or remove a separator, or quote a text that holds one."
                        )
                    yield reader.line_num, {n: c.strip() for n, c in zip(header, cells, strict=True)}
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise LongigenError(f"{self.path} cannot be read ({error}); save it as CSV or TSV in UTF-8.") from None

    def _check_header(self, header: Sequence[str]) -> None:
        if not any(header):
            raise LongigenError(f"{self.path} is empty; its first line must name the columns {', '.join(REQUIRED)}.")
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise LongigenError(
                f"{self.path} has no column {' and no column '.join(map(repr, missing))}; its columns are: "
                f"{', '.join(header)}."
            )
        twice = [name for index, name in enumerate(header) if name in header[:index] or not name]
        if twice:
            raise LongigenError(
                f"{self.path} has a column {twice[0]!r} twice, or without a name; give each column a name of its own."
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
