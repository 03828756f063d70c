"""``longigen doctor``: check whether a data set is fit to train on, or fit for a model."""

import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longigen import api
from longigen.errors import LongigenError, sentence
from longigen_cli.completion import names_in
from longigen_cli.console import AsJSON, DataChanges, beside, columns, print_json, require_quoted, show

if TYPE_CHECKING:
    from longigen import Examination, Finding

MAX_SEPARATE = 5
"""The largest number of findings, equal but for numbers in their text, that are printed separately."""

INDENT = len("warning  ")


def doctor(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] DATA",
            help="Data set: a name (see 'longigen list datasets'), a file or folder, or NAME:PATH. Before it, a model "
            "that it should be fit for: a published name (see 'longigen list models'), a folder, or hf-hub:org/repo.",
            autocompletion=names_in("datasets", "models"),
        ),
    ],
    workers: Annotated[
        int | None,
        typer.Option(help="Number of subjects to read in parallel; by default one per processor. Not with a model."),
    ] = None,
    changes: DataChanges = None,
    as_json: AsJSON = False,
) -> None:
    """Read every visit of a data set and list its problems; exit status 1 if a problem is an error.

    An error is what 'longigen train' refuses, or 'longigen generate' if a model is given.
    """
    require_quoted(names)
    if len(names) > 2:
        raise LongigenError(
            f"'longigen doctor' takes a data set, or a model and a data set, and was given {len(names)} names; leave "
            f"out '{names[2]}', and quote a path that has spaces."
        )
    *models, data = names
    model = models[0] if models else None
    started = time.perf_counter()
    examination = api.examine(data, model=model, changes=changes or [], workers=workers)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"data": data, **({"model": model} if model else {}), **examination.to_dict()})
    else:
        if examination.findings:
            show(_list(examination.findings, examination.path))
        work = ["train"] if model is None else ["generate", model]
        command = ["longigen", *work, "--data", data, *(word for change in changes or [] for word in ("--set", change))]
        show(_summary(command, examination, seconds))
    if examination.errors:
        raise typer.Exit(1)


def _summary(command: Sequence[str], examination: "Examination", seconds: float) -> str:
    """Return one line on an examination; it ends with what to do next where nothing is wrong."""

    def count(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    read = f"{count(examination.subjects, 'subject')}, {count(examination.visits, 'visit')} read in {seconds:.0f} s: "
    if examination.findings:
        return read + f"{count(examination.errors, 'error')}, {count(examination.warnings, 'warning')}"
    return read + f"nothing is wrong; next: {shlex.join(command)}"


def _list(findings: "Sequence[Finding]", path: Any) -> str:
    """Return the findings as text; many similar findings share one entry."""
    lines = []
    for group in _groups(findings):
        first = group[0]
        subject, file, problem = first.subject, _shortened(first.source, path), _shortened(first.problem, path)
        if len(group) > 1:
            names = list(dict.fromkeys(finding.subject for finding in group))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            subject, file = ", ".join(names[:3]) + more, f"{file} and {len(group) - 1} more"
        where = f"{first.kind}  {subject}: {file}" if subject else f"{first.kind}  {file}"
        texts = (where, problem, *([f"→ {_shortened(first.advice, path)}"] if first.advice else []))
        lines += beside(first.severity, [sentence(text) for text in texts], INDENT, columns())
    return "\n".join(lines)


def _groups(findings: "Sequence[Finding]") -> "list[list[Finding]]":
    """Group the findings whose problems differ only in numbers and subject, if more than `MAX_SEPARATE` of them do."""
    similar: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        problem = finding.problem.replace(finding.subject, "#") if finding.subject else finding.problem
        problem = re.sub(r"[\d.]+", "#", problem)
        similar.setdefault((finding.severity, finding.kind, problem), []).append(finding)
    groups = []
    for group in similar.values():
        groups += [group] if len(group) > MAX_SEPARATE else [[finding] for finding in group]
    return groups


def _shortened(text: str, path: Any) -> str:
    """Shorten the paths inside the data set's folder to relative paths."""
    if path is None:
        return text
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return text.replace(f"{folder}{os.sep}", "")
