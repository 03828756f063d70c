"""``longigen push``: a model to the Hub, with its card."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen_cli.console import AsJSON, Model, print_json, say

if TYPE_CHECKING:
    from longigen import Publication


def push(
    model: Model,
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository of the Hugging Face Hub.")],
    private: Annotated[
        bool | None,
        typer.Option(
            "--private/--public", help="Visibility of a new repository; private by default.", show_default=False
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Tag of this version; by default v1, v2, and so on.")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", help="Licence of the weights, e.g. apache-2.0 or cc-by-nc-4.0."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Publish without asking.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Publish a model: show which files go where, ask, upload them in one commit and tag it."""
    if not yes and not sys.stdin.isatty():
        raise LongigenError("There is no terminal to ask on, so nothing was published; add --yes if it may go.")

    with api.publication(model, repository, tag=tag, private=private, licence=licence) as ready:
        _show(ready, model)
        if not yes and not typer.confirm("Publish?", err=True):
            say("Nothing was published.")
            raise typer.Exit(1)
        done = ready.publish(message)
        if as_json:
            print_json(ready.to_dict(done))
            return
    typer.echo(f"{done.address} holds version {done.tag}, commit {done.commit}")
    typer.echo(f"longigen pull {done.name}")


def _show(ready: "Publication", model: str) -> None:
    there = ready.destination
    seen = "private" if ready.private else "PUBLIC"
    new = "" if there.exists else ", which will be made"
    say(f"To {there.repository} at {there.endpoint} ({seen}{new}), as version {ready.tag}:")
    say("")
    for name, content in ready.files.items():
        say(f"  {name:<18} {content.size:>13,} bytes  sha256 {content.digest}")
    for name in ready.removed:
        say(f"  {name:<18} is removed: what is there is of other weights")
    say("")
    say(f"Licence of the weights: {ready.licence or 'not stated; --licence states one'}")
    if ready.covariates:
        say(f"Of your data it names the covariates {', '.join(ready.covariates)}.")
    if not ready.evaluated:
        say(f"Without metrics: 'longigen evaluate {model}' makes them.")
