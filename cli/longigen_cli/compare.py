"""``longigen compare``: results beside each other, or why they cannot be compared."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.console import AsJSON, Format, SettingName, names_of, show_result


def compare(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT",
            help="Folders that 'evaluate --out' or 'bench' wrote, BENCH/ROW for one row, or published models; "
            "NAME=RESULT names a model, and several of one NAME are seeds of its training.",
            show_default=False,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="Name of the model, or a copy such as copy-last, to compare all others with; by default the first "
            "model, or copy-last if there is only one."
        ),
    ] = None,
    setting: Annotated[
        list[SettingName] | None,
        typer.Option(
            "--setting",
            metavar="SETTING",
            help="Compare only this setting (may be repeated); by default all that the results have in common.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Compare only this metric, by its name in the tables (may be repeated); by default all in common.",
        ),
    ] = None,
    form: Format = "terminal",
    as_json: AsJSON = False,
) -> None:
    """Put results of one protocol beside each other, with tests paired by subject; say what differs if it is another.

    Tests are over subjects and, where there are several, seeds. Their p-values are adjusted for the number of tests in
    the table, which --setting and --metric reduce.
    """
    comparison = api.compare(
        [_named(text) for text in results],
        against=against,
        settings=names_of(setting),
        metrics=metric or [],
    )
    show_result(comparison, comparison.content, form, as_json=as_json)


def _named(text: str) -> str | tuple[str, str]:
    """Return a result as `longigen.api.compare` takes it: a place, or the name of a model and a place."""
    name, _, place = text.partition("=")
    return (name, place) if name and place and not Path(text).exists() else text
