"""``longigen new-plugin``: a working package to start from."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from longigen.errors import LongigenError
from longigen.registry import KINDS


def new_plugin(
    name: Annotated[str, typer.Argument(help="Of the component, such as my-denoiser.")],
    kind: Annotated[str | None, typer.Option(help=f"What it is: {', '.join(KINDS)}.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default ./NAME.")] = None,
) -> None:
    """Write a package with a working component that keeps all contracts, its tests and its entry points."""
    if kind is None:
        raise LongigenError(f"Say what '{name}' is to be, with --kind and one of: {', '.join(KINDS)}.")

    from longigen.skeleton import Skeleton

    skeleton = Skeleton(name, kind)
    folder = Path(name) if out is None else out
    skeleton.write(folder)
    typer.echo(
        f"{folder} holds {skeleton.distribution}: {skeleton.class_name} in src/{skeleton.package}/{kind}.py; next:"
    )
    for command in (shlex.join(["pip", "install", "-e", str(folder)]), *skeleton.uses):
        typer.echo(f"    {command}")
