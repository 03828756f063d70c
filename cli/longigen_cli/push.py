"""``longigen push``: publish a model or a segmenter on the Hugging Face Hub, with its card."""

import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen_cli.console import AsJSON, Model, Weights, print_json, say, show

if TYPE_CHECKING:
    from longigen import Publication


def push(
    model: Model,
    repository: Annotated[
        str, typer.Argument(metavar="ORG/NAME", help="Repository on the Hugging Face Hub to publish to.")
    ],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Visibility of a new repository; private by default.", show_default=False
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Tag of the published version; by default v1, v2, and so on.")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", help="Licence of the weights, e.g. apache-2.0 or cc-by-nc-4.0."),
    ] = None,
    notes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Markdown file that is added to the model card, such as how the data were collected."
        ),
    ] = None,
    weights: Weights = "last",
    message: Annotated[str | None, typer.Option(help="Message of the commit in the repository.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking for confirmation.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Publish a model or a segmenter on the Hugging Face Hub: list the files, ask, upload and tag them."""
    if not yes and not sys.stdin.isatty():
        raise LongigenError(
            "There is no terminal to ask for confirmation, so nothing was published; add --yes to publish without it."
        )

    try:
        text = notes.read_text(encoding="utf-8") if notes else ""
    except (OSError, UnicodeDecodeError) as error:
        raise LongigenError(f"{notes} cannot be read ({error}); --notes takes a Markdown file in UTF-8.") from None
    with api.publication(
        model, repository, tag=tag, private=private, licence=licence, notes=text, weights=weights
    ) as ready:
        _show(ready, model)
        if not yes and not typer.confirm("Publish?", err=True):
            say("Nothing was published.")
            raise typer.Exit(1)
        done = ready.publish(message)
        if as_json:
            print_json(ready.to_dict(done))
            return
    show(f"Published version {done.tag} at {done.address}, commit {done.commit}")
    show(f"next: longigen pull {done.name}")


def _show(ready: "Publication", model: str) -> None:
    destination = ready.destination
    visibility = "private" if ready.private else "PUBLIC"
    new = "" if destination.exists else ", a new repository"
    say(f"To {destination.repository} at {destination.endpoint} ({visibility}{new}), as version {ready.tag}:")
    say("")
    for name, content in ready.files.items():
        say(f"  {name:<18} {content.size:>13,} bytes  sha256 {content.digest}")
    for name in ready.removed:
        say(f"  {name:<18} will be removed: the published file belongs to other weights")
    say("")
    say(f"Licence of the weights: {ready.licence or 'not stated; --licence states one'}")
    if ready.covariates:
        say(f"The model card names these covariates of your data: {', '.join(ready.covariates)}.")
    if ready.regions:
        say(f"The card names these regions of your data: {', '.join(ready.regions)}.")
    elif not ready.evaluated:
        say(f"No metrics will be published; 'longigen evaluate {quote(model)}' computes them.")
