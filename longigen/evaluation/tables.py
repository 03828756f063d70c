"""Tables of the results of an evaluation and of a benchmark."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from longigen.components.metric import Metric, SetMetric, metric_notes
from longigen.evaluation.result_table import ResultTable
from longigen.hub.metrics_file import BLURRED, CODED, COPIES, COPY_LAST, MODEL, SEGMENTED, ResultRow
from longigen.utils.intervals import MEAN, Average, Summary


def evaluation_table(
    rows: Sequence[ResultRow],
    metrics: Mapping[str, Metric],
    title: str,
    samples: int = 1,
    average: Average = MEAN,
) -> ResultTable:
    """Return a table of the copies, the model and its paired gain with intervals, by scenario and metric.

    The mean of several samples has its own rows; ensemble metrics appear only there.

    Args:
        rows: rows, as `longigen.evaluation.scoring.summarise` returns them.
        metrics: metrics by name.
        title: title above the table.
        samples: number of samples of each visit.
        average: how subjects were averaged.
    """
    notes = [means_note(rows, average), "gain: model minus copy-last, paired by subject"]
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
    if any(row.method == CODED for row in rows):
        copies.append(CODED)
        notes.append(
            f"{CODED}: the true images as the model's codec encodes and decodes them, which no model with it beats"
        )
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
    return ResultTable(["setting", "metric", *heads, "model", "gain"], lines, left=2, title=title, notes=notes)


def means_note(rows: Sequence[ResultRow], average: Average = MEAN) -> str:
    """Return the note below a table on its means or medians: over how many subjects, and what the brackets are."""
    counts = sorted(_counts(rows))
    if not counts:
        return "no metric is defined for any subject"
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts[-1] < average.least:
        return f"{average.name}s over subjects, n = {span}; no interval below {average.least}"
    return f"{average.name}s over subjects, n = {span} [{average.interval}]"


def benchmark_tables(rows: Sequence[ResultRow], metrics: Mapping[str, Metric]) -> list[ResultTable]:
    """Return one table per scenario."""
    blocks = []
    for scenario in dict.fromkeys(row.setting for row in rows):
        columns = [f"setting {scenario}", *(f"{name} {metric.arrow()}" for name, metric in metrics.items())]
        lines: list[list[str] | None] = [
            [row.method, *(_cell(row.values[n], row.gains.get(n), m.higher_is_better) for n, m in metrics.items())]
            for row in rows
            if row.setting == scenario
        ]
        blocks.append(ResultTable(columns, lines))
    return blocks


def fold_tables(
    rows: Sequence[ResultRow],
    by_fold: Sequence[Mapping[str, Mapping[int, float]]],
    metrics: Mapping[str, Metric],
) -> list[ResultTable]:
    """Return one table per scenario of how much the averages of the folds differ.

    Args:
        rows: rows of the benchmark.
        by_fold: for each row, the mean of each metric by fold.
        metrics: metrics by name.
    """
    blocks = []
    for scenario in dict.fromkeys(row.setting for row in rows):
        columns = [f"by fold, setting {scenario}", *(f"{name} {metric.arrow()}" for name, metric in metrics.items())]
        lines: list[list[str] | None] = [
            [row.method, *(_spread(list(folds[name].values())) for name in metrics)]
            for row, folds in zip(rows, by_fold, strict=True)
            if row.setting == scenario
        ]
        blocks.append(ResultTable(columns, lines))
    return blocks


def cost_table(costs: Sequence[Mapping[str, Any]], memory_kind: str) -> ResultTable:
    """Return a table of the costs of each method: parameters, network evaluations, steps, seconds, peak memory.

    Args:
        costs: costs of each method; see `BenchmarkResult.costs`.
        memory_kind: the kind of memory whose peak was measured.
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
    return ResultTable(columns, lines, notes=notes)


def row_records(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Return one record per row and metric: the mean and the gain over copy-last, with their intervals."""
    none = Summary.from_dict(None)
    return [
        {
            "setting": row.setting,
            "method": row.method,
            "metric": name,
            "visits": row.visits,
            **vars(value),
            **{f"gain_{end}": getattr(row.gains.get(name, none), end) for end in ("mean", "low", "high")},
        }
        for row in rows
        for name, value in row.values.items()
    ]


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
