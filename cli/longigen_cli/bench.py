"""``longigen bench``: a table of methods, trained and scored alike."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen_cli.completion import names_in
from longigen_cli.console import (
    AsJSON,
    Changes,
    Data,
    Metrics,
    Settings,
    SkipBad,
    Targets,
    names_of,
    print_json,
    say,
)


def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="A table's name, such as sadm-ablation (see 'longigen list tables').",
            autocompletion=names_in("tables"),
        ),
    ],
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder of all runs; by default bench/TABLE.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only this row (may be repeated).")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="The recipe of all rows, instead of the table's own.", autocompletion=names_in("recipes")),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of optimiser steps of each row.", min=1)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of training of each row, instead of steps.", min=0.01)
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Train each row with this seed (may be repeated); 0 by default.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Train each row with this many seeds, from 0.", min=1)] = None,
    setting: Settings = None,
    targets: Targets = "last",
    metric: Metrics = None,
    changes: Changes = None,
    skip_bad: SkipBad = False,
    as_json: AsJSON = False,
) -> None:
    """Train the rows of a table that are missing, score all by one protocol, and print them beside copy-last.

    What is there already is not made again, so the same command continues after an interruption.
    """
    if seed and seeds:
        raise LongigenError("--seed names seeds and --seeds counts them; give one of the two.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's pre-emption: checkpoint, as for Ctrl-C
    folder = out or Path("bench") / table
    try:
        result = api.bench(
            table,
            folder,
            data=data,
            rows=row or [],
            recipe=recipe,
            steps=steps,
            minutes=minutes,
            seeds=seed or range(seeds or 1),
            settings=names_of(setting),
            targets=targets,
            metrics=metric or [],
            changes=changes or [],
            skip_bad=skip_bad,
        )
    except KeyboardInterrupt:
        say("Stopped; the same command continues.")
        raise
    print_json(result.content) if as_json else typer.echo(result.table())
    say(f"table.txt, table.json, subjects.csv and pictures.png are in {folder}, and a run for each row and seed")
