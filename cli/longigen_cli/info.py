"""``longigen info``: show a component, recipe, benchmark table or model."""

from typing import Annotated

import typer

from longigen import api
from longigen.registry.catalog import CATALOG_SECTIONS
from longigen_cli.completion import names_in
from longigen_cli.console import AsJSON, print_json, show


def info(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a component, recipe, benchmark table or model, or the folder of a run or a model, or "
            "hf-hub:org/repo.",
            autocompletion=names_in(*CATALOG_SECTIONS),
        ),
    ],
    as_json: AsJSON = False,
) -> None:
    """Show a component, recipe, benchmark table or model, without importing or downloading anything."""
    content = api.info(name)
    if as_json:
        print_json(content)
        return
    import yaml

    show(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110).rstrip())
