"""Protocol of an evaluation, scores of single visits, and their summary over subjects."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from longigen.components.metric import LEAST_VISITS, Metric, SeriesMetric, SetMetric
from longigen.components.visit_sequence import BACKGROUND
from longigen.data.intensity import FOREGROUND
from longigen.data.preprocess import Preprocess
from longigen.errors import LongigenError, did_you_mean
from longigen.evaluation.comparison import Comparison, Space
from longigen.hub.metrics_file import BLURRED, COPY_LAST, MODEL, PLACES, ResultRow, mean_method
from longigen.models.predict import Generated, SubjectTask
from longigen.models.tasks import Scenario, Targets, last_only
from longigen.utils.intervals import MEAN, Average, Summary

if TYPE_CHECKING:
    from longigen.generation.session import GenerationSession

SCALING = ("lower", "upper", "normalise")
"""The parts of the preprocessing on which scores in the subject's space depend."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on besides the model: data, split, scenarios, preprocessing and metrics.

    Results of protocols with different `hash` must not be compared in one table.

    Attributes:
        data: name of the data set.
        fingerprint: fingerprint of the scored subjects and their visits.
        part: part of the split.
        subjects: number of subjects.
        settings: the scenarios, that is which visits are given.
        targets: visits to score: each subject's ``last`` one, or ``all``.
        setting_seed: random seed of the choice of missing visits.
        preprocess: configuration of the preprocessing pipeline; in the subject's space only the scaling of intensities,
            since the model's grid is then a property of the model; none where intensities are compared as stored.
        metrics: definition of each metric, by name.
        samples: number of samples of each visit.
        space: where volumes are compared: ``subject`` for the last given visit's own voxels, ``model`` for the model's
            grid, ``stored`` for its own voxels and intensities; see `Comparison.of`.
        images: hash of the scored subjects' images, see `Cohort.images`; None in protocols that do not cover them.

    Raises:
        LongigenError: if there is no such space.
    """

    data: str
    fingerprint: str
    part: str
    subjects: int
    settings: tuple[str, ...]
    targets: Targets
    setting_seed: int
    preprocess: Mapping[str, Any]
    metrics: Mapping[str, str]
    samples: int = 1
    space: Space = "subject"
    images: str | None = None

    def __post_init__(self) -> None:
        if self.space not in PLACES:
            raise LongigenError(
                f"There is no space '{self.space}' to score in.{did_you_mean(self.space, PLACES)} Choose one of: "
                f"{', '.join(PLACES)}."
            )

    @classmethod
    def describe(
        cls, *, metrics: Mapping[str, Metric], preprocess: Preprocess, space: Space = "subject", **rest: Any
    ) -> "Protocol":
        """Return the protocol with the definitions of the metrics and the configuration of the preprocessing."""
        definitions = {name: metric.definition for name, metric in metrics.items()}
        config = preprocess.config
        if space == "subject":
            config = {name: config[name] for name in SCALING}
        return cls(preprocess=config, metrics=definitions, space=space, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as plain values for JSON."""
        content = {**vars(self), "foreground": f"first visit > {BACKGROUND + FOREGROUND:g}", "data_range": 2.0}
        if self.samples == 1:
            del content["samples"]  # so that the hash is that of protocols without several samples
        if self.space == "model":
            del content["space"]  # so that the hash is that of protocols from before there was a choice
        if self.images is None:
            del content["images"]  # so that the hash is that of protocols from before images were covered
        return json.loads(json.dumps(content))

    @property
    def averaging(self) -> Average:
        """How subjects are averaged."""
        return MEAN

    def remarks(self, width: int) -> str:
        """Return what stands below a table of results, in lines of `width`; empty for a protocol of our own."""
        return ""

    def tasks(self, session: "GenerationSession", setting: str) -> list[SubjectTask]:
        """Return the tasks of a setting for every subject of a session: which visits are given, and which generated."""
        select = last_only if self.targets == "last" else None
        return session.tasks(cast(Scenario, setting), seed=self.setting_seed, select=select)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify the protocol."""
        return protocol_hash(self.to_dict())


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that identify a protocol, from what `Protocol.to_dict` returned."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Score:
    """The metrics of one visit generated by one method.

    Attributes:
        setting: the scenario.
        method: ``copy-last``, a blurred copy, ``model`` or the mean of several samples.
        subject: id of the subject.
        visit: index of the visit.
        time: time of the visit.
        values: values by name of the metric.
        features: features of the set metrics (FID, KID), by name of the metric.
    """

    setting: str
    method: str
    subject: str
    visit: int
    time: float
    values: Mapping[str, float]
    features: Mapping[str, Tensor] = field(default_factory=dict, compare=False)

    def to_row(self) -> dict[str, Any]:
        """Return the score as a row of a CSV, without the features."""
        head = {name: value for name, value in vars(self).items() if name not in ("values", "features")}
        return {**head, **self.values}

    @classmethod
    def of_row(cls, row: Mapping[str, str], features: Mapping[str, Tensor] | None = None) -> "Score":
        """Return the score of a row that `to_row` returned and that was read as text."""
        head = {"setting", "method", "subject", "visit", "time"}
        values = {name: float(text) for name, text in row.items() if name not in head}
        visit, time = int(row["visit"]), float(row["time"])
        return cls(row["setting"], row["method"], row["subject"], visit, time, values, features or {})


def score(
    samples: Sequence[Generated], scenario: str, metrics: Mapping[str, Metric], *, targets: Targets, space: Space
) -> list[Score]:
    """Score the generated visits of one task.

    The methods are copy-last, which repeats the last given visit; blurred copies of it; the model's first sample; and,
    if there are K ≥ 2 samples, their mean. For the latter, ensemble metrics get all samples, and the other metrics the
    mean. A `SeriesMetric` is of all visits of the task, and stands in the scores of each.

    Args:
        samples: K samples of the same task.
        scenario: scenario of the task.
        metrics: metrics by name.
        targets: visits to score: each subject's ``last`` one, or ``all``.
        space: where volumes are compared, see `Comparison.of`.
    """
    first = samples[0]
    prepared = first.prepared
    last = len(prepared.subject.visits) - 1
    series = _series(samples, metrics, space)
    scores = []
    for index, visit in enumerate(first.task.targets):
        if targets == "last" and visit != last:
            continue
        compared = Comparison.of(samples, index, space)
        others = compared.true, compared.previous, compared.foreground
        for method, images in _methods(compared).items():
            values, features = {}, {}
            for name, metric in metrics.items():
                generated = images if metric.ensemble else images.mean(dim=0)
                if isinstance(metric, SetMetric):
                    features[name] = metric.describe(generated, *others)
                    values[name] = metric.pooled(features[name][None])
                elif isinstance(metric, SeriesMetric):
                    values[name] = series.get((method, name), math.nan)
                else:
                    values[name] = metric(generated, *others)
            time = first.times[index]
            scores.append(Score(scenario, method, prepared.subject.id, visit, time, values, features))
    return scores


def _methods(compared: Comparison) -> dict[str, Tensor]:
    """Return the images of a visit (K, C, W, H, D) by method: the copies, the first sample, all samples if several."""
    methods = {COPY_LAST: compared.previous[None]}
    methods |= {name: compared.blurred(sigma)[None] for name, sigma in BLURRED.items()}
    methods[MODEL] = compared.generated[:1]
    if len(compared.generated) > 1:
        methods[mean_method(len(compared.generated))] = compared.generated
    return methods


def _series(samples: Sequence[Generated], metrics: Mapping[str, Metric], space: Space) -> dict[tuple[str, str], float]:
    """Return the series metrics of the visits of one task, by method and name; none if the visits are too few."""
    chosen = {name: metric for name, metric in metrics.items() if isinstance(metric, SeriesMetric)}
    first = samples[0]
    if not chosen or len(first.times) + 1 < LEAST_VISITS:
        return {}
    start = first.given_before(0)
    visits = [Comparison.of(samples, index, space, grid=start) for index in range(len(first.times))]
    times = [first.prepared.subject.times[start], *first.times]
    before, foreground = visits[0].previous, visits[0].foreground
    true = torch.stack([before, *(visit.true for visit in visits)])
    by_visit = [_methods(visit) for visit in visits]
    values = {}
    for method in by_visit[0]:
        generated = torch.stack([before, *(methods[method].mean(dim=0) for methods in by_visit)])
        for name, metric in chosen.items():
            values[method, name] = metric.of_series(generated, true, foreground, times)
    return values


def summarise(
    scores: Sequence[Score], metrics: Mapping[str, Metric] | None = None, average: Average = MEAN
) -> list[ResultRow]:
    """Return one row per scenario and method.

    Visits are averaged within each subject first, so that a subject with many visits does not weigh more. The gain is
    paired: the average over subjects of model minus copy-last. A `SetMetric` pools all visits instead; if there are
    several scores of the same visit (of several seeds), each set is pooled separately and the values are averaged.

    Args:
        scores: scores of the generated visits.
        metrics: metrics by name, to recognise set metrics.
        average: how subjects are averaged.
    """
    rows = []
    names = list(scores[0].values) if scores else []
    for scenario in dict.fromkeys(score.setting for score in scores):
        in_scenario = [score for score in scores if score.setting == scenario]
        methods = list(dict.fromkeys(score.method for score in in_scenario))
        means = {method: _by_subject(in_scenario, method) for method in methods}
        for method, subjects in means.items():
            visits = {(score.subject, score.visit) for score in in_scenario if score.method == method}
            values: dict[str, Summary] = {}
            gains: dict[str, Summary] = {}
            for name in names:
                metric = (metrics or {}).get(name)
                if isinstance(metric, SetMetric):
                    value, without = _pooled(in_scenario, method, name, metric)
                    base_value, base = _pooled(in_scenario, COPY_LAST, name, metric)
                    values[name] = Summary.jackknife(value, without)
                    gain = Summary.jackknife(value - base_value, [a - b for a, b in zip(without, base, strict=True)])
                else:
                    copy_last = means[COPY_LAST]
                    values[name] = average.of([mean[name] for mean in subjects.values()])
                    gain = average.of([mean[name] - copy_last[subject][name] for subject, mean in subjects.items()])
                if method != COPY_LAST:
                    gains[name] = gain
            rows.append(ResultRow(scenario, method, len(visits), values, gains))
    return rows


def _by_subject(scores: Sequence[Score], method: str) -> dict[str, dict[str, float]]:
    """Return the mean of each metric over the visits of each subject, for one method."""
    grouped: dict[str, list[Mapping[str, float]]] = {}
    for item in scores:
        if item.method == method:
            grouped.setdefault(item.subject, []).append(item.values)
    return {
        subject: {name: float(np.mean([values[name] for values in items])) for name in items[0]}
        for subject, items in grouped.items()
    }


def _pooled(scores: Sequence[Score], method: str, name: str, metric: SetMetric) -> tuple[float, list[float]]:
    """Return a set metric of all visits, and its values with each subject left out in turn."""
    latest: dict[tuple[str, int], int] = {}
    sets: list[list[Score]] = []  # the first scores of all visits, their second scores (of another seed), and so on
    for item in scores:
        if item.method == method:
            index = latest[item.subject, item.visit] = latest.get((item.subject, item.visit), -1) + 1
            if index == len(sets):
                sets.append([])
            sets[index].append(item)

    def value(without: str | None = None) -> float:
        values = []
        for items in sets:
            features = [item.features[name] for item in items if item.subject != without]
            values.append(metric.pooled(torch.stack(features)) if features else math.nan)
        return float(np.mean(values))

    return value(), [value(subject) for subject in dict.fromkeys(item.subject for item in sets[0])]
