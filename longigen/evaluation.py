"""Evaluation: one protocol, the model beside copy-last."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from longigen.generation import Answer
from longigen.metric import Metric, SetMetric
from longigen.preprocess import Preprocess
from longigen.setting import Setting, Targets
from longigen.visits import BACKGROUND

BOOTSTRAPS = 2000
FOREGROUND = 0.05
"""A voxel is foreground where the first visit is above background by this much, in model intensities."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a number depends on beside the model and the data's own content.

    Results with different `hash` must not stand in one table.
    """

    data: str
    fingerprint: str
    part: str
    subjects: int
    settings: tuple[Setting, ...]
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
    """The metrics of one generated visit, by one method; `described` is what each `SetMetric` needs of it."""

    setting: Setting
    method: str
    subject: str
    visit: int
    time: float
    values: Mapping[str, float]
    described: Mapping[str, Tensor] = field(default_factory=dict, compare=False)

    def to_row(self) -> dict[str, Any]:
        head = {name: value for name, value in vars(self).items() if name not in ("values", "described")}
        return {**head, **self.values}

    @classmethod
    def of_row(cls, row: Mapping[str, str], described: Mapping[str, Tensor] | None = None) -> "Score":
        """Return what `to_row` gave, read from text."""
        head = {"setting", "method", "subject", "visit", "time"}
        values = {name: float(text) for name, text in row.items() if name not in head}
        setting = cast(Setting, row["setting"])
        visit, time = int(row["visit"]), float(row["time"])
        return cls(setting, row["method"], row["subject"], visit, time, values, described or {})


def score(
    samples: Sequence[Answer], setting: Setting, metrics: Mapping[str, Metric], *, targets: Targets
) -> list[Score]:
    """Score the visits of one task's answers: copy-last's, which repeats the last visit that was given; the first
    sample's, as ``model``; and where there are K ≥ 2, all samples', as ``model, mean of K``. Metrics of an ensemble
    get all samples of the latter and the others their mean.
    """
    first = samples[0]
    prepared = first.prepared
    foreground = foreground_of(prepared.visit(0))
    last = len(prepared.subject.visits) - 1
    scores = []
    for made, visit in enumerate(first.task.targets):
        if targets == "last" and visit != last:
            continue
        previous, true = prepared.visit(first.given_before(made)), first.true(made)
        drawn = torch.stack([answer.images[made] for answer in samples])
        methods = {"copy-last": previous[None], "model": drawn[:1]}
        if len(samples) > 1:
            methods[mean_of(len(samples))] = drawn
        for method, images in methods.items():
            values, described = {}, {}
            for name, metric in metrics.items():
                generated = images if metric.ensemble else images.mean(dim=0)
                if isinstance(metric, SetMetric):
                    described[name] = metric.describe(generated, true, previous, foreground)
                    values[name] = metric.pooled(described[name][None])
                else:
                    values[name] = metric(generated, true, previous, foreground)
            time = first.times[made]
            scores.append(Score(setting, method, prepared.subject.id, visit, time, values, described))
    return scores


def mean_of(samples: int) -> str:
    """Return the method that is the mean of several samples of the model."""
    return f"model, mean of {samples}"


def foreground_of(first: Tensor) -> Tensor:
    """Return the foreground (W, H, D), bool, of a subject's first visit (C, W, H, D); all of it where there is none."""
    mask = (first > BACKGROUND + FOREGROUND).any(dim=0)
    return mask if bool(mask.any()) else torch.ones_like(mask)


@dataclass(frozen=True)
class Summary:
    """A metric over subjects: its mean and 95 % interval, by bootstrap; of a `SetMetric` its value, by jackknife."""

    mean: float
    low: float
    high: float
    subjects: int

    @classmethod
    def of(cls, per_subject: Sequence[float]) -> "Summary":
        """Summarise one value per subject; values that are not defined (NaN) are left out."""
        values = np.array([value for value in per_subject if not math.isnan(value)])
        if not len(values):
            return cls(math.nan, math.nan, math.nan, 0)
        draws = np.random.default_rng(0).choice(values, (BOOTSTRAPS, len(values))).mean(axis=1)
        low, high = np.percentile(draws, (2.5, 97.5), method="inverted_cdf")  # no interpolation: inf - inf
        return cls(float(values.mean()), float(low), float(high), len(values))

    @classmethod
    def jackknife(cls, value: float, without: Sequence[float]) -> "Summary":
        """Summarise a value of a whole set by those that it has without each of n subjects.

        The standard error is √((n-1)/n Σ (θ_i - θ̄)²) (Efron and Stein, 1981), the interval θ ± t_{n-1} of it. The
        bootstrap is no good here: a set with repeated subjects is farther from any other. For Gaussians in 8 dimensions
        and 10 or 30 pairs, nine in ten of its draws of a Fréchet or kernel distance lay above the distance itself, and
        its intervals held the expected value in 68 to 80 % of trials, those of the jackknife in 97 %.
        """
        from scipy.special import stdtrit

        count = len(without)
        if math.isnan(value):
            return cls(math.nan, math.nan, math.nan, 0)
        if count < 2:
            return cls(value, math.nan, math.nan, count)
        error = math.sqrt((count - 1) * float(np.var(without)))
        half = float(stdtrit(count - 1, 0.975)) * error
        return cls(value, value - half, value + half, count)

    @classmethod
    def of_dict(cls, content: Mapping[str, Any] | None) -> "Summary":
        """Return what `to_dict` gave; of None one that is not defined."""
        given = content or {}
        mean, low, high = (math.nan if (v := given.get(k)) is None else float(v) for k in ("mean", "low", "high"))
        return cls(mean, low, high, int(given.get("subjects", 0)))

    def cell(self, *, signed: bool = False) -> str:
        """Return it as a cell of a table: the mean and the interval."""
        if not self.subjects:
            return "-"
        sign = "+" if signed else ""
        digits = 2 if abs(self.mean) >= 10 else 4
        if math.isnan(self.low):  # too few subjects for an interval
            return f"{self.mean:{sign}.{digits}f}"
        return f"{self.mean:{sign}.{digits}f} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which has no NaN."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(self).items()}


def summarise(scores: Sequence[Score], metrics: Mapping[str, Metric] | None = None) -> list[dict[str, Any]]:
    """Return one row per setting and method, with a `Summary` per metric, and for the model what it gains on copy-last.

    A subject's visits are averaged first, so a subject with many visits does not weigh more. The gain is paired: the
    mean over subjects of model minus copy-last. A `SetMetric` among the `metrics` pools all visits instead; of several
    scores of the same visit (of several seeds) each set is pooled by itself, and the values averaged.
    """
    rows = []
    names = list(scores[0].values) if scores else []
    for setting in dict.fromkeys(score.setting for score in scores):
        own = [score for score in scores if score.setting == setting]
        methods = list(dict.fromkeys(score.method for score in own))
        means = {method: _by_subject(own, method) for method in methods}
        for method, subjects in means.items():
            visits = {(score.subject, score.visit) for score in own if score.method == method}
            row: dict[str, Any] = {"setting": setting, "method": method, "visits": len(visits)}
            for name in names:
                metric = (metrics or {}).get(name)
                if isinstance(metric, SetMetric):
                    value, without = _pooled(own, method, name, metric)
                    base_value, base = _pooled(own, "copy-last", name, metric)
                    row[name] = Summary.jackknife(value, without)
                    gain = Summary.jackknife(value - base_value, [a - b for a, b in zip(without, base, strict=True)])
                else:
                    copied = means["copy-last"]
                    row[name] = Summary.of([values[name] for values in subjects.values()])
                    gain = Summary.of([values[name] - copied[s][name] for s, values in subjects.items()])
                if method != "copy-last":
                    row[f"{name} gain"] = gain
            rows.append(row)
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
            described = [item.described[name] for item in items if item.subject != without]
            values.append(metric.pooled(torch.stack(described)) if described else math.nan)
        return float(np.mean(values))

    return value(), [value(subject) for subject in dict.fromkeys(item.subject for item in sets[0])]
