"""``longigen doctor``: is a data set fit to train on."""

import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longigen import api
from longigen_cli.completion import names_in
from longigen_cli.console import AsJSON, Changes, print_json

if TYPE_CHECKING:
    from longigen import Examination, Finding

REPEATED = 5
"""Findings that say the same of more subjects than this are told in one row."""

WIDTH = 120


def doctor(
    data: Annotated[
        str,
        typer.Argument(
            help="A data set's name, a path that one reads, or NAME:PATH.", autocompletion=names_in("datasets")
        ),
    ],
    workers: Annotated[
        int | None, typer.Option(help="Number of subjects read at a time; by default as many as processors.", min=1)
    ] = None,
    changes: Changes = None,
    as_json: AsJSON = False,
) -> None:
    """Read everything of a data set and say what is wrong with it; exit status 1 if something must be mended."""
    started = time.perf_counter()
    found = api.examine(data, changes=changes or [], workers=workers)
    spent = time.perf_counter() - started
    if as_json:
        print_json({"data": data, **found.to_dict()})
    else:
        if found.findings:
            typer.echo(_table(found.findings, found.path))
        typer.echo(_summary(data, changes or [], found, spent))
    if found.errors:
        raise typer.Exit(1)


def _summary(data: str, changes: Sequence[str], examination: "Examination", seconds: float) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    done = f"{count(examination.subjects, 'subject')}, {count(examination.visits, 'visit')} read in {seconds:.0f} s: "
    if examination.findings:
        return done + f"{count(examination.errors, 'error')}, {count(examination.warnings, 'warning')}"
    command = ["longigen", "train", "--data", data, *(word for change in changes for word in ("--set", change))]
    return done + f"nothing is wrong; next: {shlex.join(command)}"


def _table(findings: "Sequence[Finding]", path: Any) -> str:
    """Return the findings as text, `WIDTH` columns at most; what is found again and again is one row."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), width=WIDTH)
    table.add_column("severity", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("subject", overflow="fold", max_width=18)
    table.add_column("file", overflow="fold", max_width=26)
    table.add_column("problem", overflow="fold", ratio=1)
    table.add_column("what to do", overflow="fold", width=18)
    for group in _groups(findings):
        first = group[0]
        subject, file, problem = first.subject, _shortened(first.source, path), _shortened(first.problem, path)
        if len(group) > 1:
            names = list(dict.fromkeys(finding.subject for finding in group))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            subject, file = ", ".join(names[:3]) + more, f"{file} and {len(group) - 1} more"
        cells = (first.severity, first.kind, subject, file, problem, first.advice)
        table.add_row(*(Text(_plain(cell)) for cell in cells))
    buffer = StringIO()
    Console(file=buffer, width=WIDTH, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def _groups(findings: "Sequence[Finding]") -> "list[list[Finding]]":
    """Return the findings in their order, those that differ in nothing but numbers together where they are many."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        problem = re.sub(r"[\d.]+", "#", finding.problem)
        alike.setdefault((finding.severity, finding.kind, problem), []).append(finding)
    return [
        part for group in alike.values() for part in ([group] if len(group) > REPEATED else [[each] for each in group])
    ]


def _shortened(text: str, path: Any) -> str:
    """Return a text with the paths in it relative to the data set's folder, where they lie in it."""
    if path is None:
        return text
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return text.replace(f"{folder}{os.sep}", "")


def _plain(text: str) -> str:
    """Return text with what would disturb a terminal made visible."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
