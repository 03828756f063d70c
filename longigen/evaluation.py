"""Evaluation: one protocol, the model beside copy-last."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from longigen.generation import Answer
from longigen.metric import Metric
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

    @classmethod
    def describe(cls, *, metrics: Mapping[str, Metric], preprocess: Preprocess, **rest: Any) -> "Protocol":
        definitions = {name: metric.definition for name, metric in metrics.items()}
        return cls(preprocess=preprocess.config, metrics=definitions, **rest)

    def to_dict(self) -> dict[str, Any]:
        content = {**vars(self), "foreground": f"first visit > {BACKGROUND + FOREGROUND:g}", "data_range": 2.0}
        return json.loads(json.dumps(content))

    @property
    def hash(self) -> str:
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Score:
    """The metrics of one generated visit, by one method."""

    setting: Setting
    method: str
    subject: str
    visit: int
    time: float
    values: Mapping[str, float]

    def to_row(self) -> dict[str, Any]:
        head = {name: value for name, value in vars(self).items() if name != "values"}
        return {**head, **self.values}

    @classmethod
    def of_row(cls, row: Mapping[str, str]) -> "Score":
        """Return what `to_row` gave, read from text."""
        head = {"setting", "method", "subject", "visit", "time"}
        values = {name: float(text) for name, text in row.items() if name not in head}
        setting = cast(Setting, row["setting"])
        return cls(setting, row["method"], row["subject"], int(row["visit"]), float(row["time"]), values)


def score(answer: Answer, setting: Setting, metrics: Mapping[str, Metric], *, targets: Targets) -> list[Score]:
    """Score the visits of an answer: the model's, and copy-last's, which repeats the last visit that was given."""
    prepared = answer.prepared
    foreground = foreground_of(prepared.visit(0))
    last = len(prepared.subject.visits) - 1
    scores = []
    for made, visit in enumerate(answer.task.targets):
        if targets == "last" and visit != last:
            continue
        previous = prepared.visit(answer.given_before(made))
        for method, image in (("copy-last", previous), ("model", answer.images[made])):
            values = {name: metric(image, answer.true(made), previous, foreground) for name, metric in metrics.items()}
            scores.append(Score(setting, method, prepared.subject.id, visit, answer.times[made], values))
    return scores


def foreground_of(first: Tensor) -> Tensor:
    """Return the foreground (W, H, D), bool, of a subject's first visit (C, W, H, D); all of it where there is none."""
    mask = (first > BACKGROUND + FOREGROUND).any(dim=0)
    return mask if bool(mask.any()) else torch.ones_like(mask)


@dataclass(frozen=True)
class Summary:
    """A metric over subjects: its mean and the 95 % bootstrap interval of the mean."""

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which has no NaN."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(self).items()}


def summarise(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return one row per setting and method, with a `Summary` per metric, and for the model what it gains on copy-last.

    A subject's visits are averaged first, so a subject with many visits does not weigh more. The gain is paired: the
    mean over subjects of model minus copy-last.
    """
    rows = []
    names = list(scores[0].values) if scores else []
    for setting in dict.fromkeys(score.setting for score in scores):
        means = {method: _by_subject(scores, setting, method) for method in ("copy-last", "model")}
        for method, subjects in means.items():
            row: dict[str, Any] = {"setting": setting, "method": method}
            for name in names:
                row[name] = Summary.of([values[name] for values in subjects.values()])
                if method == "model":
                    base = means["copy-last"]
                    row[f"{name} gain"] = Summary.of([v[name] - base[s][name] for s, v in subjects.items()])
            rows.append(row)
    return rows


def _by_subject(scores: Sequence[Score], setting: str, method: str) -> dict[str, dict[str, float]]:
    grouped: dict[str, list[Mapping[str, float]]] = {}
    for item in scores:
        if (item.setting, item.method) == (setting, method):
            grouped.setdefault(item.subject, []).append(item.values)
    return {
        subject: {name: float(np.mean([values[name] for values in items])) for name in items[0]}
        for subject, items in grouped.items()
    }
