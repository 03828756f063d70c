"""``longigen evaluate``: the protocol's table, the model beside copy-last."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from longigen_cli.console import (
    AsJSON,
    Changes,
    Data,
    Metrics,
    Model,
    Settings,
    SkipBad,
    Targets,
    chosen_settings,
    progress,
    say,
    say_skipped,
    transfer,
)


def evaluate(
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", help="The folder for table, CSV, JSON and picture.")] = None,
    data: Data = None,
    setting: Settings = None,
    targets: Targets = "last",
    part: Annotated[
        Literal["train", "validation", "test", "all"] | None,
        typer.Option(help="Of the model's own data; by default what training never saw."),
    ] = None,
    metric: Metrics = None,
    sampler: Annotated[str | None, typer.Option(help="Walk with another sampler than the model's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Network evaluations per visit.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Weight of classifier-free guidance.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Of the noise and of which visits are missing.")] = 0,
    samples: Annotated[
        int, typer.Option(help="Of each visit; several are scored as a distribution, beside the first.", min=1)
    ] = 1,
    batch_size: Annotated[int, typer.Option(help="Subjects that are generated together.", min=1)] = 4,
    changes: Changes = None,
    skip_bad: SkipBad = False,
    as_json: AsJSON = False,
) -> None:
    """Score generated visits against the true ones, and copy-last beside them."""
    from longigen.files import writable_folder
    from longigen.source import Source

    with transfer("pulling") as update:
        Source.of(model).find(update)
    if out is not None:
        writable_folder(out)

    from longigen.assessment import Assessment, load_metrics, protocol_of
    from longigen.heap import keep_freed_memory

    metrics = load_metrics(metric, say, samples)
    keep_freed_memory()

    from accelerate import PartialState

    from longigen.evaluation import summarise
    from longigen.generation import GenerationSettings
    from longigen.inquiry import Inquiry
    from longigen.metric import SetMetric
    from longigen.registry import registry
    from longigen.result import Result
    from longigen.spread import caution

    with progress("reading") as update:
        inquiry = Inquiry.open(model, data=data, changes=changes or [], part=part, skip_bad=skip_bad, callback=update)
    say_skipped(inquiry.cohort.skipped)
    walker = registry.load("sampler", sampler)() if sampler else None
    generation = GenerationSettings(sampler=walker, steps=steps, guidance=guidance, seed=seed)
    protocol = protocol_of(inquiry, metrics, chosen_settings(setting), targets, seed, samples)
    made = Assessment.of(inquiry, generation, protocol, metrics, batch_size=batch_size, progress=progress)
    if not PartialState().is_main_process:
        return
    simulated = ", simulated" if inquiry.cohort.dataset.simulated else ""
    title = f"{inquiry.cohort.name}{simulated}: {len(inquiry.subjects)} subjects ({inquiry.note}), target: {targets}"
    rows = summarise(made.scores, metrics)
    table = _table(rows, metrics, f"{title}\nprotocol {protocol.hash}", samples)
    cautions = [caution(samples, made.generation["steps"])]
    fewest = min((row["visits"] for row in rows), default=0)
    cautions += [metric.caution(fewest) for metric in metrics.values() if isinstance(metric, SetMetric)]
    for line in filter(None, cautions):
        say(line)
    result = Result.of(made, inquiry)
    kept = result.keep(inquiry.source)
    if out is not None:
        from longigen.figure import write_strip
        from longigen.files import atomic

        made.write(out)
        result.write(out)
        with atomic(out / "table.txt") as path:
            path.write_text(table + "\n", "utf-8")
        write_strip(
            made.shown, out / "strip.png", title=f"{inquiry.cohort.name}{simulated}, setting {protocol.settings[-1]}"
        )
    typer.echo(json.dumps(made.summary, indent=2) if as_json else table)
    if out is not None:
        say(f"table.txt, summary.json, metrics.json, subjects.csv and strip.png are in {out}")
    if kept is not None:
        say(f"{kept} holds these numbers now, and 'longigen push {model} ORG/NAME' publishes them with the weights")


def _table(rows: Sequence[dict[str, Any]], metrics: dict[str, Any], title: str, samples: int = 1) -> str:
    """Return the table as text: per setting and metric, copy-last, the model and its paired gain, with intervals.

    Of several samples, what they are together has its own block, and metrics of an ensemble are in that alone.
    """
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from longigen.evaluation import mean_of
    from longigen.metric import SetMetric, notes_of_sets

    notes = ["means over subjects [95 % bootstrap interval]; gain: model minus copy-last, subject by subject"]
    together = [name for name, metric in metrics.items() if metric.ensemble]
    if samples > 1:
        notes.append(f"mean of {samples}: metrics are of the mean of {samples} samples")
    if samples > 1 and together:
        notes[-1] += f", but {', '.join(together)}\nof the samples; → is the value of a calibrated model"
    pooled = {name: metric for name, metric in metrics.items() if isinstance(metric, SetMetric)}
    notes += notes_of_sets(metrics)
    table = Table(
        title=title,
        title_justify="left",
        caption="\n".join(notes),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("setting", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("copy-last", "model", "gain"):
        table.add_column(column, no_wrap=True, justify="right")
    by_method = {(row["setting"], row["method"]): row for row in rows}
    for setting, method in by_method:
        if method == "copy-last":
            continue
        copied, made = by_method[setting, "copy-last"], by_method[setting, method]
        several = method == mean_of(samples)
        heads = [setting, *([f"mean of {samples}"] if several else [])]
        shown = {name: metric for name, metric in metrics.items() if several or not metric.ensemble}
        for place, (name, metric) in enumerate(shown.items()):
            label = f"{name}, N={made['visits']}" if name in pooled and not metric.ensemble else name
            table.add_row(
                heads[place] if place < len(heads) else "",
                f"{label} {metric.arrow(samples)}".rstrip(),
                copied[name].cell(),
                made[name].cell(),
                made[f"{name} gain"].cell(signed=True),
            )
        table.add_section()
    buffer = StringIO()
    Console(file=buffer, width=120, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")
