"""``longigen check``: does a component keep the contracts."""

from typing import Annotated, Any

import typer

from longigen.errors import LongigenError, did_you_mean
from longigen.registry.registry import KINDS, registry
from longigen_cli.completion import complete_kind, names_in
from longigen_cli.console import Changes


def check(
    name: Annotated[
        str,
        typer.Argument(
            help="Of a conditioner, denoiser, sampler, data set or metric.",
            autocompletion=names_in(*(f"{kind}s" for kind in KINDS)),
        ),
    ],
    kind: Annotated[
        str | None, typer.Option(help="Its kind, where several have that name.", autocompletion=complete_kind)
    ] = None,
    changes: Changes = None,
) -> None:
    """Run the conformance suite on a component: one line per check, exit status 1 if one fails."""
    found = [each for each in KINDS if name in registry.entries(each) and kind in (None, each)]
    if len(found) > 1:
        raise LongigenError(f"'{name}' is a {' and a '.join(found)}; say which with --kind.")
    if not found:
        known = [key for each in KINDS for key in registry.entries(each)]
        raise LongigenError(
            f"There is no component '{name}' to check.{did_you_mean(name, known)} Installed: {', '.join(known)}."
        )
    config = _config(found[0], name, changes or [])

    from longigen.testing import CHECKS, run_check

    failed = 0
    for label in CHECKS[found[0]]:
        try:
            run_check(found[0], label, name, config)
        except Exception as error:  # whatever a stranger's component raises is the check's result
            failed += 1
            typer.echo(f"FAIL  {label}: {_line(error)}")
        else:
            typer.echo(f"ok    {label}")
    total = len(CHECKS[found[0]])
    typer.echo(f"{found[0]} '{name}': {total - failed} of {total} checks passed")
    if failed:
        raise typer.Exit(1)


def _config(kind: str, name: str, changes: list[str]) -> dict[str, Any]:
    """Load the component, so that one that does not is a mistake and not a failed check, and read the changes."""
    from longigen.components.base import checked, parameters
    from longigen.components.changes import parse_change

    known = parameters(registry.load(kind, name))
    given = {key: value for _, key, value in (parse_change(change, {kind: known}) for change in changes)}
    return checked(known, given, f"The {kind} '{name}'")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:300] if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text[:300]}"
