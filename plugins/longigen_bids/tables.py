"""Read the TSV tables of a BIDS data set and their JSON files."""

import csv
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from longigen import BadData, Finding

MISSING = ("", "n/a", "na", "nan")
"""Spellings of a missing value; BIDS uses ``n/a``."""

POINTER = b"/annex/objects/"
"""Start of a git-annex file whose content was not fetched, in an unlocked checkout."""


class Table(NamedTuple):
    """A table; if its file does not exist it has no columns.

    Attributes:
        path: path of the file.
        columns: names of the columns.
        rows: rows by their label, the content of the key column.
        repeated: labels that several rows have.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    repeated: frozenset[str]


def read_table(path: Path, key: str, subject: str = "", prefix: str = "") -> Table:
    """Read a table.

    Args:
        path: path of the table, which need not exist.
        key: the column with the labels of the rows.
        subject: id of the subject, for messages.
        prefix: prefix of labels, such as ``ses-``, added to labels without it.

    Raises:
        BadData: if the table cannot be read, has no column `key`, or has a row with another length than its header.
    """

    def bad(where: str, problem: str, advice: str) -> BadData:
        return BadData(Finding("bad-table", f"{path}{where}", problem, advice, subject))

    if not path.exists():
        if path.is_symlink():
            raise BadData(not_fetched(path, subject))
        return Table(path, (), {}, frozenset())
    if not path.is_file():
        raise bad("", "cannot be read (it is not a regular file)", "replace or remove it")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t")
            columns = tuple(name.strip() for name in next(reader, []))
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad("", f"cannot be read ({error})", "save it as a table in UTF-8, separated by tabs") from None
    if key not in columns:
        has = f"it has: {', '.join(columns)}" if any(columns) else "it is empty"
        raise bad("", f"has no column '{key}' ({has})", "add it as the first column, and separate columns by tabs")
    if len(set(columns)) < len(columns):
        raise bad("", "has a column twice", "give each column a name of its own")
    rows: dict[str, dict[str, str]] = {}
    repeated = set()
    for line, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            problem = f"has {len(cells)} cells where the header has {len(columns)} columns"
            raise bad(f", line {line}", problem, "add or remove a tab; a missing value is written n/a")
        row = dict(zip(columns, cells, strict=True))
        label = row[key] if row[key].startswith(prefix) else prefix + row[key]
        if label in rows:
            repeated.add(label)
        rows.setdefault(label, row)
    return Table(path, columns, rows, frozenset(repeated))


def read_json(path: Path, subject: str = "") -> Mapping[str, Any]:
    """Read a JSON object; it is empty if the file does not exist.

    Raises:
        BadData: if the file cannot be read or is not a JSON object.
    """
    if not path.exists():
        if path.is_symlink():
            raise BadData(not_fetched(path, subject))
        return {}
    if not path.is_file():
        raise BadData(
            Finding("bad-json", str(path), "cannot be read (it is not a regular file)", "replace or remove it", subject)
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # the last: nested too deeply
        raise BadData(
            Finding("bad-json", str(path), f"cannot be read ({error})", "correct or remove it", subject)
        ) from None
    if not isinstance(content, dict):
        raise BadData(Finding("bad-json", str(path), "is not a JSON object", "correct or remove it", subject))
    return content


def not_fetched(path: Path, subject: str) -> Finding:
    """Return the finding for a git-annex file whose content was not fetched."""
    advice = f"fetch it with `datalad get {path}` or `git annex get {path}`, or correct the link"
    return Finding("missing-file", str(path), "is a link to a file that does not exist", advice, subject)


def is_not_fetched(path: Path) -> bool:
    """Return whether a file is a broken link or a git-annex pointer, that is its content was not fetched."""
    if path.is_symlink() and not path.exists():
        return True
    if not path.is_file() or path.stat().st_size > 4096:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def missing(cell: str) -> bool:
    """Return whether a cell is a missing value."""
    return cell.lower() in MISSING


def number(cell: str) -> float | None:
    """Return a finite number, or None for any other text."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def date(cell: str) -> datetime | None:
    """Return an ISO 8601 date or date-time (converted to UTC if it has a time zone), or None for any other text."""
    try:
        value = datetime.fromisoformat(cell)
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except (ValueError, OverflowError):
        return None
