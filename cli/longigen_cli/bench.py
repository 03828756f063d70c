"""``longigen bench``: a table of methods, trained and scored alike."""

import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longigen.errors import LongigenError
from longigen_cli.console import (
    AsJSON,
    Changes,
    Data,
    Metrics,
    Settings,
    SkipBad,
    Targets,
    chosen_settings,
    progress,
    say,
    say_skipped,
)

if TYPE_CHECKING:
    from longigen.bench import Bench, Result
    from longigen.evaluation import Summary

WIDTH = 120
PICTURES = "pictures.png"
PICTURED = 2
"""Subjects in the picture."""


def bench(
    table: Annotated[str, typer.Argument(help="A table's name, such as sadm-ablation (see 'longigen list tables').")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder of all runs; by default bench/TABLE.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="Only this row (may be repeated).")] = None,
    recipe: Annotated[str | None, typer.Option(help="What all rows start from, instead of the table's recipe.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of each row.", min=1)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of training of each row, instead of steps.", min=0.01)
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Train with this seed (may be repeated); 0 by default.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Train with so many seeds, from 0.", min=1)] = None,
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
    if steps and minutes:
        raise LongigenError("--steps and --minutes both say how long to train; give one of the two.")
    if seed and seeds:
        raise LongigenError("--seed names seeds and --seeds counts them; give one of the two.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LongigenError("A bench is one process; start it without 'accelerate launch'.")

    from longigen.table import Table

    folder = out or Path("bench") / table
    chosen = Table.of(table, recipe=recipe)
    chosen.only(row or [])

    from longigen.assessment import load_metrics
    from longigen.bench import Bench
    from longigen.figure import write_comparison
    from longigen.heap import keep_freed_memory

    metrics = load_metrics(metric or list(chosen.metrics), say)
    keep_freed_memory()
    made = Bench(
        chosen,
        folder,
        rows=row or [],
        seeds=seed or range(seeds or 1),
        data=data,
        steps=steps,
        minutes=minutes,
        changes=changes or [],
        skip_bad=skip_bad,
        progress=progress,
    )
    say_skipped(made.cohort.skipped)
    for name, unused in made.unused.items():
        if unused:
            say(f"'{name}' has no use for --set {', '.join(unused)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's pre-emption: checkpoint, as for Ctrl-C
    try:
        result = made.run(metrics, settings=chosen_settings(setting), targets=targets)
    except KeyboardInterrupt:
        say("Stopped; the same command continues.")
        raise
    content, text = _content(made, result), _text(made, result, metrics)
    _write(folder, content, text, result)
    shown = result.protocol.settings[0]
    write_comparison(
        made.answers(shown, subjects=PICTURED),
        folder / PICTURES,
        title=f"{table} on {made.cohort.name}{', simulated' if made.cohort.dataset.simulated else ''}, setting {shown}",
    )
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False) if as_json else text)
    say(f"table.txt, table.json, subjects.csv and {PICTURES} are in {folder}, and a run for each row and seed")


def _content(made: "Bench", result: "Result") -> dict[str, Any]:
    from longigen import __version__
    from longigen.evaluation import Summary

    def plain(value: Any) -> Any:
        if isinstance(value, Summary):
            return value.to_dict()
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "table": made.table.name,
        "paper": made.table.paper,
        "longigen": __version__,
        "protocol_hash": result.protocol.hash,
        "protocol": result.protocol.to_dict(),
        "simulated": made.cohort.dataset.simulated,
        "seeds": list(dict.fromkeys(entry.seed for entry in made.entries)),
        "training": made.budget,
        "device": made.device_name,
        "methods": {entry.row.name: plain(dict(vars(entry.row))) for entry in made.entries},
        "changes": list(made.changes),
        "rows": [plain(row) for row in result.rows],
        "costs": [plain(row) for row in result.costs],
    }


def _write(folder: Path, content: dict[str, Any], text: str, result: "Result") -> None:
    from longigen.assessment import write_scores
    from longigen.files import atomic, write_json

    write_scores(result.scores, folder / "subjects.csv")
    write_json(content, folder / "table.json")
    with atomic(folder / "table.txt") as part:
        part.write_text(text + "\n", encoding="utf-8")


def _text(made: "Bench", result: "Result", metrics: dict[str, Any]) -> str:
    """Return the table as text, `WIDTH` columns at most: a block per setting, then what each method costs."""
    from longigen.metric import notes_of_sets

    protocol = result.protocol
    simulated = ", simulated" if made.cohort.dataset.simulated else ""
    seeds = list(dict.fromkeys(entry.seed for entry in made.entries))
    budget = made.budget
    batch = budget["batch_size"] * budget["gradient_accumulation"]
    length = f"{made.minutes:g} minutes, in steps" if made.minutes else f"{budget['steps']} steps"
    head = [
        f"{made.table.name}: {made.table.summary}",
        f"{made.cohort.name}{simulated}: {protocol.subjects} subjects that training never saw, target: "
        f"{protocol.targets}; protocol {protocol.hash}",
        f"each row trained for {length} of {batch} pairs, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, on {made.device_name}",
    ]
    methods = list(dict.fromkeys(row["method"] for row in result.rows))
    first = max(map(len, methods)) + 2
    blocks = []
    for setting in protocol.settings:
        rows = [row for row in result.rows if row["setting"] == setting]
        for names in _chunks(list(metrics), rows, WIDTH - first):
            columns = [f"{name} {metrics[name].arrow()}" for name in names]
            lines = [
                [row["method"], *(_cell(row[n], row.get(f"{n} gain"), metrics[n].higher_is_better) for n in names)]
                for row in rows
            ]
            blocks.append(_block([f"setting {setting}", *columns], lines))
    notes = (
        "means over subjects"
        + (", each averaged over seeds first," if len(seeds) > 1 else "")
        + " [95 % bootstrap interval]\n"
        "▲ better, ▼ worse than copy-last: the interval of the paired gain, subject by subject, leaves out 0\n"
        "(and the gain is not too small for the digits shown)"
    )
    notes = "\n".join([notes, *notes_of_sets(metrics)])
    return "\n\n".join(["\n".join(head), *blocks, notes, _costs(made, result)])


def _costs(made: "Bench", result: "Result") -> str:
    def number(value: float | None, scale: float = 1.0, digits: int = 0) -> str:
        return "-" if value is None else f"{value / scale:,.{digits}f}"

    columns = ["costs", "parameters", "NFE", "steps", "training s", "s per visit", "training MB", "generation MB"]
    lines = [
        [
            row["method"],
            number(row["parameters"]),
            f"{row['nfe']}{' × 2' if row['guidance'] else ''}",
            number(row["steps"]),
            number(row["training_seconds"], digits=1),
            number(row["seconds_per_visit"], digits=4),
            number(row["training_bytes"], 1e6),
            number(row["generation_bytes"], 1e6),
        ]
        for row in result.costs
    ]
    return (
        _block(columns, lines) + "\n\n"
        "NFE: network evaluations per visit, each of two volumes where it is guided (× 2)\n"
        f"MB: peak memory, {made.memory_kind}; seconds: wall clock, training with its validation and checkpoints"
    )


def _cell(summary: "Summary", gain: "Summary | None", higher_is_better: bool | None) -> str:
    """Return a cell of two lines: the mean with its mark, and the interval."""
    if not summary.subjects:
        return "-  \n"
    digits = 2 if abs(summary.mean) >= 10 else 4
    mark = " "
    if (
        gain is not None
        and higher_is_better is not None
        and (gain.low > 0 or gain.high < 0)
        and abs(gain.mean) >= 0.5 * 10**-digits
    ):
        mark = "▲" if (gain.low > 0) == higher_is_better else "▼"
    return f"{summary.mean:.{digits}f} {mark}\n[{summary.low:.{digits}f}, {summary.high:.{digits}f}]"


def _chunks(names: Sequence[str], rows: Sequence[dict[str, Any]], width: int) -> list[list[str]]:
    """Return metrics in groups that fit beside each other."""
    chunks: list[list[str]] = []
    left = 0
    for name in names:
        widths = [len(line) for row in rows for line in _cell(row[name], None, True).splitlines()]
        wide = max(len(name) + 2, *widths) + 2
        if wide > left:
            chunks.append([])
            left = width
        chunks[-1].append(name)
        left -= wide
    return chunks


def _block(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="right" if place else "left")
    for line in lines:
        table.add_row(*map(Text, line))
    buffer = StringIO()
    Console(file=buffer, width=WIDTH, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")
