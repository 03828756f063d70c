"""``longigen report``: one HTML page of runs, results and generated visits."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.console import DataChanges, TrueData, say


def report(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER",
            help="Folders that train, evaluate, bench and generate wrote, or folders that hold such folders.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The page to write; by default report.html in the first folder.")
    ] = None,
    data: TrueData = None,
    changes: DataChanges = None,
) -> None:
    """Write one HTML page: scores, curves, pictures and a viewer; it is complete in itself and loads nothing."""
    written = api.report(folders, out, data=data, changes=changes or [])
    for sentence in written.left_out:
        say(sentence)
    say(f"Wrote {written.path} ({written.path.stat().st_size / 1e6:.1f} MB, pictures of {written.subjects} subjects)")
