"""Comparison of models: their results by one protocol beside each other, with paired tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation.protocol import differences, part_of, protocol_hash
from longigen.evaluation.result_table import ResultTable, Tabular, plain_values
from longigen.evaluation.results import Result
from longigen.hub.metrics_file import COPIES, COPY_LAST, PLACES
from longigen.utils.intervals import INTERVAL, LEAST, Estimate, Summary, holm
from longigen.utils.optional import optional_import

if TYPE_CHECKING:
    import pandas

LEVEL = 0.05
"""The level of the tests."""
SAME_COPY = 1e-4
"""The largest relative difference between copy-last's values of two results of the same images."""


@dataclass(frozen=True)
class ComparedRow:
    """One metric of one model, or of a copy of the last given visit, in one setting.

    Attributes:
        setting: which visits were given.
        metric: name of the metric.
        model: name of the model or the copy.
        value: mean over subjects and seeds, with its 95 % interval.
        seeds: number of seeds of training; 0 if only the mean is known.
        difference: this model minus the one that all are compared with, paired by subject; None for that one itself,
            and where there are no values of single subjects.
        p: p-value of the difference, adjusted by Holm's method for the number of tests in the comparison; NaN without
            a test.
        better: number of subjects in which this model is the better one; None where that is not defined.
    """

    setting: str
    metric: str
    model: str
    value: Summary
    seeds: int
    difference: Estimate | None
    p: float
    better: int | None

    @property
    def record(self) -> dict[str, Any]:
        """The row as plain values; NaN where one is not defined."""
        difference = self.difference
        summary = Summary.from_dict(None) if difference is None else difference.summary
        return {
            "setting": self.setting,
            "metric": self.metric,
            "model": self.model,
            **vars(self.value),
            "seeds": self.seeds,
            **{f"difference_{end}": getattr(summary, end) for end in ("mean", "low", "high")},
            "effect": math.nan if difference is None else difference.effect,
            "better": math.nan if self.better is None else self.better,
            "p": math.nan if difference is None or math.isnan(self.p) else difference.p,
            "p_adjusted": self.p,
        }


@dataclass(frozen=True)
class ModelComparison(Tabular):
    """The results of several models by one protocol, each compared with one of them.

    Attributes:
        protocol: the protocol of the settings and metrics that all results have.
        against: name of the model, or the copy, that all are compared with.
        rows: one row per setting, metric and model, the copies first.
        arrows: direction of better values of each metric.
        notes: what was left out and what the tests do not say, one sentence each.
    """

    protocol: Mapping[str, Any]
    against: str
    rows: list[ComparedRow]
    arrows: Mapping[str, str]
    notes: list[str]

    @classmethod
    def of(
        cls,
        results: Sequence[Result],
        *,
        against: str | None = None,
        settings: Sequence[str] = (),
        metrics: Sequence[str] = (),
    ) -> "ModelComparison":
        """Compare results; those with equal names are seeds of one model.

        Args:
            results: results of several models.
            against: name of the model, or of a copy such as ``copy-last``, that all are compared with; by default the
                first, or copy-last if there is only one.
            settings: settings to compare; by default all that the results have in common.
            metrics: names of metrics to compare; by default all that the results have in common.

        Raises:
            LongigenError: if the results are not of one protocol, or nothing has the name `against`.
        """
        protocol, notes = _shared(results, {"settings": settings, "metrics": metrics})
        models: dict[str, Result] = {}
        for result in results:
            models[result.name] = models[result.name].with_seeds_of(result) if result.name in models else result
        _require_same_copies(results, protocol)
        first = next(iter(models.values()))
        copies = [name for name in COPIES if all((s, name) in first.copies for s in protocol["settings"])]
        chosen = against or (first.name if len(models) > 1 else COPY_LAST)
        if chosen not in (*models, *copies):
            raise LongigenError(
                f"Nothing of the name '{chosen}' is compared.{did_you_mean(chosen, [*models, *copies])} There are: "
                f"{', '.join([*models, *copies])}."
            )
        arrows = {metric: first.arrows.get(metric, "") for metric in protocol["metrics"]}
        rows = [
            row
            for setting in protocol["settings"]
            for metric in protocol["metrics"]
            for row in _rows(setting, metric, arrows[metric], models, copies, chosen)
        ]
        # The copies are no hypotheses of the comparison, and would make its tests weaker.
        adjusted = holm([row.p if row.model in models else math.nan for row in rows])
        rows = [replace(row, p=p) for row, p in zip(rows, adjusted, strict=True)]
        return cls(protocol, chosen, rows, arrows, [*notes, *_limits(models, rows)])

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify the protocol."""
        return protocol_hash(self.protocol)

    @property
    def tests(self) -> int:
        """The number of tests that p-values are adjusted for."""
        return sum(not math.isnan(row.p) for row in self.rows)

    @property
    def records(self) -> list[dict[str, Any]]:
        """One record per row."""
        return [row.record for row in self.rows]

    @property
    def content(self) -> dict[str, Any]:
        """The comparison as plain values for JSON."""
        return {
            "protocol_hash": self.hash,
            "protocol": dict(self.protocol),
            "against": self.against,
            "arrows": dict(self.arrows),
            "tests": self.tests,
            "rows": [plain_values(record) for record in self.records],
            "notes": self.notes,
        }

    @property
    def blocks(self) -> list[ResultTable | str]:
        """One table per setting, with one line per metric and model, between a title and notes."""
        protocol = self.protocol
        place = PLACES.get(protocol.get("space", "model"), "")
        title = (
            f"{protocol['data']}: {protocol['subjects']} subjects, target: {protocol['targets']}, {place}\n"
            f"protocol {self.hash}"
        )
        return [title, *map(self._table, protocol["settings"]), "\n".join(self._footnotes())]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one row per setting, metric and model; needs the package pandas.

        Raises:
            LongigenError: if pandas is not installed.
        """
        return optional_import("pandas", "ModelComparison.to_pandas").DataFrame(self.records)

    def __repr__(self) -> str:
        """Return one line: the models, the one that they are compared with, the protocol's hash."""
        models = dict.fromkeys(row.model for row in self.rows if row.model not in COPIES)
        return f"ModelComparison({', '.join(models)}, against {self.against}, {self.hash})"

    def _table(self, setting: str) -> ResultTable:
        lines: list[list[str] | None] = []
        before = None
        for row in (row for row in self.rows if row.setting == setting):
            if before not in (None, row.metric):
                lines.append(None)
            label = "" if before == row.metric else f"{row.metric} {self.arrows[row.metric]}".rstrip()
            lines.append([label, *self._cells(row)])
            before = row.metric
        columns = [f"setting {setting}", "model", "mean", f"minus {self.against}", "effect", "better", "p"]
        return ResultTable(columns, lines, left=2)

    def _cells(self, row: ComparedRow) -> list[str]:
        """Return the cells of a line, from the model's name on."""
        value = "-" if math.isnan(row.value.mean) else row.value.cell()
        difference = row.difference
        if difference is None or math.isnan(difference.mean):
            return [row.model, value, *["-"] * 4]
        effect = "-" if math.isnan(difference.effect) else f"{difference.effect:+.2f}"
        better = "-" if row.better is None else f"{row.better}/{difference.subjects}"
        return [row.model, value, difference.summary.cell(signed=True), effect, better, self._p(row)]

    def _p(self, row: ComparedRow) -> str:
        """Return the cell of a p-value, with the mark of the better one where the difference is significant."""
        if math.isnan(row.p):
            return "-"
        text = "<.001" if row.p < 0.001 else f"{row.p:.3f}".removeprefix("0")
        arrow = self.arrows[row.metric]
        if row.p >= LEVEL or arrow not in ("↑", "↓") or row.difference is None:
            return f"{text}  "
        return f"{text} {'▲' if (row.difference.mean > 0) == (arrow == '↑') else '▼'}"

    def _footnotes(self) -> list[str]:
        """Return the notes below the table."""
        counts = sorted({row.value.subjects for row in self.rows if row.value.subjects})
        several = any(row.seeds > 1 for row in self.rows)
        over = "subjects and seeds" if several else "subjects"
        span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts)) or "0"
        interval = f" [{INTERVAL}]" if counts and counts[-1] >= LEAST else f"; no interval below {LEAST}"
        lines = [
            f"mean: over {over}, n = {span}{interval}",
            f"minus {self.against}: paired by subject; effect: that divided by its standard deviation over subjects "
            "(Hedges' g); better: in how many subjects",
        ]
        if self.tests:
            kind = "mixed model of subjects and seeds (Hillis 2014)" if several else "paired t test over subjects"
            lines.append(
                f"p: {kind}, adjusted for {self.tests} {'test' if self.tests == 1 else 'tests'} (Holm 1979); "
                f"▲ better, ▼ worse than {self.against}, p < .05"
            )
        return [*lines, *self.notes]


def _shared(results: Sequence[Result], chosen: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], list[str]]:
    """Return the protocol of the chosen settings and metrics, or of all in common, and what was left out for that.

    Raises:
        LongigenError: if there is none, or the results are not of one protocol.
    """
    if not results:
        raise LongigenError("There is nothing to compare; give at least one result.")
    first = results[0]
    kept: dict[str, list[str]] = {}
    notes = []
    for part, word in (("settings", "setting"), ("metrics", "metric")):
        kept[part] = [name for name in first.protocol[part] if all(name in r.protocol[part] for r in results)]
        every = dict.fromkeys(name for result in results for name in result.protocol[part])
        if not kept[part]:
            raise LongigenError(f"The results have no {word} in common, so there is nothing to compare.")
        for name in chosen[part]:
            if name not in kept[part]:
                raise LongigenError(
                    f"Not all results have the {word} '{name}'.{did_you_mean(name, kept[part])} In common are: "
                    f"{', '.join(kept[part])}."
                )
        absent = [name for name in every if name not in kept[part]]
        kept[part] = [name for name in kept[part] if name in (chosen[part] or kept[part])]
        if absent and not chosen[part]:
            notes.append(f"left out, since not all results have them: {word} {', '.join(absent)}")
    parts = [part_of(result.protocol, kept["settings"], kept["metrics"]) for result in results]
    for result, part in zip(results, parts, strict=True):
        if protocol_hash(part) != protocol_hash(parts[0]):
            found = "; ".join(differences(parts[0], part))
            raise LongigenError(
                f"{first.path} and {result.path} are of different protocols ({first.hash}, and {result.hash}), and "
                f"their values cannot be compared. They differ in: {found}. Evaluate both in the same way."
            )
    whole = all(len(first.protocol[part]) == len(names) for part, names in kept.items())
    if whole and len({result.hash for result in results}) == 1:
        return dict(first.protocol), notes
    return parts[0], notes


def _require_same_copies(results: Sequence[Result], protocol: Mapping[str, Any]) -> None:
    """Raise a `LongigenError` if the copies of the last given visit have other values in other results."""
    first = results[0]
    for result in results[1:]:
        for key, row in result.copies.items():
            known = first.copies.get(key)
            if known is None or key[0] not in protocol["settings"]:
                continue
            for metric in protocol["metrics"]:
                one, two = known.values[metric].mean, row.values[metric].mean
                if abs(one - two) > SAME_COPY * max(abs(one), abs(two)):
                    raise LongigenError(
                        f"{first.path} and {result.path} have one protocol, but their {metric} of {key[1]} is "
                        f"{one:.6g} and {two:.6g} (setting {key[0]}), and a copy has no model: the images differ, or "
                        "what computed the metrics. Evaluate both again with one installation and the same data."
                    )


def _rows(
    setting: str, metric: str, arrow: str, models: Mapping[str, Result], copies: Sequence[str], against: str
) -> list[ComparedRow]:
    """Return the rows of one metric in one setting; their p-values are not adjusted yet."""
    known = next((result for result in models.values() if result.seeds), None)
    subjects = known.subjects(setting) if known else []
    values: dict[str, list[list[float]] | None] = {}
    summaries: dict[str, Summary] = {}
    for name in copies:
        source = known or next(iter(models.values()))
        values[name] = source.copied_values(setting, name, metric, subjects)
        summaries[name] = source.copies[setting, name].values[metric]
    for name, result in models.items():
        if result.seeds and any(sorted(of_seed[setting]) != subjects for of_seed in result.seeds):
            raise LongigenError(
                f"{result.path} has values of other subjects than its protocol says; evaluate the model again."
            )
        values[name] = result.values(setting, metric, subjects)
        summaries[name] = result.rows[setting].values[metric]
    reference = values[against]
    rows = []
    for name, own in values.items():
        value = summaries[name] if own is None else Estimate.of(own).summary
        difference = None
        if own is not None and reference is not None and name != against:
            difference = Estimate.of(own, reference)
        better = None
        if difference is not None and arrow in ("↑", "↓"):
            better = difference.higher if arrow == "↑" else difference.lower
        p = math.nan if difference is None else difference.p
        rows.append(ComparedRow(setting, metric, name, value, len(own or ()), difference, p, better))
    return rows


def _limits(models: Mapping[str, Result], rows: Sequence[ComparedRow]) -> list[str]:
    """Return what the tests do not say, one sentence each."""
    notes = []
    without = [name for name, result in models.items() if not result.seeds]
    if without:
        notes.append(
            f"{', '.join(without)}: only means are known, so there is no test; 'longigen evaluate --out' writes the "
            "values of subjects"
        )
    together = dict.fromkeys(
        row.metric for row in rows if row.model in models and models[row.model].seeds and not row.seeds
    )
    if together:
        notes.append(f"{', '.join(together)}: no mean of values of subjects, so there is no test")
    single = [name for name, result in models.items() if len(result.seeds) == 1]
    if single and len(models) > 1:
        notes.append(
            f"{', '.join(single)}: one seed, so this is of the trained model and not of its method; another seed may "
            "differ by more"
        )
    seen = [name for name, result in models.items() if result.unseen is False]
    if seen:
        notes.append(f"{', '.join(seen)}: some of these subjects were used in training")
    return notes
