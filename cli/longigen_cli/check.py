"""``longigen check``: test a component against the contract of its kind."""

from typing import Annotated

import typer

from longigen.registry.registry import KINDS
from longigen_cli.completion import complete_kind, names_in
from longigen_cli.console import show, show_sentence


def check(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the conditioner, denoiser, sampler, data set or metric to check.",
            autocompletion=names_in(*(f"{kind}s" for kind in KINDS)),
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of the component, such as sampler, if several kinds use the name.", autocompletion=complete_kind
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter of the component, e.g. --set width=8."),
    ] = None,
) -> None:
    """Run the conformance suite on a component: one line per check, exit status 1 if a check fails."""
    from longigen import testing

    results = []
    for result in testing.check(name, kind=kind, changes=changes or ()):
        line = f"ok    {result.label}" if result.passed else f"FAIL  {result.label}: {result.problem}"
        show_sentence(line, indent=" " * 6)
        results.append(result)
    passed = sum(result.passed for result in results)
    show(f"{results[0].kind} '{name}': {passed} of {len(results)} checks passed")
    if passed < len(results):
        raise typer.Exit(1)
