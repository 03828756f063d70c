"""``longigen list``: list components, recipes, benchmark tables, data sets and models."""

from typing import Annotated, Any

import typer

from longigen import api
from longigen.errors import printable
from longigen_cli.completion import complete_section
from longigen_cli.console import LONGEST_NAME, AsJSON, beside, columns, print_json


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="What to list: conditioners, denoisers, samplers, codecs, datasets, metrics, segmenters, recipes, "
            "tables, protocols or models; by default all of them.",
            autocompletion=complete_section,
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List components, recipes, tables, published protocols and models, without importing or downloading anything."""
    sections = api.catalog(kind)
    if as_json:
        print_json(
            {name: [{k: v for k, v in row.items() if k != "line"} for row in rows] for name, rows in sections.items()}
        )
    else:
        _print(sections)


def _print(sections: dict[str, list[dict[str, Any]]]) -> None:
    width = columns()
    for section, rows in sections.items():
        if not rows:
            continue
        typer.echo(section)
        start = 2 + max((len(row["name"]) for row in rows if len(row["name"]) <= LONGEST_NAME), default=2)
        for row in rows:
            first, *others = beside(*_entry(row), start, width)
            name = first[: len(printable(row["name"]))]
            colour = None if "problem" not in row else "yellow" if "extra" in row else "red"
            typer.echo(typer.style(name, bold=True, fg=colour) + first[len(name) :])
            for line in others:
                typer.echo(line)
        typer.echo()


def _entry(row: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the name of an entry, and what is said of it."""
    text = row["summary"]
    if "problem" in row:
        text = f"{'not loadable' if 'extra' in row else 'broken'}: {row['problem']}"
    texts = [f"{text} ({row['distribution']})".strip(), *([row["line"]] if "line" in row else [])]
    return printable(row["name"]), [printable(each) for each in texts]
