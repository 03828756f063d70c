"""Results as text: the table of an evaluation and the tables of a benchmark."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from longigen.components.metric import Metric, SetMetric, notes_of_sets
from longigen.hub.metrics_file import COPY_LAST, MODEL, ResultRow
from longigen.utils.intervals import Summary

WIDTH = 120
"""Columns of text that a table may take."""


def evaluation_table(rows: Sequence[ResultRow], metrics: Mapping[str, Metric], title: str, samples: int = 1) -> str:
    """Return, by scenario and metric, copy-last, the model and its paired gain, with intervals.

    The mean of several samples has a block of its own, and metrics of an ensemble are in that alone.

    Args:
        rows: of `longigen.evaluation.scoring.summarise`.
        metrics: by name.
        title: above the table.
        samples: of each visit.
    """
    notes = ["means over subjects [95 % bootstrap interval]; gain: model minus copy-last, subject by subject"]
    together = [name for name, metric in metrics.items() if metric.ensemble]
    if samples > 1:
        notes.append(f"mean of {samples}: metrics are of the mean of {samples} samples")
    if samples > 1 and together:
        notes[-1] += f", but {', '.join(together)}\nof the samples; → is the value of a calibrated model"
    notes += notes_of_sets(metrics)
    lines: list[list[str] | None] = []
    copied = {row.setting: row for row in rows if row.method == COPY_LAST}
    for row in rows:
        if row.method == COPY_LAST:
            continue
        several = row.method != MODEL
        heads = [row.setting, *([f"mean of {samples}"] if several else [])]
        shown = {name: metric for name, metric in metrics.items() if several or not metric.ensemble}
        for place, (name, metric) in enumerate(shown.items()):
            in_sets = isinstance(metric, SetMetric) and not metric.ensemble
            label = f"{name}, N={row.visits}" if in_sets else name
            cells = [
                copied[row.setting].values[name].cell(),
                row.values[name].cell(),
                row.gains[name].cell(signed=True),
            ]
            head = heads[place] if place < len(heads) else ""
            lines.append([head, f"{label} {metric.arrow(samples)}".rstrip(), *cells])
        lines.append(None)
    return render(["setting", "metric", "copy-last", "model", "gain"], lines, left=2, title=title, notes=notes)


def benchmark_tables(rows: Sequence[ResultRow], metrics: Mapping[str, Metric]) -> list[str]:
    """Return one block of text per scenario, and more where not all metrics fit beside each other."""
    first = max(len(row.method) for row in rows) + 2
    blocks = []
    for scenario in dict.fromkeys(row.setting for row in rows):
        own = [row for row in rows if row.setting == scenario]
        for names in _chunks(list(metrics), own, WIDTH - first):
            columns = [f"setting {scenario}", *(f"{name} {metrics[name].arrow()}" for name in names)]
            lines: list[list[str] | None] = [
                [row.method, *(_cell(row.values[n], row.gains.get(n), metrics[n].higher_is_better) for n in names)]
                for row in own
            ]
            blocks.append(render(columns, lines))
    return blocks


def cost_table(costs: Sequence[Mapping[str, Any]], memory_kind: str) -> str:
    """Return what each method of a benchmark costs; see `BenchmarkResult.costs`."""

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
        for row in costs
    ]
    return (
        render(columns, lines) + "\n\n"
        "NFE: network evaluations per visit, each of two volumes where it is guided (× 2)\n"
        f"MB: peak memory, {memory_kind}; seconds: wall clock, training with its validation and checkpoints"
    )


def render(
    columns: Sequence[str],
    lines: Sequence[Sequence[str] | None],
    *,
    left: int = 1,
    title: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return a table as plain text, `WIDTH` columns at most.

    Args:
        columns: their names.
        lines: of cells; None begins a new section.
        left: how many columns are aligned to the left; the others are numbers.
        title: above the table.
        notes: below the table, a line each.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        title_justify="left",
        caption="\n".join(notes) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        **({} if title else {"padding": (0, 2, 0, 0), "pad_edge": False}),
    )
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if place < left else "right")
    for line in lines:
        if line is None:
            table.add_section()
        else:
            table.add_row(*map(Text, line))
    buffer = StringIO()
    Console(file=buffer, width=WIDTH, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def _cell(summary: Summary, gain: Summary | None, higher_is_better: bool | None) -> str:
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


def _chunks(names: Sequence[str], rows: Sequence[ResultRow], width: int) -> list[list[str]]:
    """Return metrics in groups that fit beside each other."""
    chunks: list[list[str]] = []
    left = 0
    for name in names:
        widths = [len(line) for row in rows for line in _cell(row.values[name], None, True).splitlines()]
        wide = max(len(name) + 2, *widths) + 2
        if wide > left:
            chunks.append([])
            left = width
        chunks[-1].append(name)
        left -= wide
    return chunks
