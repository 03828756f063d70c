"""The TSV tables of a BIDS data set and the JSON files beside them."""

import csv
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from longigen import BadData, Finding

MISSING = ("", "n/a", "na", "nan")
"""How a missing value is written: BIDS says ``n/a``."""

POINTER = b"/annex/objects/"
"""How a file of git-annex begins in an unlocked checkout that does not hold its content."""


class Table(NamedTuple):
    """A table: its `columns`, and its `rows` by the label in their key column; `repeated` are labels of several rows.

    A table that does not exist has no columns.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    repeated: frozenset[str]


def read_table(path: Path, key: str, subject: str = "", prefix: str = "") -> Table:
    """Read a table.

    Args:
        path: of the table; it need not exist.
        key: the column that names a row.
        subject: whose it is, for messages.
        prefix: what labels start with, such as ``ses-``; it is put before those that lack it.

    Raises:
        BadData: if it cannot be read, has no column `key`, or has a row of another length than its header's.
    """

    def bad(where: str, problem: str, advice: str) -> BadData:
        return BadData(Finding("bad-table", f"{path}{where}", problem, advice, subject))

    if not path.exists():
        if path.is_symlink():
            raise BadData(not_fetched(path, subject))
        return Table(path, (), {}, frozenset())
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t")
            columns = tuple(name.strip() for name in next(reader, []))
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad("", f"cannot be read ({error})", "save it as a table in UTF-8, separated by tabs") from None
    if key not in columns:
        has = f"it has: {', '.join(columns)}" if any(columns) else "it is empty"
        raise bad("", f"has no column '{key}' ({has})", "BIDS tables are separated by tabs and begin with it")
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
    """Read a JSON object; one that does not exist is empty.

    Raises:
        BadData: if it cannot be read, or holds something else.
    """
    if not path.exists():
        if path.is_symlink():
            raise BadData(not_fetched(path, subject))
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadData(
            Finding("bad-json", str(path), f"cannot be read ({error})", "correct or remove it", subject)
        ) from None
    if not isinstance(content, dict):
        raise BadData(Finding("bad-json", str(path), "holds no JSON object", "correct or remove it", subject))
    return content


def not_fetched(path: Path, subject: str) -> Finding:
    """Return the finding for a file of which only git-annex's link is here."""
    advice = f"fetch it with `datalad get {path}` or `git annex get {path}`, or correct the link"
    return Finding("missing-file", str(path), "is a link to content that is not here", advice, subject)


def is_not_fetched(path: Path) -> bool:
    """Say whether a file is a link into nothing, or what git-annex leaves where links are not used."""
    if path.is_symlink() and not path.exists():
        return True
    if not path.is_file() or path.stat().st_size > 4096:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def missing(cell: str) -> bool:
    return cell.lower() in MISSING


def number(cell: str) -> float | None:
    """Return a finite number, or None for any other text."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def date(cell: str) -> datetime | None:
    """Return an ISO 8601 date or date-time, in UTC where it names a zone, or None for any other text."""
    try:
        value = datetime.fromisoformat(cell)
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except (ValueError, OverflowError):
        return None
