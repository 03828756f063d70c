"""``longigen evaluate``: score generated visits against the true ones."""

from pathlib import Path
from typing import Annotated

import typer

from longigen import api
from longigen_cli.console import (
    AsJSON,
    BatchSize,
    Data,
    DataChanges,
    Evaluations,
    Guidance,
    Metrics,
    Model,
    Order,
    Part,
    Sampler,
    Settings,
    SkipBad,
    Space,
    Targets,
    names_of,
    print_json,
    say,
)


def evaluate(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write the table, scores and figure to; by default none is written."),
    ] = None,
    data: Data = None,
    setting: Settings = None,
    targets: Targets = "last",
    space: Space = "subject",
    part: Part = None,
    metric: Metrics = None,
    sampler: Sampler = None,
    steps: Evaluations = None,
    guidance: Guidance = None,
    order: Order = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the sampling noise and of the choice of missing visits.")
    ] = 0,
    samples: Annotated[
        int,
        typer.Option(help="Number of samples of each visit; with several, their distribution is scored too."),
    ] = 1,
    batch_size: BatchSize = 4,
    changes: DataChanges = None,
    skip_bad: SkipBad = False,
    as_json: AsJSON = False,
) -> None:
    """Score generated visits against the true ones, beside copy-last and blurred copies."""
    evaluation = api.evaluate(
        model,
        out=out,
        data=data,
        changes=changes or [],
        settings=names_of(setting),
        targets=targets,
        space=space,
        part=part,
        metrics=metric or [],
        samples=samples,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        order=order,
        seed=seed,
        batch_size=batch_size,
        skip_bad=skip_bad,
    )
    if not api.is_main_process():
        return
    for caution in evaluation.cautions:
        say(caution)
    print_json(evaluation.summary) if as_json else typer.echo(evaluation.table())
    if out is not None:
        say(f"Wrote table.txt, summary.json, metrics.json, subjects.csv and strip.png to {out}")
    if evaluation.metrics_path is not None:
        say(
            f"Saved the scores to {evaluation.metrics_path}; 'longigen push {model} ORG/NAME' publishes them with the "
            "weights"
        )
