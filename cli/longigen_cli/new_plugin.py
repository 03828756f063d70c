"""``longigen new-plugin``: a working package to start from."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen.registry.registry import KINDS
from longigen_cli.completion import complete_kind


def new_plugin(
    name: Annotated[str, typer.Argument(help="Name of the component, such as my-denoiser.")],
    kind: Annotated[
        str | None,
        typer.Option(help=f"Kind of component: {', '.join(KINDS)}.", show_default=False, autocompletion=complete_kind),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default ./NAME.")] = None,
) -> None:
    """Write a package with a working component that keeps all contracts, its tests and its entry points."""
    if kind is None:
        raise LongigenError(f"Say what '{name}' is to be, with --kind and one of: {', '.join(KINDS)}.")

    folder = Path(name) if out is None else out
    plugin = api.new_plugin(name, kind, folder)
    typer.echo(f"{folder} holds {plugin.distribution}: {plugin.class_name} in src/{plugin.package}/{kind}.py; next:")
    for command in (shlex.join(["pip", "install", "-e", str(folder)]), *plugin.uses):
        typer.echo(f"    {command}")
