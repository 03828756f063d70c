"""``longigen evaluate``: the protocol's table, the model beside copy-last."""

import csv
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from longigen.errors import LongigenError, did_you_mean
from longigen_cli.console import AsJSON, Changes, Data, Model, SkipBad, progress, say, say_skipped


class SettingName(StrEnum):
    """The three settings: typer takes a list of an enumeration, but not of a Literal."""

    SINGLE = "single"
    MISSING = "missing"
    FULL = "full"


STRIP_ROWS = 4


def evaluate(
    model: Model,
    out: Annotated[Path | None, typer.Option("--out", help="The folder for table, CSV, JSON and picture.")] = None,
    data: Data = None,
    setting: Annotated[
        list[SettingName] | None, typer.Option(help="Only this setting (may be repeated); all three by default.")
    ] = None,
    targets: Annotated[
        Literal["last", "all"], typer.Option(help="Score each subject's last visit, the same in all settings, or all.")
    ] = "last",
    part: Annotated[
        Literal["train", "validation", "test", "all"] | None,
        typer.Option(help="Of the model's own data; by default what training never saw."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric (may be repeated).")] = None,
    sampler: Annotated[str | None, typer.Option(help="Walk with another sampler than the model's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Network evaluations per visit.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Weight of classifier-free guidance.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Of the noise and of which visits are missing.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Subjects that are generated together.", min=1)] = 4,
    changes: Changes = None,
    skip_bad: SkipBad = False,
    as_json: AsJSON = False,
) -> None:
    """Score generated visits against the true ones, and copy-last beside them."""
    from longigen.files import writable_folder
    from longigen.heap import keep_freed_memory

    if out is not None:
        writable_folder(out)
    names = _metrics(metric)
    keep_freed_memory()

    from accelerate import PartialState
    from accelerate.utils import gather_object

    from longigen.evaluation import Protocol, score, summarise
    from longigen.generation import GenerationSettings
    from longigen.inquiry import Inquiry
    from longigen.registry import registry
    from longigen.setting import SETTINGS, Setting, last_only
    from longigen.split import fingerprint

    metrics = {name: made for name in names if (made := _metric(name, required=metric is not None)) is not None}
    with progress("reading") as update:
        inquiry = Inquiry.open(model, data=data, changes=changes or [], part=part, skip_bad=skip_bad, callback=update)
    say_skipped(inquiry.cohort.skipped)
    state = PartialState()
    inquiry.model.to(state.device)
    chosen = [name.value for name in setting or SettingName]
    settings: tuple[Setting, ...] = tuple(each for each in SETTINGS if each in chosen)
    walker = registry.load("sampler", sampler)() if sampler else None
    generation = GenerationSettings(sampler=walker, steps=steps, guidance=guidance, seed=seed)
    protocol = Protocol.describe(
        metrics=metrics,
        preprocess=inquiry.cohort.pipeline,
        data=inquiry.cohort.name,
        fingerprint=fingerprint([prepared.subject for prepared in inquiry.subjects]),
        part=inquiry.part,
        subjects=len(inquiry.subjects),
        settings=settings,
        targets=targets,
        setting_seed=seed,
    )
    scores, shown = [], []
    for each in settings:
        questions = inquiry.questions(each, seed=seed, select=last_only if targets == "last" else None)
        with state.split_between_processes(list(range(len(questions)))) as mine, progress(each) as update:
            own = [questions[index] for index in mine]
            for answer in inquiry.answers(own, generation, batch_size=batch_size, callback=update):
                scores += score(answer, each, metrics, targets=targets)
                if each == settings[-1] and len(shown) < STRIP_ROWS:
                    shown.append(answer)
    scores = gather_object(scores)
    if not state.is_main_process:
        return
    rows = summarise(scores)
    result = {
        "protocol_hash": protocol.hash,
        "protocol": protocol.to_dict(),
        "model": inquiry.provenance,
        "generation": {
            "steps": steps or (walker or inquiry.model.sampler).steps,
            "guidance": inquiry.model.settings.guidance if guidance is None else guidance,
            "seed": seed,
        },
        "rows": [{k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in row.items()} for row in rows],
    }
    simulated = ", simulated" if inquiry.cohort.dataset.simulated else ""
    title = f"{inquiry.cohort.name}{simulated}: {len(inquiry.subjects)} subjects ({inquiry.note}), target: {targets}"
    if out is not None:
        _write(out, result, scores, rows, title, metrics)
        from longigen.figure import write_strip

        write_strip(shown, out / "strip.png", title=f"{inquiry.cohort.name}{simulated}, setting {settings[-1]}")
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo(_table(rows, metrics, f"{title}\nprotocol {protocol.hash}"))
    if out is not None:
        say(f"table.txt, summary.json, subjects.csv and strip.png are in {out}")


def _metrics(chosen: Sequence[str] | None) -> list[str]:
    from longigen.registry import registry

    known = registry.entries("metric")
    for name in chosen or []:
        if name not in known:
            raise LongigenError(
                f"There is no metric '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known)}."
            )
    return list(chosen or known)


def _metric(name: str, *, required: bool) -> Any:
    """Make a metric; one that was not asked for and does not load is said and left out."""
    from longigen.registry import registry

    try:
        return registry.load("metric", name)()
    except LongigenError as error:
        if required:
            raise
        say(f"Left out: {error}")
        return None


def _table(rows: Sequence[dict[str, Any]], metrics: dict[str, Any], title: str) -> str:
    """Return the table as text: per setting and metric, copy-last, the model and its paired gain, with intervals."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        caption="means over subjects [95 % bootstrap interval]; gain: model minus copy-last, subject by subject",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("setting", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("copy-last", "model", "gain"):
        table.add_column(column, no_wrap=True, justify="right")
    by_method = {(row["setting"], row["method"]): row for row in rows}
    for setting in dict.fromkeys(row["setting"] for row in rows):
        copied, made = by_method[setting, "copy-last"], by_method[setting, "model"]
        for place, (name, metric) in enumerate(metrics.items()):
            table.add_row(
                "" if place else setting,
                f"{name} {'↑' if metric.higher_is_better else '↓'}",
                _cell(copied[name]),
                _cell(made[name]),
                _cell(made[f"{name} gain"], signed=True),
            )
        table.add_section()
    buffer = StringIO()
    Console(file=buffer, width=120, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def _cell(summary: Any, *, signed: bool = False) -> str:
    if not summary.subjects:
        return "-"
    sign = "+" if signed else ""
    digits = 2 if abs(summary.mean) >= 10 else 4
    return f"{summary.mean:{sign}.{digits}f} [{summary.low:{sign}.{digits}f}, {summary.high:{sign}.{digits}f}]"


def _write(
    out: Path, result: dict[str, Any], scores: Sequence[Any], rows: Sequence[Any], title: str, metrics: dict[str, Any]
) -> None:
    from longigen.files import atomic, write_json

    write_json(result, out / "summary.json")
    with atomic(out / "table.txt") as part:
        part.write_text(_table(rows, metrics, f"{title}\nprotocol {result['protocol_hash']}") + "\n", "utf-8")
    with atomic(out / "subjects.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        lines = [score.to_row() for score in scores]
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
