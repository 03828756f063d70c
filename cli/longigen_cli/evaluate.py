"""``longigen evaluate``: score generated visits against the true ones."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from longigen import api
from longigen.errors import LongigenError
from longigen_cli.console import (
    AsJSON,
    BatchSize,
    Compile,
    Data,
    DataOrGridChanges,
    Device,
    Evaluations,
    Format,
    Guidance,
    GuidanceInterval,
    Metrics,
    Model,
    Order,
    Part,
    Precision,
    Published,
    Regions,
    Sampler,
    Segmenter,
    Settings,
    SkipBad,
    Space,
    Targets,
    Weights,
    levels_of,
    names_of,
    print_json,
    say,
    show_result,
    show_table,
    size_of,
)


def evaluate(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write the table, scores and figure to; by default none is written."),
    ] = None,
    weights: Weights = "last",
    data: Data = None,
    setting: Settings = None,
    targets: Targets = "last",
    space: Space = "subject",
    part: Part = None,
    metric: Metrics = None,
    protocol: Published = None,
    segmenter: Segmenter = None,
    region: Regions = None,
    sampler: Sampler = None,
    steps: Evaluations = None,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    order: Order = None,
    precision: Precision = "auto",
    compile: Compile = "none",
    seed: Annotated[
        int, typer.Option(help="Random seed of the sampling noise and of the choice of missing visits.")
    ] = 0,
    samples: Annotated[
        int,
        typer.Option(help="Number of samples of each visit; with several, their distribution is scored too."),
    ] = 1,
    batch_size: BatchSize = "4",
    changes: DataOrGridChanges = None,
    device: Device = None,
    skip_bad: SkipBad = False,
    consistency: Annotated[
        bool,
        typer.Option(
            "--consistency",
            help="Instead of scoring, compare the last visit generated alone with the same as the last of 2, 5, 10 and "
            "20 times, from the first visit or the visits of one --setting.",
        ),
    ] = False,
    form: Format = "terminal",
    as_json: AsJSON = False,
) -> None:
    """Score generated visits against the true ones, beside copy-last and blurred copies."""
    shared: dict[str, Any] = {
        "out": out,
        "weights": weights,
        "data": data,
        "changes": changes or [],
        "part": part,
        "sampler": sampler,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": levels_of(guidance_interval),
        "order": order,
        "precision": precision,
        "compile": compile,
        "seed": seed,
        "batch_size": size_of(batch_size),
        "device": device,
        "skip_bad": skip_bad,
    }
    if consistency:
        scoring = {
            "--metric": metric,
            "--protocol": protocol,
            "--segmenter": segmenter,
            "--region": region,
            "--targets": targets != "last",
            "--samples": samples != 1,
            "--space": space != "subject",
            "--format": form != "terminal",
        }
        unused = [option for option, given in scoring.items() if given]
        if unused or len(setting or ()) > 1:
            problem = f"{unused[0]} belongs to scoring" if unused else "it takes one --setting"
            raise LongigenError(f"--consistency compares generated visits with each other, so {problem}; leave it out.")
        found = api.consistency(model, setting=(*names_of(setting), "single")[0], **shared)
        if api.is_main_process():
            print_json(found.summary) if as_json else show_table(found)
            if out is not None:
                say(f"Wrote consistency.json to {out}")
        return
    evaluation = api.evaluate(
        model,
        settings=names_of(setting),
        targets=targets,
        space=space,
        metrics=metric or [],
        protocol=protocol,
        segmenter=segmenter,
        regions=region or [],
        samples=samples,
        **shared,
    )
    if not api.is_main_process():
        return
    for caution in evaluation.cautions:
        say(caution)
    show_result(evaluation, evaluation.summary, form, as_json=as_json)
    if out is not None:
        volumes = ", volumes.csv" if any(score.volumes for score in evaluation.scores) else ""
        say(f"Wrote table.txt, summary.json, metrics.json, subjects.csv{volumes} and strip.png to {out}")
    if evaluation.metrics_path is not None:
        chosen = "" if weights == "last" else f" --weights {weights}"
        say(
            f"Saved the scores to {evaluation.metrics_path}; 'longigen push {quote(model)} ORG/NAME{chosen}' publishes "
            "them with the weights"
        )
