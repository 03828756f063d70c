"""Results that `evaluate` and `bench` wrote, read again: one per method, with the values of each subject and seed."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean as mean
from typing import Any, Self

from longigen.errors import LongigenError
from longigen.evaluation.evaluate import SCORES, SUMMARY, read_rows
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.protocol import protocol_hash
from longigen.evaluation.scoring import Score, by_subject
from longigen.hub.manifest import METRICS, MODEL_FOLDER
from longigen.hub.metrics_file import COPIES, MALFORMED, MODEL, ResultRow
from longigen.utils.files import read_json, reason
from longigen.utils.intervals import Summary

TABLE_FILE = "table.json"
EVALUATION = "evaluation"
PLACES_OF_RESULTS = (TABLE_FILE, SUMMARY, f"{EVALUATION}/{SUMMARY}", METRICS, f"{MODEL_FOLDER}/{METRICS}")
"""Where a folder may hold results, the most detailed first."""

PerSubject = Mapping[str, Mapping[str, float]]
"""The mean over visits of each metric, by subject."""


@dataclass(frozen=True)
class Result:
    """The results of one method by one protocol.

    Attributes:
        name: name of the method.
        path: the file that they were read from.
        protocol: the protocol, as `Protocol.to_dict` wrote it.
        arrows: direction of better values of each metric, as `Metric.arrow` returns it; empty where it is not known.
        rows: the row of each setting.
        copies: the rows of the copies of the last given visit, by setting and name.
        seeds: for each seed, and each setting, the values by subject; empty if only means are known.
        copied: the same of the copies, by setting and name.
        unseen: whether no training used any of the subjects; None if that is not known.
    """

    name: str
    path: Path
    protocol: Mapping[str, Any]
    arrows: Mapping[str, str]
    rows: Mapping[str, ResultRow]
    copies: Mapping[tuple[str, str], ResultRow]
    seeds: Sequence[Mapping[str, PerSubject]] = field(default=(), repr=False)
    copied: Mapping[tuple[str, str], PerSubject] = field(default_factory=dict, repr=False)
    unseen: bool | None = None

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify the protocol."""
        return protocol_hash(self.protocol)

    def with_seeds_of(self, other: Self) -> Self:
        """Return this result with the seeds of another result of the same method.

        A metric that is no mean over subjects is averaged, and has no interval.

        Raises:
            LongigenError: if one of the two has no values of single subjects.
        """
        for each in (self, other):
            if not each.seeds:
                raise LongigenError(
                    f"{each.path} has no values of single subjects, so it cannot be one of several seeds of "
                    f"'{self.name}'; give the folder that 'longigen evaluate --out' or 'longigen bench' wrote."
                )
        ours, theirs = len(self.seeds), len(other.seeds)
        rows = {}
        for setting, row in self.rows.items():
            values = {}
            added = other.rows[setting].values if setting in other.rows else {}
            for metric, value in row.values.items():
                more = added[metric].mean if metric in added else math.nan
                average = (ours * value.mean + theirs * more) / (ours + theirs)
                values[metric] = Summary(average, math.nan, math.nan, value.subjects)
            rows[setting] = replace(row, values=values)
        return replace(self, rows=rows, seeds=[*self.seeds, *other.seeds])

    def values(self, setting: str, metric: str, subjects: Sequence[str]) -> list[list[float]] | None:
        """Return a metric by seed and subject (S, n), or None if only its mean is known.

        That is so of a metric of all visits together, such as FID: the mean of its values is another number.
        """
        if not self.seeds or not _is_mean([of_seed[setting] for of_seed in self.seeds], self.rows[setting], metric):
            return None
        return [[of_seed[setting][subject][metric] for subject in subjects] for of_seed in self.seeds]

    def copied_values(self, setting: str, copy: str, metric: str, subjects: Sequence[str]) -> list[list[float]] | None:
        """Return a metric of a copy by subject (1, n), as `values` does."""
        known = self.copied.get((setting, copy))
        if not known or not _is_mean([known], self.copies[setting, copy], metric):
            return None
        return [[known[subject][metric] for subject in subjects]]

    def subjects(self, setting: str) -> list[str]:
        """Return the ids of the subjects of a setting; none if only means are known."""
        return sorted(self.seeds[0][setting]) if self.seeds else []


def read_results(path: Path, name: str | None = None) -> list[Result]:
    """Return the results in a folder or a file, one per method (of a benchmark table, per row).

    A folder is one that ``longigen evaluate --out`` or ``longigen bench`` wrote, a run's or a model's with the
    ``metrics.json`` of an evaluation, or that of one row of a benchmark, ``BENCH/ROW``, with its seeds.

    Args:
        path: the folder, or a ``summary.json``, ``metrics.json`` or ``table.json``.
        name: a name for the method instead of that of its folder or row; of several methods, put before theirs.

    Raises:
        LongigenError: if there are no results, or they are damaged.
    """
    if path.is_file():
        return _read(path, name)
    for place in PLACES_OF_RESULTS:
        if (path / place).exists():
            return _read(path / place, name)
    runs = sorted(path.glob(f"seed-*/{EVALUATION}/{SUMMARY}"))
    if runs:
        first, *others = [result for run in runs for result in _read(run, name or path.name)]
        for other in others:
            first = first.with_seeds_of(other)
        return [first]
    if list(path.glob(f"fold-*/seed-*/{EVALUATION}/{SUMMARY}")):
        raise LongigenError(
            f"{path} is a row of a cross-validation, whose folds have subjects of their own; give its table's folder, "
            f"{path.parent}, which has all of them."
        )
    raise LongigenError(
        f"There are no results in {path}; give a folder that 'longigen evaluate MODEL --out FOLDER' or "
        "'longigen bench' wrote."
    )


def distinct(found: Sequence[tuple[str | None, Sequence[Result]]]) -> list[Result]:
    """Return results of which those that nobody named have a name of their own, with the folder where it is needed.

    Args:
        found: for each folder, the name that was given for its method, or None, and its results.
    """
    count = Counter(result.name for name, results in found if name is None for result in results)
    count.update({result.name for name, results in found if name is not None for result in results})
    return [
        replace(result, name=f"{result.path.parent}: {result.name}")
        if name is None and count[result.name] > 1
        else result
        for name, results in found
        for result in results
    ]


def _read(path: Path, name: str | None) -> list[Result]:
    """Return the results in a file."""
    content = read_json(path)
    if path.name == SUMMARY and (path.parent / METRICS).exists():
        content = {**content, "data": read_json(path.parent / METRICS).get("data", {})}
    try:
        rows = [ResultRow.from_dict(row, list(content["protocol"]["metrics"])) for row in content["rows"]]
        scores = _scores(path, content)
        return [_result(path, content, rows, scores, method, name) for method in _methods(rows)]
    except MALFORMED as error:
        raise LongigenError(
            f"{path}, or the {SCORES} beside it, was not written by 'longigen evaluate' or 'longigen bench', or is "
            f"damaged ({reason(error)}); write it again."
        ) from error


def _methods(rows: Sequence[ResultRow]) -> list[str]:
    return [method for method in dict.fromkeys(row.method for row in rows) if method not in COPIES]


def _result(
    path: Path,
    content: Mapping[str, Any],
    rows: Sequence[ResultRow],
    scores: Mapping[str, Mapping[str, list[Score]]],
    method: str,
    name: str | None,
) -> Result:
    """Return the result of a method; `scores` are by method and seed."""
    folder = path.parent.parent if path.parent.name in (EVALUATION, MODEL_FOLDER) else path.parent
    if "table" in content:
        called = method if name is None else f"{name}: {method}" if len(_methods(rows)) > 1 else name
    else:
        called = (name or folder.resolve().name) + method.removeprefix(MODEL)
    settings = content["protocol"]["settings"]
    return Result(
        called,
        path,
        content["protocol"],
        arrows_of(content),
        {row.setting: row for row in rows if row.method == method},
        {(row.setting, row.method): row for row in rows if row.method in COPIES},
        [
            {setting: by_subject([s for s in of_seed if s.setting == setting], method) for setting in settings}
            for of_seed in scores.get(method, {}).values()
        ],
        {
            (setting, copy): by_subject([s for s in of_seed if s.setting == setting], copy)
            for copy in COPIES
            for of_seed in [*scores.get(copy, {}).values()][:1]
            for setting in settings
        },
        content.get("data", {}).get("unseen"),
    )


def _scores(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, list[Score]]]:
    """Return the scores beside a file of results by method and seed; none of ``metrics.json``, which may be merged."""
    found: dict[str, dict[str, list[Score]]] = {}
    only = str(content.get("generation", {}).get("seed"))
    for seed, score in [] if path.name == METRICS else read_rows(path.parent):
        found.setdefault(score.method, {}).setdefault(seed or only, []).append(score)
    return found


def arrows_of(content: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the direction of better values of each metric: ``↑``, ``↓`` or ``→ VALUE``; empty where it is not known.

    Results of earlier versions do not record it; it is then that of the metric of that name, if one is installed.

    Args:
        content: the content of a file of results.
    """
    protocol = content["protocol"]
    samples = int(protocol.get("samples", 1))
    return content.get("arrows") or {metric: _arrow(metric, samples) for metric in protocol["metrics"]}


def _arrow(metric: str, samples: int) -> str:
    try:
        return load_metrics([metric], samples=2)[metric].arrow(samples)
    except LongigenError:
        return ""


def _is_mean(values: Sequence[PerSubject], row: ResultRow, metric: str) -> bool:
    """Return whether a row's value of a metric is the mean over subjects of their values, averaged over seeds."""
    averages = [mean(of_seed[subject][metric] for of_seed in values) for subject in values[0]]
    known = [average for average in averages if not math.isnan(average)]
    return bool(known) and math.isclose(mean(known), row.values[metric].mean, rel_tol=1e-6, abs_tol=1e-9)
