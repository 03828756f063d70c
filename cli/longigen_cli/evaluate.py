"""``longigen evaluate``: the protocol's table, the model beside copy-last."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.console import (
    AsJSON,
    BatchSize,
    Changes,
    Data,
    Evaluations,
    Guidance,
    Metrics,
    Model,
    Part,
    Sampler,
    Settings,
    SkipBad,
    Targets,
    names_of,
    print_json,
    say,
)


def evaluate(
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", help="The folder for table, CSV, JSON and picture.")] = None,
    data: Data = None,
    setting: Settings = None,
    targets: Targets = "last",
    part: Part = None,
    metric: Metrics = None,
    sampler: Sampler = None,
    steps: Evaluations = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sampling noise, and of which visits are missing.")] = 0,
    samples: Annotated[
        int,
        typer.Option(help="Number of samples of each visit, at least 1; several are also scored as a distribution."),
    ] = 1,
    batch_size: BatchSize = 4,
    changes: Changes = None,
    skip_bad: SkipBad = False,
    as_json: AsJSON = False,
) -> None:
    """Score generated visits against the true ones, and copy-last beside them."""
    found = api.evaluate(
        model,
        out=out,
        data=data,
        changes=changes or [],
        settings=names_of(setting),
        targets=targets,
        part=part,
        metrics=metric or [],
        samples=samples,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        seed=seed,
        batch_size=batch_size,
        skip_bad=skip_bad,
    )
    if not api.is_main_process():
        return
    for caution in found.cautions:
        say(caution)
    print_json(found.summary) if as_json else typer.echo(found.table())
    if out is not None:
        say(f"table.txt, summary.json, metrics.json, subjects.csv and strip.png are in {out}")
    if found.kept_at is not None:
        say(
            f"{found.kept_at} holds these numbers now, and 'longigen push {model} ORG/NAME' publishes them with the "
            "weights"
        )
