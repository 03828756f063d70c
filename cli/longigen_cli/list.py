"""``longigen list``: what there is."""

from typing import Annotated, Any

import typer

from longigen import api
from longigen_cli.completion import complete_section
from longigen_cli.console import AsJSON, print_json


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Only these: conditioners, denoisers, samplers, datasets, metrics, recipes, tables or models.",
            autocompletion=complete_section,
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List components, recipes, tables and models. Nothing is imported, nor fetched."""
    found = api.catalog(kind)
    if as_json:
        print_json(
            {name: [{k: v for k, v in row.items() if k != "line"} for row in rows] for name, rows in found.items()}
        )
    else:
        _print(found)


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for section, rows in found.items():
        if not rows:
            continue
        table = Table(title=section, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        table.add_column(no_wrap=True, style="dim")
        for row in rows:
            text = row["summary"]
            if "problem" in row:
                colour, label = ("yellow", "not loadable") if "extra" in row else ("red", "broken")
                text = f"[{colour}]{label}: {escape(row['problem'])}[/{colour}]"
            elif "line" in row:
                text = f"{escape(text)}\n[dim]{escape(row['line'])}[/dim]"
            table.add_row(row["name"], text, row["distribution"])
        console.print(table)
        console.print()
