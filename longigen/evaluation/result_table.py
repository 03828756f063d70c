"""Tables of results as text for a terminal, Markdown, LaTeX and CSV."""

import abc
import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from textwrap import fill
from typing import Any

WIDTH = 120
"""The largest width of a table in a file, in characters; a terminal may be narrower."""

UNLIMITED = 10_000
"""More than any table needs."""

LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "√": r"$\surd$",
    "<": r"$<$",
    ">": r"$>$",
}
"""What stands in LaTeX for characters that text cannot have, or that few fonts have."""
NEGATIVE = re.compile(r"(?<![\w.-])-(?=\d)")


@dataclass(frozen=True)
class ResultTable:
    """A table with a title above and notes below.

    Attributes:
        columns: names of the columns.
        lines: lines of cells; None starts a new section.
        left: number of columns aligned to the left, which name the lines; the others are aligned to the right.
        title: title above the table.
        notes: notes below the table, one line each.
    """

    columns: Sequence[str]
    lines: Sequence[Sequence[str] | None]
    left: int = 1
    title: str | None = None
    notes: Sequence[str] = ()

    def text(self, width: int = WIDTH) -> str:
        """Return the table as plain text of at most `width` characters per line.

        If its columns need more, those that do not fit stand in further tables below, each with the columns on the
        left. A line is longer where one column alone needs more.
        """
        from rich.cells import cell_len

        columns, lines, left = self.columns, self.lines, self.left
        widths = [
            2
            + max(
                cell_len(text) for cell in (name, *(line[place] for line in lines if line)) for text in cell.split("\n")
            )
            for place, name in enumerate(columns)
        ]
        blocks: list[list[int]] = []
        free = 0
        for place in range(left, len(columns)):
            if widths[place] > free or not blocks:
                blocks.append([])
                free = width - sum(widths[:left])
            blocks[-1].append(place)
            free -= widths[place]
        tables = []
        for block in blocks:
            shown = [*range(left), *block]
            part = [None if line is None else [line[place] for place in shown] for line in lines]
            tables.append(_plain([columns[place] for place in shown], part, left, edges=self.title is not None))
        above, below = (filled(part, width) for part in (self.title or "", "\n".join(self.notes)))
        return "\n\n".join(part for part in (above, *tables, below) if part)

    def markdown(self) -> str:
        """Return the table in Markdown, with the notes as a list."""

        def line(cells: Sequence[str]) -> str:
            return f"| {' | '.join(_one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"

        rule = f"|{'|'.join('---' if place < self.left else '--:' for place in range(len(self.columns)))}|"
        table = "\n".join([line(self.columns), rule, *map(line, filter(None, self.lines))])
        notes = "\n".join(f"- {_one_line(note)}" for note in self.notes)
        return "\n\n".join(part for part in (_paragraph(self.title or ""), table, notes) if part)

    def latex(self) -> str:
        """Return the table in LaTeX, for the packages booktabs and amssymb, with the title as its caption."""

        def line(cells: Sequence[str]) -> str:
            return f"{' & '.join(_latex(_one_line(cell)) for cell in cells)} \\\\"

        lines = [line(cells) if cells is not None else r"\midrule" for cells in self.lines]
        while lines and lines[-1] == r"\midrule":
            lines.pop()
        caption = [f"\\caption{{{_latex(_one_line(self.title))}}}"] if self.title else []
        notes = [f"\\par\\raggedright {_latex(_one_line(note))}" for note in self.notes]
        alignment = "l" * self.left + "r" * (len(self.columns) - self.left)
        return "\n".join(
            [
                r"\begin{table}\centering\footnotesize",
                *caption,
                f"\\begin{{tabular}}{{{alignment}}}",
                r"\toprule",
                line(self.columns),
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )


class Tabular(abc.ABC):
    """A result that is written as tables and prose, and as records."""

    @property
    @abc.abstractmethod
    def blocks(self) -> Sequence[ResultTable | str]:
        """The tables, and the prose between them, in order."""

    @property
    @abc.abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The values of the tables as records with equal keys; NaN where a value is not defined."""

    def table(self, width: int = WIDTH) -> str:
        """Return the results as text.

        Args:
            width: the largest number of characters in a line; a table that needs more is split by columns.
        """
        return "\n\n".join(
            filled(block, width) if isinstance(block, str) else block.text(width) for block in self.blocks
        )

    def to_markdown(self) -> str:
        """Return the results in Markdown."""
        return "\n\n".join(_paragraph(block) if isinstance(block, str) else block.markdown() for block in self.blocks)

    def to_latex(self) -> str:
        """Return the results in LaTeX, for the packages booktabs and amssymb."""
        blocks = [_latex(_one_line(block)) if isinstance(block, str) else block.latex() for block in self.blocks]
        return "\n\n".join(["% needs \\usepackage{booktabs,amssymb}", *blocks])

    def to_csv(self) -> str:
        """Return the `records` as CSV, with empty cells where a value is not defined."""
        file = StringIO(newline="")
        records = self.records
        writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerow({name: "" if isinstance(v, float) and math.isnan(v) else v for name, v in record.items()})
        return file.getvalue().rstrip("\n")


def filled(text: str, width: int) -> str:
    """Return lines of prose with at most `width` characters each, broken between words; a longer word stays whole."""
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())


def plain_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON allows it: None for NaN and infinity."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in record.items()}


def _plain(columns: Sequence[str], lines: Sequence[Sequence[str] | None], left: int, *, edges: bool) -> str:
    """Return a table as plain text, as wide as it needs; with `edges` it is indented by a space."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 1) if edges else (0, 2, 0, 0),
        collapse_padding=edges,
        pad_edge=edges,
    )
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if place < left else "right")
    for line in lines:
        if line is None:
            table.add_section()
        else:
            table.add_row(*map(Text, line))
    buffer = StringIO()
    Console(file=buffer, width=UNLIMITED, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _paragraph(prose: str) -> str:
    """Return prose in Markdown, which keeps its lines."""
    return "  \n".join(prose.splitlines())


def _latex(text: str) -> str:
    escaped = "".join(LATEX.get(sign, sign) for sign in NEGATIVE.sub("\0", text))
    return escaped.replace("\0", "$-$")
