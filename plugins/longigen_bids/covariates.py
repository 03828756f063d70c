"""What the tables of a BIDS data set say of its subjects and sessions, as numbers."""

from collections.abc import Collection, Mapping, Sequence

from longigen_bids.tables import Table, date, missing, number


class Covariates:
    """The columns of ``participants.tsv`` and ``sub-*_sessions.tsv``, the latter above the former.

    Left out are ids (``*_id``), dates, and the columns `without`. A column with any number holds numbers, and text in
    it is missing; any other holds labels.

    Args:
        participants: the table of subjects.
        sessions: the table of sessions, by subject.
        without: the names of columns that are not covariates.
    """

    def __init__(self, participants: Table, sessions: Mapping[str, Table], without: Collection[str]) -> None:
        self._participants = participants
        self._sessions = sessions
        cells: dict[str, set[str]] = {}
        for table in (participants, *sessions.values()):
            for row in table.rows.values():
                for name, cell in row.items():
                    if name not in without and not name.endswith("_id") and not missing(cell):
                        cells.setdefault(name, set()).add(cell)
        self._labels: dict[str, Sequence[str] | None] = {}
        self.taken_as_missing: dict[str, Sequence[str]] = {}
        """The texts in columns of numbers."""
        for name, given in cells.items():
            text = sorted(cell for cell in given if number(cell) is None)
            if len(text) < len(given):
                self._labels[name] = None
                if text:
                    self.taken_as_missing[name] = text
            elif not all(date(cell) for cell in text):
                self._labels[name] = tuple(text)

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each column of text, in the order of their codes: 0, 1, …"""
        return {name: tuple(labels) for name, labels in self._labels.items() if labels is not None}

    def of(self, subject: str, session: str) -> Mapping[str, float]:
        """Return what is known of a session."""
        rows = (self._participants.rows.get(subject, {}), self._sessions[subject].rows.get(session, {}))
        found = {}
        for row in rows:
            for name, cell in row.items():
                if name not in self._labels or missing(cell):
                    continue
                labels = self._labels[name]
                value = number(cell) if labels is None else float(labels.index(cell))
                if value is not None:
                    found[name] = value
        return found
