"""``longigen view``: look at generated visits or image files in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.console import DataChanges, TrueData, say


def view(
    paths: Annotated[
        list[str], typer.Argument(metavar="FOLDER|NIFTI", help="Folders that generate wrote, or image files.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write one HTML file, complete in itself, instead of serving the page.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser, or only print its address.")
    ] = True,
    data: TrueData = None,
    changes: DataChanges = None,
) -> None:
    """Look at volumes in the browser: three planes, a slider over visits, a wipe between two volumes, differences."""
    opened = api.view(paths, data=data, changes=changes or [])
    if out is None:
        opened.serve(browser=browser)
    else:
        path = opened.save(out)
        say(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
