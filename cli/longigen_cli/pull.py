"""``longigen pull``: a model's files, verified, on this machine."""

import typer

from longigen import api
from longigen_cli.console import AsJSON, Model, print_json, say


def pull(model: Model, as_json: AsJSON = False) -> None:
    """Bring a model to this machine, or up to date, and say where it is and what uses it.

    Its files are verified before they are used; a download that broke off goes on where it stopped.
    """
    pulled = api.pull(model)
    summary = pulled.summary
    command = f"longigen generate {model}"
    if pulled.note:
        say(f"{pulled.note} What was pulled before is taken instead.")
    if as_json:
        print_json({**pulled.to_dict(), **summary.to_dict(), "command": command})
        return
    typer.echo(f"{model} is {pulled.origin}: {summary.line}")
    typer.echo(f"verified, in {pulled.folder}")
    typer.echo(f"next: {command}")
