"""``longigen check``: test a component against the contract of its kind."""

from typing import Annotated, Any

import typer

from longigen.errors import LongigenError, did_you_mean
from longigen.registry.registry import KINDS, registry
from longigen_cli.console import Changes


def check(
    name: Annotated[
        str, typer.Argument(help="Name of the conditioner, denoiser, sampler, data set or metric to check.")
    ],
    kind: Annotated[
        str | None,
        typer.Option(help=f"Kind of the component ({', '.join(KINDS)}), if several kinds use the name."),
    ] = None,
    changes: Changes = None,
) -> None:
    """Run the conformance suite on a component: one line per check, exit status 1 if a check fails."""
    kinds = [each for each in KINDS if name in registry.entries(each) and kind in (None, each)]
    if len(kinds) > 1:
        raise LongigenError(f"'{name}' is a {' and a '.join(kinds)}; choose one with --kind.")
    if not kinds:
        known = [key for each in KINDS for key in registry.entries(each)]
        raise LongigenError(
            f"There is no component '{name}' to check.{did_you_mean(name, known)} Installed: {', '.join(known)}."
        )
    chosen = kinds[0]
    config = _config(chosen, name, changes or [])

    from longigen.testing import CHECKS, run_check

    failed = 0
    for label in CHECKS[chosen]:
        try:
            run_check(chosen, label, name, config)
        except Exception as error:  # a third-party component may raise anything; that is the check's result
            failed += 1
            typer.echo(f"FAIL  {label}: {_one_line(error)}")
        else:
            typer.echo(f"ok    {label}")
    total = len(CHECKS[chosen])
    typer.echo(f"{chosen} '{name}': {total - failed} of {total} checks passed")
    if failed:
        raise typer.Exit(1)


def _config(kind: str, name: str, changes: list[str]) -> dict[str, Any]:
    """Return the component's configuration with the changes of --set.

    Raises:
        LongigenError: if the component cannot be loaded, which is an error of the command and not a failed check.
    """
    from longigen.components.base import checked, parameters
    from longigen.components.changes import parse_change

    known = parameters(registry.load(kind, name))
    given = {key: value for _, key, value in (parse_change(change, {kind: known}) for change in changes)}
    return checked(known, given, f"The {kind} '{name}'")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text[:300]}"
