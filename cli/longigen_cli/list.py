"""``longigen list``: list components, recipes, benchmark tables, data sets and models."""

from typing import Annotated, Any

import typer

from longigen import api
from longigen.errors import printable
from longigen_cli.completion import complete_section
from longigen_cli.console import AsJSON, print_json


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="What to list: conditioners, denoisers, samplers, datasets, metrics, recipes, tables or models; by "
            "default all of them.",
            autocompletion=complete_section,
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List components, recipes, benchmark tables and models, without importing or downloading anything."""
    sections = api.catalog(kind)
    if as_json:
        print_json(
            {name: [{k: v for k, v in row.items() if k != "line"} for row in rows] for name, rows in sections.items()}
        )
    else:
        _print(sections)


def _escape(text: str) -> str:
    """Return a text without markup and control characters."""
    from rich.markup import escape

    return escape(printable(text))


def _print(sections: dict[str, list[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for section, rows in sections.items():
        if not rows:
            continue
        table = Table(title=section, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        table.add_column(no_wrap=True, style="dim")
        for row in rows:
            text = _escape(row["summary"])
            if "problem" in row:
                colour, label = ("yellow", "not loadable") if "extra" in row else ("red", "broken")
                text = f"[{colour}]{label}: {_escape(row['problem'])}[/{colour}]"
            elif "line" in row:
                text = f"{text}\n[dim]{_escape(row['line'])}[/dim]"
            table.add_row(_escape(row["name"]), text, _escape(row["distribution"]))
        console.print(table)
        console.print()
