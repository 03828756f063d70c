"""What the commands print with: progress, tables, and options that several share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from longigen.finding import Finding

Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="A data set's name (see 'longigen list'), a path that one of them reads, or NAME:PATH."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a hyperparameter, e.g. --set denoiser.width=32."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out visits and subjects that cannot be used, and say which.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", help="Only this metric, or NAME:KEY=VALUE,KEY=VALUE (may be repeated).")
]
Targets = Annotated[
    Literal["last", "all"],
    typer.Option("--targets", help="Score each subject's last visit, the same in all settings, or all."),
]


class SettingName(StrEnum):
    """The three settings: typer takes a list of an enumeration, but not of a Literal."""

    SINGLE = "single"
    MISSING = "missing"
    FULL = "full"


Settings = Annotated[
    list[SettingName] | None,
    typer.Option("--setting", help="Only this setting (may be repeated); all three by default."),
]


def chosen_settings(names: Sequence[SettingName] | None) -> tuple[Any, ...]:
    """Return the settings that were chosen, all three by default, in their order."""
    return tuple(name.value for name in SettingName if name in (names or SettingName))


Model = Annotated[
    str,
    typer.Argument(
        help="A published model's name (longigen list models), a run's or a model's folder, or hf-hub:org/repo[@REV]."
    ),
]


def new_folder(parent: str, stem: str) -> Path:
    """Return the first of ``PARENT/STEM-1``, ``PARENT/STEM-2`` … that does not exist."""
    number = 1
    while (folder := Path(parent) / f"{stem}-{number}").exists():
        number += 1
    return folder


def say(line: str) -> None:
    """Print a line to stderr, which is where everything goes that is not a result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say_skipped(findings: Sequence[Finding], most: int = 20) -> None:
    """Say which visits and subjects were left out, and why."""
    for finding in findings[:most]:
        say(f"Skipped: {finding}")
    if len(findings) > most:
        say(f"Skipped {len(findings) - most} more; 'longigen doctor' lists them all.")


@contextmanager
def progress(name: str, every: int = 10) -> Iterator[Callable[..., None]]:
    """Give a function ``(done, total, note="")`` that shows progress with rate and time left.

    On a terminal it is a bar; elsewhere plain lines, about `every` per cent.
    """
    if sys.stderr.isatty():
        with _bar(name) as update:
            yield update
        return
    import time

    started, shown = time.perf_counter(), -1

    def lines(done: int, total: int, note: str = "") -> None:
        nonlocal shown
        part = 100 * done // (total * every)
        if part != shown or done == total:
            shown = part
            spent = time.perf_counter() - started
            left = spent / max(done, 1) * (total - done)
            say(f"{name} {done}/{total}  {done / max(spent, 1e-9):.2f}/s  {left:.0f} s left  {note}".rstrip())

    yield lines


@contextmanager
def transfer(name: str, every: int = 10) -> Iterator[Callable[..., None]]:
    """Give a function ``(done, total, note="")`` that shows how many bytes have come, with rate and time left.

    On a terminal it is a bar; elsewhere plain lines, about `every` per cent. Nothing is shown of nothing to transfer.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=None, note="")
            yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)
        return
    import time

    from rich.filesize import decimal

    started, shown, first = time.perf_counter(), -1, None

    def lines(done: int, total: int, note: str = "") -> None:
        nonlocal shown, first
        first = done if first is None else first  # what had come before, which says nothing of the rate
        part = 100 * done // (max(total, 1) * every)
        if part != shown or done == total:
            shown = part
            rate = (done - first) / max(time.perf_counter() - started, 1e-9)
            left = f"  {(total - done) / rate:.0f} s left" if rate else ""
            say(f"{name} {decimal(done)} of {decimal(total)}  {decimal(int(rate))}/s{left}  {note}".rstrip())

    yield lines


@contextmanager
def _bar(name: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, note="", rate="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.2f}/s" if speed else "")

        yield update
