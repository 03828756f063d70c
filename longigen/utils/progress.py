"""Progress bars on terminals and in notebooks, plain lines of text elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec

from longigen.errors import printable

Update = Callable[..., None]
"""Called as ``update(done, total, note="")``."""

Progress = Callable[[str], AbstractContextManager[Update]]
"""Called with the name of the work; a context manager that yields an `Update`."""

PERCENT_PER_LINE = 10
"""Without a terminal, one line is printed each time this many more per cent are done."""


def silent(name: str) -> AbstractContextManager[Update]:
    """Show no progress."""
    return nullcontext(lambda *_, **__: None)


@contextmanager
def progress(name: str) -> Iterator[Update]:
    """Show how many items are done, with rate and time left, on stderr."""
    with _display(name, in_bytes=False) as update:
        yield update


@contextmanager
def transfer(name: str) -> Iterator[Update]:
    """Show how many bytes were transferred, with rate and time left, on stderr."""
    with _display(name, in_bytes=True) as update:
        yield update


def _display(name: str, *, in_bytes: bool) -> AbstractContextManager[Update]:
    return _bar(name, in_bytes=in_bytes) if sys.stderr.isatty() or _in_notebook() else _lines(name, in_bytes=in_bytes)


def _in_notebook() -> bool:
    """Return whether a bar can be shown in a notebook, which needs ipywidgets for rich's bars."""
    ipython = sys.modules.get("IPython")
    if find_spec("ipywidgets") is None:
        return False
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _bar(name: str, *, in_bytes: bool) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    middle = (
        (DownloadColumn(), TransferSpeedColumn())
        if in_bytes
        else (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *middle,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, note="", rate="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=printable(note))
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.2f}/s" if speed else "")

        yield update


@contextmanager
def _lines(name: str, *, in_bytes: bool) -> Iterator[Update]:
    started, shown, first = time.perf_counter(), -1, None

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal shown, first
        # Bytes that were downloaded earlier do not count for the rate.
        first = (done if in_bytes else 0) if first is None else first
        decile = 100 * done // (max(total, 1) * PERCENT_PER_LINE)
        if decile == shown and done != total:
            return
        shown = decile
        rate = (done - first) / max(time.perf_counter() - started, 1e-9)
        left = f"  {(total - done) / rate:.0f} s left" if rate else ""
        if in_bytes:
            from rich.filesize import decimal

            amount = f"{decimal(done)} of {decimal(total)}  {decimal(int(rate))}/s"
        else:
            amount = f"{done}/{total}  {rate:.2f}/s"
        sys.stderr.write(f"{name} {amount}{left}  {printable(note)}".rstrip() + "\n")
        sys.stderr.flush()

    yield update
