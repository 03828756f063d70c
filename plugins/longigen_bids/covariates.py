"""Covariates of subjects and sessions, as numbers, from the tables of a BIDS data set."""

from collections.abc import Collection, Mapping, Sequence

from longigen import has_decimal_comma, is_missing, parse_number
from longigen_bids.tables import Table, date


class Covariates:
    """The covariates of ``participants.tsv`` and ``sub-*_sessions.tsv``; the latter has precedence.

    Ids (``*_id``), dates and the columns `without` are left out. A column with at least one number is numeric, and text
    in it counts as missing; any other column is categorical.

    Args:
        participants: the table of subjects.
        sessions: the table of sessions of each subject.
        without: names of columns that are not covariates.
    """

    def __init__(self, participants: Table, sessions: Mapping[str, Table], without: Collection[str]) -> None:
        self._participants = participants
        self._sessions = sessions
        cells: dict[str, set[str]] = {}
        for table in (participants, *sessions.values()):
            for row in table.rows.values():
                for name, cell in row.items():
                    if name not in without and not name.endswith("_id") and not is_missing(cell):
                        cells.setdefault(name, set()).add(cell)
        self._labels: dict[str, Sequence[str] | None] = {}
        self.taken_as_missing: dict[str, Sequence[str]] = {}
        """The texts in numeric columns, by name of the column."""
        for name, values in cells.items():
            text = sorted(cell for cell in values if parse_number(cell) is None)
            if len(text) < len(values) or any(map(has_decimal_comma, text)):
                self._labels[name] = None
                if text:
                    self.taken_as_missing[name] = text
            elif not all(date(cell) for cell in text):
                self._labels[name] = tuple(text)

    @property
    def numeric(self) -> Sequence[str]:
        """The names of the numeric columns."""
        return [name for name, labels in self._labels.items() if labels is None]

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each categorical column, in the order of their codes 0, 1, …"""
        return {name: tuple(labels) for name, labels in self._labels.items() if labels is not None}

    def of(self, subject: str, session: str) -> Mapping[str, float]:
        """Return the covariates of a session, by name; missing ones are absent."""
        rows = (self._participants.rows.get(subject, {}), self._sessions[subject].rows.get(session, {}))
        covariates = {}
        for row in rows:
            for name, cell in row.items():
                if name not in self._labels or is_missing(cell):
                    continue
                labels = self._labels[name]
                value = parse_number(cell) if labels is None else float(labels.index(cell))
                if value is not None:
                    covariates[name] = value
        return covariates
