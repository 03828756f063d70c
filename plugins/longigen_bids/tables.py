"""Read the TSV tables of a BIDS data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import longigen
from longigen import BadData, Finding, require_fetched


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

    def over(self, other: "Table") -> "Table":
        """Return this table with the rows and cells that only another one has."""
        columns = tuple(dict.fromkeys((*self.columns, *other.columns)))
        labels = dict.fromkeys((*self.rows, *other.rows))
        rows = {label: {**other.rows.get(label, {}), **self.rows.get(label, {})} for label in labels}
        return Table(self.path, columns, rows, self.repeated | other.repeated)


def read_table(path: Path, key: str, subject: str = "", prefix: str = "") -> Table:
    """Read a table.

    Args:
        path: path of the table, which need not exist.
        key: the column with the labels of the rows.
        subject: id of the subject, for messages.
        prefix: prefix of labels, such as ``ses-``, added to labels without it.

    Raises:
        BadData: as `longigen.read_table`; also if the table has no column `key`, or a row that cannot be read.
    """

    def bad(problem: str, advice: str) -> BadData:
        return BadData(Finding("bad-table", str(path), problem, advice, subject))

    if not path.exists():
        require_fetched(path, subject)
        return Table(path, (), {}, frozenset())
    table = longigen.read_table(path, subject)
    if table.findings:
        raise BadData(replace(table.findings[0], kind="bad-table"))
    if key not in table.columns:
        has = f"it has: {', '.join(table.columns)}" if table.columns else "it is empty"
        raise bad(f"has no column '{key}' ({has})", "add it as the first column, and separate columns by tabs")
    return _labelled(path, table.columns, [row for _, row in table.rows], key, prefix)


def read_participants(path: Path) -> tuple[Table, Mapping[str, Table]]:
    """Read ``participants.tsv``, which may have a row per session and a column ``session_id`` or ``session``.

    Returns:
        the table of the subjects, and of such a table the sessions of each subject. What differs between the sessions
        of a subject is not in the former; a differing ``split`` makes its rows repeated.

    Raises:
        BadData: as `read_table`.
    """
    participants = read_table(path, "participant_id", prefix="sub-")
    column = next((name for name in ("session_id", "session") if name in participants.columns), None)
    if column is None or not participants.repeated:
        return participants, {}
    by_subject: dict[str, list[Mapping[str, str]]] = {}
    for _, row in longigen.read_table(path).rows:
        by_subject.setdefault(f"sub-{row['participant_id'].removeprefix('sub-')}", []).append(row)
    columns = tuple(name for name in participants.columns if name != column)
    shared = {
        subject: {name: rows[0][name] for name in columns if all(row[name] == rows[0][name] for row in rows)}
        for subject, rows in by_subject.items()
    }
    undecided = frozenset(s for s, rows in by_subject.items() if len({row.get("split") for row in rows}) > 1)
    sessions = {}
    for subject, rows in by_subject.items():
        table = _labelled(path, columns, rows, column, "ses-")
        cells = {session: {name: row[name] for name in columns} for session, row in table.rows.items()}
        sessions[subject] = table._replace(rows=cells)
    return Table(path, columns, shared, undecided), sessions


def _labelled(path: Path, columns: tuple[str, ...], lines: Sequence[Mapping[str, str]], key: str, prefix: str) -> Table:
    rows: dict[str, Mapping[str, str]] = {}
    repeated = set()
    for row in lines:
        label = row[key] if row[key].startswith(prefix) else prefix + row[key]
        if label in rows:
            repeated.add(label)
        rows.setdefault(label, row)
    return Table(path, columns, rows, frozenset(repeated))


def date(cell: str) -> datetime | None:
    """Return an ISO 8601 date or date-time (converted to UTC if it has a time zone), or None for any other text."""
    try:
        value = datetime.fromisoformat(cell)
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except (ValueError, OverflowError):
        return None
