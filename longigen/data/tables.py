"""Read tables (CSV, TSV) and the numbers in them, strictly: what could be read in two ways is refused or said."""

import codecs
import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from longigen.data.issues import BadData, Finding
from longigen.data.pointers import require_fetched
from longigen.utils.files import regular_size

MISSING = ("", "n/a", "na", "nan")
"""Spellings of a missing value, in lower case; BIDS uses ``n/a``."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")


class TableRow(NamedTuple):
    """A row: the number of its line in the file, from 1, and its cells as text, by column."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        path: path of the file.
        columns: names of the columns; none if the file is empty.
        rows: the rows; empty ones are left out.
        findings: the rows that cannot be read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    findings: tuple[Finding, ...]


def read_table(path: Path, subject: str = "") -> Table:
    """Read a table in UTF-8 (or UTF-16 with a byte-order mark) whose first line names its columns.

    - Columns are separated by tabs in a ``.tsv`` file, else by commas. White space around cells is removed.
    - A row is a line. In CSV a cell with a comma or a quote is quoted (RFC 4180). In TSV a quote has no meaning, as in
      BIDS; only a cell that starts and ends with one is taken without them, as spreadsheets write it. So a stray quote
      never swallows the lines below it.
    - A row with another number of cells than there are columns is a finding, and so is each line of a row with a line
      break in a quoted cell.

    Args:
        path: path of the table.
        subject: id of the subject, for messages.

    Raises:
        BadData: if the file was not fetched or cannot be read, has NUL characters, is separated in another way, or has
            two columns with one name or a column without one.
    """

    def bad(problem: str, advice: str, line: int | None = None) -> Finding:
        where = "" if line is None else f", line {line}"
        return Finding("bad-table" if line is None else "bad-row", f"{path}{where}", problem, advice, subject)

    require_fetched(path, subject)
    try:
        lines = _text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except (OSError, UnicodeError) as error:
        raise BadData(bad(f"cannot be read ({error})", "save it as CSV or TSV in UTF-8")) from None
    tabs = path.suffix.lower() == ".tsv"
    columns = _cells(lines[0], tabs=tabs) or []
    if not any(columns):
        return Table(path, (), (), ())
    other = next((name for mark, name in SEPARATORS.items() if mark in columns[0]), None) if len(columns) == 1 else None
    if other is not None:
        advice = "separate its columns by tabs" if tabs else "separate them by commas, or by tabs in a file named .tsv"
        points = ", and write numbers with a decimal point" if other == "semicolons" else ""
        raise BadData(bad(f"has columns that are separated by {other}", advice + points))
    twice = [name for place, name in enumerate(columns) if not name or name in columns[:place]]
    if twice:
        problem = f"has two columns {twice[0]!r}, or one without a name"
        raise BadData(bad(problem, "give each column its own name, and end no line with a separator"))
    rows, findings = [], []
    in_broken_cells = _in_broken_cells(lines, len(columns), tabs=tabs)
    for line, text in enumerate(lines[1:], start=2):
        cells = _cells(text, tabs=tabs)
        if line in in_broken_cells:
            findings.append(bad("is a part of a row with a line break in a cell", "write each row in one line", line))
        elif cells is None and len(text) > csv.field_size_limit():
            findings.append(bad(f"has {len(text)} characters, more than a row has", "correct or remove it", line))
        elif cells is None:
            advice = "remove the quote, or the line break inside of its cell; a quote inside of quotes is written twice"
            findings.append(bad("has a quote that is not closed on its line", advice, line))
        elif not any(cells):
            continue
        elif len(cells) != len(columns):
            problem = f"has {len(cells)} cells where the header has {len(columns)} columns"
            advice = "add or remove a " + ("tab" if tabs else "comma, or quote text that contains one")
            findings.append(bad(problem, f"{advice}; a missing value is written n/a", line))
        else:
            rows.append(TableRow(line, dict(zip(columns, cells, strict=True))))
    return Table(path, tuple(columns), tuple(rows), tuple(findings))


def is_missing(cell: str) -> bool:
    """Return whether a cell is a missing value: empty, ``n/a``, ``NA`` or ``NaN``."""
    return cell.lower() in MISSING


def parse_number(text: str) -> float | None:
    """Return the finite number that a text is, written as in ``-1.5`` or ``2e3``, or None for any other text.

    Python's `float` also takes ``1_2``, ``infinity`` and the digits of other scripts.
    """
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def has_decimal_comma(text: str) -> bool:
    """Return whether a text is a number with a decimal comma, such as ``0,5``, which is never read as a number."""
    return _DECIMAL_COMMA.fullmatch(text) is not None


def _text(path: Path) -> str:
    regular_size(path)  # a pipe or a device would never end
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    if "\0" in text:
        raise UnicodeError("it has NUL characters, as UTF-16 without a byte-order mark and binary files do")
    return text


def _in_broken_cells(lines: Sequence[str], width: int, *, tabs: bool) -> set[int]:
    """Return the numbers of the lines, from 1, that are parts of a row with a line break in a quoted cell.

    A cell of one line opens with a quote and one of a later line closes with a quote, and not all of these lines have
    `width` cells: two whole rows with a stray quote each are no such row.
    """
    separator = "\t" if tabs else ","
    found: set[int] = set()
    start, wrong = 0, False
    for line, text in enumerate(lines[1:], start=2):
        cells = _cells(text, tabs=tabs)
        whole = cells is not None and len(cells) == width
        pieces = [piece.strip() for piece in text.split(separator)]
        if start and _unpaired(pieces[0], -1) and (wrong or not whole):
            found.update(range(start, line + 1))
            start = 0
        elif start and whole:
            start = 0
        if not start and _unpaired(pieces[-1], 0):
            start, wrong = line, False
        wrong = wrong or not whole
    return found


def _unpaired(piece: str, end: int) -> bool:
    """Return whether a piece of a line has a quote at one end, 0 or -1, and not at the other."""
    return piece != "" and piece[end] == '"' and (len(piece) == 1 or piece[-1 - end] != '"')


def _cells(line: str, *, tabs: bool) -> list[str] | None:
    """Return the cells of a line, or None if a quote is not closed."""
    if tabs:
        cells = [cell.strip() for cell in line.split("\t")]
        quoted = [len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells]
        return [cell[1:-1].replace('""', '"') if q else cell for cell, q in zip(cells, quoted, strict=True)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True), [])]
    except csv.Error:
        return None
