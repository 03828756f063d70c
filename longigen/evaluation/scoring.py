"""The protocol of an evaluation, scores of generated visits, and their summary beside copy-last."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from longigen.components.metric import Metric, SetMetric
from longigen.components.visit_sequence import BACKGROUND
from longigen.data.intensity import FOREGROUND, foreground_of
from longigen.data.preprocess import Preprocess
from longigen.hub.metrics_file import COPY_LAST, MODEL, ResultRow, mean_of
from longigen.models.predict import Generated
from longigen.models.tasks import Scenario, Targets
from longigen.utils.intervals import Summary


@dataclass(frozen=True)
class Protocol:
    """Everything that a number depends on beside the model and the data's own content.

    Results with different `hash` must not stand in one table.
    """

    data: str
    fingerprint: str
    part: str
    subjects: int
    settings: tuple[Scenario, ...]
    targets: Targets
    setting_seed: int
    preprocess: Mapping[str, Any]
    metrics: Mapping[str, str]
    samples: int = 1

    @classmethod
    def describe(cls, *, metrics: Mapping[str, Metric], preprocess: Preprocess, **rest: Any) -> "Protocol":
        definitions = {name: metric.definition for name, metric in metrics.items()}
        return cls(preprocess=preprocess.config, metrics=definitions, **rest)

    def to_dict(self) -> dict[str, Any]:
        content = {**vars(self), "foreground": f"first visit > {BACKGROUND + FOREGROUND:g}", "data_range": 2.0}
        if self.samples == 1:
            del content["samples"]  # what is scored then does not depend on it
        return json.loads(json.dumps(content))

    @property
    def hash(self) -> str:
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Score:
    """The metrics of one generated visit, by one method; `features` are those of set metrics (FID, KID)."""

    setting: Scenario
    method: str
    subject: str
    visit: int
    time: float
    values: Mapping[str, float]
    features: Mapping[str, Tensor] = field(default_factory=dict, compare=False)

    def to_row(self) -> dict[str, Any]:
        head = {name: value for name, value in vars(self).items() if name not in ("values", "features")}
        return {**head, **self.values}

    @classmethod
    def of_row(cls, row: Mapping[str, str], features: Mapping[str, Tensor] | None = None) -> "Score":
        """Return what `to_row` gave, read from text."""
        head = {"setting", "method", "subject", "visit", "time"}
        values = {name: float(text) for name, text in row.items() if name not in head}
        setting = cast(Scenario, row["setting"])
        visit, time = int(row["visit"]), float(row["time"])
        return cls(setting, row["method"], row["subject"], visit, time, values, features or {})


def score(
    samples: Sequence[Generated], scenario: Scenario, metrics: Mapping[str, Metric], *, targets: Targets
) -> list[Score]:
    """Score the generated visits of one task.

    The methods are copy-last, which repeats the last given visit; the model's first sample; and where there are K ≥ 2
    samples, their mean. Metrics of an ensemble get all samples of the latter, the others the mean.

    Args:
        samples: of one task.
        scenario: of the task.
        metrics: by name.
        targets: score each subject's last visit only, or all.
    """
    first = samples[0]
    prepared = first.prepared
    foreground = foreground_of(prepared.visit(0))
    last = len(prepared.subject.visits) - 1
    scores = []
    for index, visit in enumerate(first.task.targets):
        if targets == "last" and visit != last:
            continue
        previous, true = prepared.visit(first.given_before(index)), first.true(index)
        drawn = torch.stack([sample.images[index] for sample in samples])
        methods = {COPY_LAST: previous[None], MODEL: drawn[:1]}
        if len(samples) > 1:
            methods[mean_of(len(samples))] = drawn
        for method, images in methods.items():
            values, features = {}, {}
            for name, metric in metrics.items():
                generated = images if metric.ensemble else images.mean(dim=0)
                if isinstance(metric, SetMetric):
                    features[name] = metric.describe(generated, true, previous, foreground)
                    values[name] = metric.pooled(features[name][None])
                else:
                    values[name] = metric(generated, true, previous, foreground)
            time = first.times[index]
            scores.append(Score(scenario, method, prepared.subject.id, visit, time, values, features))
    return scores


def summarise(scores: Sequence[Score], metrics: Mapping[str, Metric] | None = None) -> list[ResultRow]:
    """Return one row per scenario and method.

    A subject's visits are averaged first, so a subject with many visits does not weigh more. The gain is paired: the
    mean over subjects of model minus copy-last. A `SetMetric` among the `metrics` pools all visits instead; of several
    scores of the same visit (of several seeds) each set is pooled by itself, and the values averaged.
    """
    rows = []
    names = list(scores[0].values) if scores else []
    for scenario in dict.fromkeys(score.setting for score in scores):
        own = [score for score in scores if score.setting == scenario]
        methods = list(dict.fromkeys(score.method for score in own))
        means = {method: _by_subject(own, method) for method in methods}
        for method, subjects in means.items():
            visits = {(score.subject, score.visit) for score in own if score.method == method}
            values: dict[str, Summary] = {}
            gains: dict[str, Summary] = {}
            for name in names:
                metric = (metrics or {}).get(name)
                if isinstance(metric, SetMetric):
                    value, without = _pooled(own, method, name, metric)
                    base_value, base = _pooled(own, COPY_LAST, name, metric)
                    values[name] = Summary.jackknife(value, without)
                    gain = Summary.jackknife(value - base_value, [a - b for a, b in zip(without, base, strict=True)])
                else:
                    copied = means[COPY_LAST]
                    values[name] = Summary.of([each[name] for each in subjects.values()])
                    gain = Summary.of([each[name] - copied[subject][name] for subject, each in subjects.items()])
                if method != COPY_LAST:
                    gains[name] = gain
            rows.append(ResultRow(scenario, method, len(visits), values, gains))
    return rows


def _by_subject(scores: Sequence[Score], method: str) -> dict[str, dict[str, float]]:
    grouped: dict[str, list[Mapping[str, float]]] = {}
    for item in scores:
        if item.method == method:
            grouped.setdefault(item.subject, []).append(item.values)
    return {
        subject: {name: float(np.mean([values[name] for values in items])) for name in items[0]}
        for subject, items in grouped.items()
    }


def _pooled(scores: Sequence[Score], method: str, name: str, metric: SetMetric) -> tuple[float, list[float]]:
    """Return a metric of all visits, and those without each of the subjects."""
    seen: dict[tuple[str, int], int] = {}
    sets: list[list[Score]] = []
    for item in scores:
        if item.method == method:
            place = seen[item.subject, item.visit] = seen.get((item.subject, item.visit), -1) + 1
            if place == len(sets):
                sets.append([])
            sets[place].append(item)

    def value(without: str | None = None) -> float:
        values = []
        for items in sets:
            features = [item.features[name] for item in items if item.subject != without]
            values.append(metric.pooled(torch.stack(features)) if features else math.nan)
        return float(np.mean(values))

    return value(), [value(subject) for subject in dict.fromkeys(item.subject for item in sets[0])]
