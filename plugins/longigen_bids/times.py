"""Times of the sessions of a BIDS data set: the choice of their column and its unit."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from longigen import BadData, Finding, LongigenError, has_decimal_comma, is_missing, parse_number, read_sidecar
from longigen import time_unit as known_unit
from longigen_bids.layout import stem_of
from longigen_bids.tables import Table, date, read_table

Session = tuple[str, str]
"""A subject and a session, by their labels."""

TIME = "time"
"""A column that is the time of the visit if its unit is stated, and else may be the time of the day."""
LABEL, LABEL_DATE = "session_label", re.compile(r"ses-(\d{4}-?\d\d-?\d\d)")
DATES = ("acq_time", "acq_date", "session_date", "scan_date", "visit_date", "examination_date")
DATES += ("acquisitiondatetime", LABEL)
SINCE = re.compile(r"(day|week|month|year)s?(_(from|since)_(baseline|first_[a-z]+))?", re.IGNORECASE)
CALENDAR = ("day", "week", "year")
"""Names that match `SINCE` but usually contain a part of a date."""

UNITS = {
    "years": ("y", "yr", "yrs", "year", "a"),
    "months": ("mo", "mos", "month"),
    "weeks": ("w", "wk", "wks", "week"),
    "days": ("d", "day"),
    "hours": ("h", "hr", "hrs", "hour"),
    "minutes": ("min", "mins", "minute"),
    "seconds": ("s", "sec", "secs", "second"),
    "milliseconds": ("ms", "msec", "millisecond"),
}
SPELLINGS = {spelling: unit for unit, spellings in UNITS.items() for spelling in spellings}

SECONDS_PER_DAY = 86400


@dataclass(frozen=True)
class Column:
    """A column of times of sessions.

    Attributes:
        name: name of the column.
        cells: content of the column by session.
        file: function from a subject and a session to the file that contains the column.
        broken: problems of files that could not be read, by session.
        cautions: what a user should know of these times.
    """

    name: str
    cells: Mapping[Session, str]
    file: Callable[[str, str], Path]
    broken: Mapping[Session, Finding] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()

    @cached_property
    def dated(self) -> bool:
        """Whether the column contains dates."""
        texts = [cell for cell in self.cells.values() if not is_missing(cell)]
        return self.name.lower() in DATES or all(parse_number(cell) is None for cell in texts)

    @cached_property
    def times(self) -> Mapping[Session, float]:
        """The time of each session: the number, or for dates the days since the subject's first date."""
        if not self.dated:
            values = ((session, parse_number(cell)) for session, cell in self.cells.items())
            return {session: value for session, value in values if value is not None}
        parsed = ((session, date(cell)) for session, cell in self.cells.items())
        dates = {session: value for session, value in parsed if value is not None}
        first: dict[str, datetime] = {}
        for (subject, _), value in dates.items():
            first[subject] = min(value, first.get(subject, value))
        return {s: (value - first[s[0]]).total_seconds() / SECONDS_PER_DAY for s, value in dates.items()}

    @property
    def whole_years(self) -> bool:
        """Whether the column is an age in whole years."""
        return self.name.lower() == "age" and all(time.is_integer() for time in self.times.values())

    def time(self, subject: str, session: str) -> float:
        """Return the time of a session.

        Raises:
            BadData: if it has no time.
        """
        if (subject, session) in self.times:
            return self.times[subject, session]
        if (subject, session) in self.broken:
            raise BadData(self.broken[subject, session])
        file, cell = self.file(subject, session), self.cells.get((subject, session))
        kind, advice = "no-time", f"add its {self.name}, or choose another column with --set time="
        if cell is not None and not is_missing(cell):
            kind, needed = "bad-time", "an ISO date" if self.dated else "a number"
            problem = f"has {self.name} {cell!r} for {session}"
            written = f"{cell.replace(',', '.')} with a decimal point" if has_decimal_comma(cell) else needed
            advice = f"write {written}, or n/a to leave the session out"
        elif cell is not None:
            problem = f"has a missing {self.name} for {session}"
        elif file.exists():
            problem = f"has no {self.name} for {session}"
        else:
            problem, advice = "does not exist", f"create it with the {self.name} of each session"
        raise BadData(Finding(kind, str(file), problem, advice, subject))


def choose_column(columns: Iterable[Column], sessions: Mapping[str, Sequence[str]]) -> Column | None:
    """Return the first of the columns with times for most subjects, or None if no subject has a time.

    A subject counts once if it has a time, and twice if its sessions have at least two different times.
    """
    best, best_score = None, 0
    for column in columns:
        score = 0
        for subject, names in sessions.items():
            times = {column.times[subject, session] for session in names if (subject, session) in column.times}
            score += min(len(times), 2)
        if score > best_score:
            best, best_score = column, score
    return best


def sessions_file(root: Path, subject: str, session: str = "") -> Path:
    """Return the path of the table of a subject's sessions, which is the same for each session."""
    return root / subject / f"{subject}_sessions.tsv"


def scans_file(root: Path, subject: str, session: str) -> Path:
    """Return the path of the table of a session's images."""
    return root / subject / session / f"{subject}_{session}_scans.tsv"


def sidecar_file(images: Mapping[Session, Path], subject: str, session: str) -> Path:
    """Return the path of the JSON sidecar of a session's image."""
    path = images[subject, session]
    return path.with_name(f"{stem_of(path)}.json")


def session_columns(root: Path, tables: Mapping[str, Table]) -> list[Column]:
    """Return the columns of all ``sub-*_sessions.tsv``, in the order of their first appearance."""
    names = dict.fromkeys(name for table in tables.values() for name in table.columns if name != "session_id")
    columns = []
    for name in names:
        with_column = {subject: table for subject, table in tables.items() if name in table.columns}
        cells = {
            (subject, session): row[name]
            for subject, table in with_column.items()
            for session, row in table.rows.items()
        }
        columns.append(Column(name, cells, partial(sessions_file, root)))
    return columns


def by_preference(columns: Sequence[Column], *, time_has_unit: bool, time_is_declared: bool = False) -> list[Column]:
    """Return the columns that contain times by their names, in order of preference (see `BIDSDataset`).

    Args:
        columns: the columns.
        time_has_unit: whether a JSON file states the unit of the column `TIME`.
        time_is_declared: whether it also says that this column is the time of the visit; see `declares_time`.
    """
    order = {"day": 0, "week": 3, "month": 4, "year": 5}
    ranked = []
    for column in columns:
        since = SINCE.fullmatch(column.name)
        if column.name.lower() == "age":
            ranked.append((6 if column.whole_years else 1, column))
        elif column.name.lower() in DATES:
            ranked.append((2, column))
        elif column.name == TIME and time_has_unit:
            ranked.append((-1 if time_is_declared else 7, column))
        elif since and column.name.lower() not in CALENDAR:
            ranked.append((order[since[1].lower()], column))
    return [column for _, column in sorted(ranked, key=lambda item: item[0])]


def declares_time(root: Path) -> bool:
    """Return whether ``sessions.json`` says of the column `TIME` that it is the time of the visit (``VisitTime``).

    longigen writes that into data sets that it prepares, which may have an age or days as covariates.

    Raises:
        BadData: if the file cannot be read.
    """
    described = read_sidecar(root / "sessions.json").get(TIME)
    return isinstance(described, dict) and described.get("VisitTime") is True


def scans_column(root: Path, images: Mapping[Session, Path]) -> Column:
    """Return a column with the ``acq_time`` of each session's image in ``*_scans.tsv``.

    If the table has no row of the image itself, as for a derivative, it is the earliest of the images of its folder and
    suffix, or else of all images of the session, which is a caution.
    """
    cells, broken, others = {}, {}, []
    for (subject, session), image in images.items():
        try:
            table = read_table(scans_file(root, subject, session), "filename", subject)
        except BadData as error:
            broken[subject, session] = error.finding
            continue
        if "acq_time" not in table.columns or not table.rows:
            continue
        folder, suffix = f"{image.parent.name}/", stem_of(image).rpartition("_")[2]
        kin = [name for name in table.rows if name.startswith(folder) and stem_of(Path(name)).endswith(f"_{suffix}")]
        own = f"{folder}{image.name}"
        names = [own] if own in table.rows else kin or list(table.rows)
        if names not in ([own], kin):
            others.append(session)
        texts = [table.rows[name]["acq_time"] for name in names]
        dates = [(value, cell) for cell in texts if (value := date(cell)) is not None]
        cells[subject, session] = min(dates)[1] if dates else texts[0]
    caution = (
        f"*_scans.tsv of {len(others)} sessions has no row of the image, so the earliest of other images is its time."
    )
    return Column("acq_time", cells, partial(scans_file, root), broken, (caution,) if others else ())


def label_column(root: Path, sessions: Iterable[Session]) -> Column:
    """Return a column with the dates in the labels of the sessions, such as ``ses-20150924``; empty if one has none."""
    found = {session: LABEL_DATE.fullmatch(session[1]) for session in sessions}
    cells = {session: match[1] for session, match in found.items() if match and date(match[1])}
    if len(cells) < len(found):
        cells = {}
    caution = "The times are the dates in the labels of the sessions, such as {}, since the data set has no others."
    cautions = (caution.format(next(iter(cells))[1]),) if cells else ()
    return Column(LABEL, cells, lambda subject, session: root / subject / session, {}, cautions)


def sidecar_column(images: Mapping[Session, Path]) -> Column:
    """Return a column with the ``AcquisitionDateTime`` in the JSON sidecar of each image."""
    name = "AcquisitionDateTime"
    cells, broken = {}, {}
    for subject, session in images:
        try:
            sidecar = read_sidecar(sidecar_file(images, subject, session), subject)
        except BadData as error:
            broken[subject, session] = error.finding
            continue
        if name in sidecar:
            cells[subject, session] = str(sidecar[name])
    return Column(name, cells, partial(sidecar_file, images), broken)


def unit_of(column: Column, stated: Mapping[Path, str], declared: str | None) -> str:
    """Return the unit of a column.

    Args:
        column: the column of times.
        stated: the `Units` of the column in JSON files, by file.
        declared: the unit given by the user, which has precedence.

    Raises:
        LongigenError: if the unit is unknown, or files contradict each other.
    """
    if column.dated:
        if declared not in (None, "days"):
            raise LongigenError(
                f"The dates of '{column.name}' are converted to days since the subject's first date; leave out "
                f"time_unit={declared}, or choose another column with --set time=."
            )
        return "days"
    if declared is not None:
        return known_unit(declared)
    by_unit: dict[str, Path] = {}
    for path, text in stated.items():
        by_unit.setdefault(known_unit(known_spelling(text), f"{path}, column '{column.name}'"), path)
    if len(by_unit) > 1:
        units = " and ".join(f"{unit} according to {path}" for unit, path in by_unit.items())
        raise LongigenError(f"The column '{column.name}' is in {units}; correct one of them.")
    if by_unit:
        return next(iter(by_unit))
    if column.name.lower() == "age":
        return "years"  # BIDS: "By default expressed using 'year' as the unit"
    if since := SINCE.fullmatch(column.name):
        return known_unit(f"{since[1].lower()}s")
    raise LongigenError(
        f"The unit of the column '{column.name}' is unknown; give it with --set time_unit=, or as its Units in "
        "sessions.json."
    )


def known_spelling(text: str) -> str:
    """Return the unit that a text such as ``Year`` or ``mo`` spells, or the text itself."""
    spelling = text.lower().removesuffix("(s)")
    return SPELLINGS.get(spelling, spelling)


def stated_units(name: str, root: Path, of_subjects: Mapping[Path, Mapping[str, Any]]) -> Mapping[Path, str]:
    """Return the `Units` of a column by the JSON file that states them.

    For each subject they are read from the first of its ``sub-*_sessions.json``, ``sessions.json`` of the data set (by
    the inheritance principle of BIDS), and ``participants.json``, which may describe a column of the same name.

    Args:
        name: name of the column.
        root: folder of the data set.
        of_subjects: content of each subject's JSON file, by path.

    Raises:
        BadData: if one of the files at the root cannot be read.
    """
    shared = {path: _units(read_sidecar(path), name) for path in (root / "sessions.json", root / "participants.json")}
    nearest = [(path, units) for path, units in shared.items() if units][:1]
    stated = {}
    for path, content in of_subjects.items():
        stated.update([(path, units)] if (units := _units(content, name)) else nearest)
    return stated


def _units(content: Mapping[str, Any], name: str) -> str:
    description = content.get(name)
    units = description.get("Units") if isinstance(description, dict) else None
    return units.strip() if isinstance(units, str) and not is_missing(units.strip()) else ""
