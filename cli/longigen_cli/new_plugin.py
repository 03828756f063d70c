"""``longigen new-plugin``: write a new plugin package from a template."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen.registry.registry import KINDS
from longigen_cli.completion import complete_kind
from longigen_cli.console import show


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the component, such as my-denoiser.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help=f"Kind of the component: {', '.join(KINDS)}.", show_default=False, autocompletion=complete_kind
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the package to; by default ./NAME.")] = None,
) -> None:
    """Write a new plugin package: a working component, its tests and its entry point."""
    if kind is None:
        raise LongigenError(f"The kind of '{name}' is missing; give --kind with one of: {', '.join(KINDS)}.")

    folder = Path(name) if out is None else out
    plugin = api.new_plugin(name, kind, folder)
    show(f"Wrote {plugin.distribution} to {folder}, with {plugin.class_name} in src/{plugin.package}/{kind}.py; next:")
    for command in (shlex.join(["pip", "install", "-e", str(folder)]), *plugin.commands):
        show(f"    {command}")
