"""Text tables of the results of an evaluation and of a benchmark."""

import math
from collections.abc import Mapping, Sequence
from io import StringIO
from statistics import mean, stdev
from textwrap import fill
from typing import Any

from longigen.components.metric import Metric, SetMetric, metric_notes
from longigen.hub.metrics_file import BLURRED, COPIES, COPY_LAST, MODEL, SEGMENTED, ResultRow
from longigen.utils.intervals import INTERVAL, LEAST, Summary

WIDTH = 120
"""The largest width of a table in a file, in characters; a terminal may be narrower."""

UNLIMITED = 10_000
"""More than any table needs."""


def evaluation_table(
    rows: Sequence[ResultRow], metrics: Mapping[str, Metric], title: str, samples: int = 1, width: int = WIDTH
) -> str:
    """Return a table of the copies, the model and its paired gain with intervals, by scenario and metric.

    The mean of several samples has its own rows; ensemble metrics appear only there.

    Args:
        rows: rows, as `longigen.evaluation.scoring.summarise` returns them.
        metrics: metrics by name.
        title: title above the table.
        samples: number of samples of each visit.
        width: the largest width, see `render`.
    """
    notes = [means_note(rows), "gain: model minus copy-last, paired by subject"]
    copies = [name for name in COPIES if name == COPY_LAST or any(row.method == name for row in rows)]
    if len(copies) > 1:
        notes.append("blurred: copy-last smoothed by a Gaussian, with its standard deviation in voxels")
    ensemble = [name for name, metric in metrics.items() if metric.ensemble]
    if samples > 1:
        notes.append(f"mean of {samples}: metrics of the mean of {samples} samples")
    if samples > 1 and ensemble:
        notes[-1] += f";\n{', '.join(ensemble)}: of the samples themselves; → is the value of a calibrated model"
    notes += metric_notes(metrics)
    lines: list[list[str] | None] = []
    if any(row.method == SEGMENTED for row in rows):
        copies.append(SEGMENTED)
        notes.append(f"{SEGMENTED}: the segmenter's label maps of the true images, which shows its own error")
    copied = {(row.setting, row.method): row for row in rows if row.method in copies}
    most = max(_counts(rows), default=0)
    for row in rows:
        if row.method in copies:
            continue
        several = row.method != MODEL
        heads = [row.setting, *([f"mean of {samples}"] if several else [])]
        shown = {name: metric for name, metric in metrics.items() if several or not metric.ensemble}
        for place, (name, metric) in enumerate(shown.items()):
            in_sets = isinstance(metric, SetMetric) and not metric.ensemble
            label = f"{name}, N={row.visits}" if in_sets else name
            if 0 < row.values[name].subjects < most:
                label += f", n={row.values[name].subjects}"
            cells = [
                *(_mean(copied[row.setting, copy].values[name]) for copy in copies),
                row.values[name].cell(),
                row.gains[name].cell(signed=True),
            ]
            head = heads[place] if place < len(heads) else ""
            lines.append([head, f"{label} {metric.arrow(samples)}".rstrip(), *cells])
        lines.append(None)
    heads = [f"blurred\n{BLURRED[copy]:g}" if copy in BLURRED else copy.replace(" ", "\n") for copy in copies]
    return render(["setting", "metric", *heads, "model", "gain"], lines, left=2, title=title, notes=notes, width=width)


def means_note(rows: Sequence[ResultRow]) -> str:
    """Return the note below a table on its means: over how many subjects, and what the brackets are."""
    counts = sorted(_counts(rows))
    if not counts:
        return "no metric is defined for any subject"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] < LEAST:
        return f"means over subjects, n = {span}; no interval below {LEAST}"
    return f"means over subjects, n = {span} [{INTERVAL}]"


def benchmark_tables(rows: Sequence[ResultRow], metrics: Mapping[str, Metric], width: int = WIDTH) -> list[str]:
    """Return one table per scenario, of at most `width` characters per line; see `render`."""
    blocks = []
    for scenario in dict.fromkeys(row.setting for row in rows):
        columns = [f"setting {scenario}", *(f"{name} {metric.arrow()}" for name, metric in metrics.items())]
        lines: list[list[str] | None] = [
            [row.method, *(_cell(row.values[n], row.gains.get(n), m.higher_is_better) for n, m in metrics.items())]
            for row in rows
            if row.setting == scenario
        ]
        blocks.append(render(columns, lines, width=width))
    return blocks


def fold_tables(
    rows: Sequence[ResultRow],
    by_fold: Sequence[Mapping[str, Mapping[int, float]]],
    metrics: Mapping[str, Metric],
    width: int = WIDTH,
) -> list[str]:
    """Return one table per scenario of how much the averages of the folds differ; see `render`.

    Args:
        rows: rows of the benchmark.
        by_fold: for each row, the mean of each metric by fold.
        metrics: metrics by name.
        width: the largest width.
    """
    blocks = []
    for scenario in dict.fromkeys(row.setting for row in rows):
        columns = [f"by fold, setting {scenario}", *(f"{name} {metric.arrow()}" for name, metric in metrics.items())]
        lines: list[list[str] | None] = [
            [row.method, *(_spread(list(folds[name].values())) for name in metrics)]
            for row, folds in zip(rows, by_fold, strict=True)
            if row.setting == scenario
        ]
        blocks.append(render(columns, lines, width=width))
    return blocks


def cost_table(costs: Sequence[Mapping[str, Any]], memory_kind: str, width: int = WIDTH) -> str:
    """Return a table of the costs of each method: parameters, network evaluations, steps, seconds, peak memory.

    Args:
        costs: costs of each method; see `BenchmarkResult.costs`.
        memory_kind: the kind of memory whose peak was measured.
        width: the largest width, see `render`.
    """

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
    notes = [
        "NFE: network evaluations per visit; × 2: with guidance, each evaluates a batch of two",
        f"MB: peak memory, {memory_kind}; seconds: wall clock, training including validation and checkpoints",
    ]
    return render(columns, lines, notes=notes, width=width)


def render(
    columns: Sequence[str],
    lines: Sequence[Sequence[str] | None],
    *,
    left: int = 1,
    title: str | None = None,
    notes: Sequence[str] = (),
    width: int = WIDTH,
) -> str:
    """Return a table as plain text of at most `width` characters per line.

    If its columns need more, those that do not fit stand in further tables below, each with the columns on the left.

    Args:
        columns: names of the columns.
        lines: lines of cells; None starts a new section.
        left: number of columns aligned to the left, which name the lines; the others are aligned to the right.
        title: title above the table.
        notes: notes below the table, one line each.
        width: the largest width; a line is longer where one column alone needs more.
    """
    from rich.cells import cell_len

    widths = [
        2
        + max(cell_len(text) for cell in (name, *(line[place] for line in lines if line)) for text in cell.split("\n"))
        for place, name in enumerate(columns)
    ]
    blocks: list[list[int]] = []
    free = 0
    for place in range(left, len(columns)):
        if widths[place] > free or not blocks:
            blocks.append([])
            free = width - sum(widths[:left])
        blocks[-1].append(place)
        free -= widths[place]
    tables = []
    for block in blocks:
        shown = [*range(left), *block]
        part = [None if line is None else [line[place] for place in shown] for line in lines]
        tables.append(_render([columns[place] for place in shown], part, left, edges=title is not None))
    above, below = (filled(part, width) for part in (title or "", "\n".join(notes)))
    return "\n\n".join(part for part in (above, *tables, below) if part)


def _render(columns: Sequence[str], lines: Sequence[Sequence[str] | None], left: int, *, edges: bool) -> str:
    """Return a table as plain text, as wide as it needs; with `edges` it is indented by a space."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 1) if edges else (0, 2, 0, 0),
        collapse_padding=edges,
        pad_edge=edges,
    )
    for place, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if place < left else "right")
    for line in lines:
        if line is None:
            table.add_section()
        else:
            table.add_row(*map(Text, line))
    buffer = StringIO()
    Console(file=buffer, width=UNLIMITED, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n")


def filled(text: str, width: int) -> str:
    """Return lines of prose with at most `width` characters each, broken between words; a longer word stays whole."""
    return "\n".join(fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())


def _counts(rows: Sequence[ResultRow]) -> set[int]:
    """Return the numbers of subjects for which metrics are defined."""
    return {value.subjects for row in rows for value in row.values.values() if value.subjects}


def _mean(summary: Summary) -> str:
    """Return the text of a cell with the mean alone."""
    return Summary(summary.mean, math.nan, math.nan, summary.subjects).cell()


def _spread(averages: Sequence[float]) -> str:
    """Return a cell of two lines: mean ± standard deviation of averages, and the lowest and the highest of them."""
    known = [average for average in averages if math.isfinite(average)]
    if len(known) < 2:
        return "-  \n"
    middle = mean(known)
    digits = 2 if abs(middle) >= 10 else 4
    return f"{middle:.{digits}f} ± {stdev(known):.{digits}f}\n[{min(known):.{digits}f}, {max(known):.{digits}f}]"


def _cell(summary: Summary, gain: Summary | None, higher_is_better: bool | None) -> str:
    """Return a cell of two lines: the mean, with ▲ or ▼ if it differs from copy-last, and the interval."""
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
    interval = "" if math.isnan(summary.low) else f"[{summary.low:.{digits}f}, {summary.high:.{digits}f}]"
    return f"{summary.mean:.{digits}f} {mark}\n{interval}"
