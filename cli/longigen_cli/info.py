"""``longigen info``: show a component, recipe, benchmark table or model."""

import sys
from typing import Annotated

import typer

from longigen import api
from longigen.registry.catalog import CATALOG_SECTIONS
from longigen_cli.completion import names_in
from longigen_cli.console import AsJSON, columns, print_json, show

OVERHANG = 20
"""YAML breaks a line after the word that exceeds its width, which may be so long."""


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

    width = columns()
    limit = sys.maxsize if width is None else width - OVERHANG
    show(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=limit).rstrip())
