"""``longigen bench``: train and score every method of a benchmark table."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen.errors import Interruption, LongigenError
from longigen_cli.completion import names_in
from longigen_cli.console import (
    AsJSON,
    Changes,
    Data,
    Device,
    Format,
    Metrics,
    Precision,
    Published,
    Regions,
    Segmenter,
    Settings,
    SkipBad,
    Space,
    Targets,
    names_of,
    say,
    show_result,
)


def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="Name of a benchmark table, such as sadm-ablation (see 'longigen list tables').",
            autocompletion=names_in("tables"),
        ),
    ],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the runs and the results; by default bench/TABLE.")
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Train and score only this row of the table (may be repeated).")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe of the same components to use instead of the table's own, for size and data of all rows.",
            autocompletion=names_in("recipes"),
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="One of the table's sizes, for a table that has them, e.g. small; 'longigen info TABLE' shows them."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of optimiser steps to train each row.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train each row for this many minutes instead of a number of steps.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Train each row with this random seed (may be repeated); 0 by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of random seeds to train each row with: 0, 1, 2 and so on.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validate: train and test each row on each of this many folds; every subject is scored once."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            help="With --protocol: one of its authors' folds, from 0, whose subjects are the validation part."
        ),
    ] = None,
    setting: Settings = None,
    targets: Targets = "last",
    space: Space = "subject",
    metric: Metrics = None,
    protocol: Published = None,
    segmenter: Segmenter = None,
    region: Regions = None,
    changes: Changes = None,
    precision: Precision = "auto",
    device: Device = None,
    skip_bad: SkipBad = False,
    form: Format = "terminal",
    as_json: AsJSON = False,
) -> None:
    """Train the rows of a benchmark table, score them by one protocol and print them beside copy-last.

    Rows that are already trained and scored are reused, so the same command continues after an interruption.
    """
    if seeds is not None and seeds < 1:
        raise LongigenError(f"--seeds must be a whole number of at least 1, got {seeds}.")
    if seed and seeds:
        raise LongigenError("--seed lists random seeds and --seeds counts them; give only one of the two.")
    folder = out or Path("bench") / table
    try:
        result = api.bench(
            table,
            folder,
            data=data,
            rows=row or [],
            recipe=recipe,
            size=size,
            steps=steps,
            minutes=minutes,
            seeds=seed or range(seeds or 1),
            folds=folds,
            settings=names_of(setting),
            targets=targets,
            space=space,
            metrics=metric or [],
            protocol=protocol,
            fold=fold,
            segmenter=segmenter,
            regions=region or [],
            changes=changes or [],
            precision=precision,
            device=device,
            skip_bad=skip_bad,
        )
    except KeyboardInterrupt as stop:
        say("Stopped; run the same command again to continue.")
        if isinstance(stop, Interruption):
            raise typer.Exit(stop.status) from stop
        raise
    show_result(result, result.content, form, as_json=as_json)
    each = "row, fold and seed" if folds else "row and seed"
    say(f"Wrote table.txt, table.json, subjects.csv and pictures.png to {folder}, and a run folder per {each}")
