"""``longigen pull``: a model's files, verified, on this machine."""

import json
from typing import Any

import typer

from longigen_cli.console import AsJSON, Model, say, transfer


def pull(model: Model, as_json: AsJSON = False) -> None:
    """Bring a model to this machine, or up to date, and say where it is and what uses it.

    Its files are verified before they are used; a download that broke off goes on where it stopped.
    """
    from huggingface_hub.utils import logging

    from longigen.manifest import manifest_of, to_plain
    from longigen.overview import Overview
    from longigen.source import Source

    logging.set_verbosity_error()  # of its retries and its locks; what is left is said here
    source = Source.of(model)
    with transfer("pulling") as update:
        folder, received, note = source.pull(update)
    overview = Overview.of_folder(folder)
    command = f"longigen generate {model}"
    content: dict[str, Any] = {
        "name": model,
        "source": source.origin(folder),
        "revision": source.commit(folder),
        "folder": str(folder),
        "received": received,
        **overview.to_dict(),
        "files": to_plain(manifest_of(folder)),
        "command": command,
    }
    if note:
        say(f"{note} What was pulled before is taken instead.")
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(f"{model} is {source.origin(folder)}: {overview.line}")
    typer.echo(f"verified, in {folder}")
    typer.echo(f"next: {command}")
