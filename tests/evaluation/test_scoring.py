"""Evaluation: scores of visits, their average over subjects, and the protocol."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.files import visit_of
from longigen import LongigenError, Metric, SeriesMetric, Subject, Volume
from longigen.data.grid import Grid
from longigen.data.intensity import foreground_mask
from longigen.data.preprocess import Prepared, Preprocess
from longigen.evaluation.comparison import Space
from longigen.evaluation.scoring import Protocol, Score, score, summarise
from longigen.models.predict import Generated
from longigen.models.tasks import Task

SHAPE = (2, 2, 2)
SPACES = get_args(Space)
BLURS = ["copy-last blurred 0.5", "copy-last blurred 1"]


class Distance(Metric):
    """Mean absolute error of the generated or the previous visit, or the number of foreground voxels."""

    def __init__(self, *, of: str = "generated") -> None:
        super().__init__()
        self.of = of

    @property
    def definition(self) -> str:
        return f"mean absolute error of {self.of}"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        if self.of == "foreground":
            return float(foreground.sum())
        return float(((generated if self.of == "generated" else previous) - true).abs().mean())


def level(index: int) -> float:
    """Return the model intensity of visit `index` > 0."""
    return 2 * 10 * index / 100 - 1


def prepared(visits: int) -> Prepared:
    """Return a subject whose first visit is a ramp from 0 to 100 and whose visit k is 10 k, but for a tiny ramp."""
    ramp = np.linspace(0, 100, 8).reshape(SHAPE)

    def load(index: int) -> Volume:
        data = 10.0 * index + 1e-5 * (ramp - 50) if index else ramp  # a visit of one intensity is refused
        return Volume(data.astype(np.float32), np.eye(4))

    sequence = tuple(visit_of(lambda k=k: load(k), time=float(k), shape=SHAPE) for k in range(visits))
    return Preprocess(Grid(SHAPE, None), upper=100.0).subject(Subject("s", sequence))


def generated(task: Task, values: list[float], visits: int = 5) -> Generated:
    """Return generated visits, each with one intensity everywhere."""
    images = torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 1, *SHAPE)
    return Generated(prepared(visits), task, tuple(map(float, task.targets)), images)


@pytest.mark.parametrize("space", SPACES)
def test_the_model_and_copy_last_are_scored_beside_each_other(space: Space) -> None:
    metrics = {"error": Distance(), "previous": Distance(of="previous")}
    scores = score([generated(Task((0, 1, 3), (2, 4)), [0.5, 0.25])], "missing", metrics, targets="all", space=space)
    blurs = [s for s in scores if s.method in BLURS]
    assert [(s.method, s.visit) for s in blurs] == [(name, visit) for visit in (2, 4) for name in BLURS]
    assert [s.values["error"] for s in blurs] == pytest.approx([0.2] * 4)  # of a visit that is the same everywhere
    scores = [s for s in scores if s.method not in BLURS]
    assert [(s.method, s.visit, s.time, s.subject, s.setting) for s in scores] == [
        ("copy-last", 2, 2.0, "s", "missing"),
        ("model", 2, 2.0, "s", "missing"),
        ("copy-last", 4, 4.0, "s", "missing"),
        ("model", 4, 4.0, "s", "missing"),
    ]
    # Copy-last repeats the last *given* visit before: 1 for 2, and 3 for 4. One visit is 0.2 in model intensities.
    assert [s.values["error"] for s in scores] == pytest.approx([0.2, 0.5 - level(2), 0.2, 0.25 - level(4)])
    assert [s.values["previous"] for s in scores] == pytest.approx([0.2] * 4)
    assert scores[1].to_row()["error"] == scores[1].values["error"]
    assert scores[1].to_row()["method"] == "model"
    assert "values" not in scores[1].to_row()


class EnsembleError(Metric):
    """The mean distance of the samples, plus 0.001 times their number."""

    ensemble = True

    @property
    def definition(self) -> str:
        return "mean error of the samples + 0.001 K"

    def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
        assert generated.shape[1:] == true.shape
        return float((generated - true).abs().mean()) + 0.001 * len(generated)


@pytest.mark.parametrize("space", SPACES)
def test_several_samples_are_scored_by_the_first_the_mean_and_as_an_ensemble(space: Space) -> None:
    task = Task((0,), (4,))
    samples = [generated(task, [value]) for value in (0.0, 0.5, 0.7)]
    scores = score(samples, "single", {"error": Distance(), "ensemble": EnsembleError()}, targets="all", space=space)
    assert [s.method for s in scores] == ["copy-last", *BLURS, "model", "model, mean of 3"]
    true = level(4)  # -0.2
    assert [s.values["error"] for s in scores[-2:]] == pytest.approx([0 - true, 0.4 - true])
    assert [s.values["ensemble"] for s in scores[-2:]] == pytest.approx([-true + 0.001, 0.4 - true + 0.003])
    assert scores[0].values["ensemble"] == pytest.approx(scores[0].values["error"] + 0.001)
    rows = summarise(scores)
    assert [row.method for row in rows] == ["copy-last", *BLURS, "model", "model, mean of 3"]
    assert rows[-1].gains["error"].mean == pytest.approx(0.4 - true - scores[0].values["error"], abs=1e-6)


class Climb(SeriesMetric):
    """The mean rate of change between the first and the last visit, generated minus true; it notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[list[float], list[float], Sequence[float]]] = []

    @property
    def definition(self) -> str:
        return "rate of change, generated minus true"

    def of_series(self, generated: Tensor, true: Tensor, foreground: Tensor, times: Sequence[float]) -> float:
        assert generated.shape == true.shape == (len(times), 1, *foreground.shape)
        self.seen.append((*(series.mean(dim=(1, 2, 3, 4)).tolist() for series in (generated, true)), times))
        return float((generated[-1] - true[-1]).mean()) / (times[-1] - times[0])


@pytest.mark.parametrize("space", SPACES)
def test_a_series_is_all_visits_of_a_task_after_the_last_given_one(space: Space) -> None:
    task = Task((0, 1, 3), (2, 4))
    samples = [generated(task, values) for values in ([0.0, 0.5], [0.2, 0.9])]
    metric = Climb()
    for targets in ("all", "last"):  # the value is the same, whichever visits are scored
        scores = score(samples, "missing", {"error": Distance(), "climb": metric}, targets=targets, space=space)
        found = {(s.method, s.visit): s.values["climb"] for s in scores}
        visits = (2, 4) if targets == "all" else (4,)
        expected = {"copy-last": level(3) - level(4), "model": 0.5 - level(4), "model, mean of 2": 0.7 - level(4)}
        for method, change in expected.items():
            for visit in visits:
                assert found[method, visit] == pytest.approx(change / 3, abs=1e-5)
        assert list(scores[0].values) == ["error", "climb"]
    copied, true, times = metric.seen[0]
    assert times == [1.0, 2.0, 4.0]
    assert copied == pytest.approx([level(1), level(1), level(3)], abs=1e-5)
    assert true == pytest.approx([level(1), level(2), level(4)], abs=1e-5)
    assert metric.seen[3][0] == pytest.approx([level(1), 0.0, 0.5], abs=1e-5)


def test_a_series_of_one_generated_visit_has_no_value() -> None:
    scores = score([generated(Task((0,), (4,)), [0.0])], "full", {"climb": Climb()}, targets="all", space="subject")
    assert scores
    assert all(math.isnan(item.values["climb"]) for item in scores)


def test_a_series_whose_visits_have_other_grids_is_on_that_of_the_last_given_one() -> None:
    shapes = [(8, 8, 8), (9, 8, 8), (8, 10, 8), (8, 8, 7), (9, 9, 9)]

    def load(index: int) -> Volume:
        ramp = np.linspace(0, 100, np.prod(shapes[index])).reshape(shapes[index])
        return Volume((ramp if not index else 10.0 * index + 1e-5 * ramp).astype(np.float32), np.eye(4))

    visits = tuple(visit_of(lambda k=k: load(k), time=float(k), shape=shapes[k]) for k in range(5))
    subject = Preprocess(Grid((8, 8, 8), None), upper=100.0).subject(Subject("s", visits))
    images = torch.zeros(2, 1, 8, 8, 8)
    scores = score(
        [Generated(subject, Task((0, 1, 3), (2, 4)), (2.0, 4.0), images)],
        "missing",
        {"error": Distance(), "climb": Climb()},
        targets="all",
        space="subject",
    )
    assert all(math.isfinite(value) for item in scores for value in item.values.values())


@pytest.mark.parametrize("space", SPACES)
def test_copy_last_does_not_copy_a_given_visit_after_the_target(space: Space) -> None:
    scores = score(
        [generated(Task((0, 1, 4), (2, 3)), [0.0, 0.0])], "missing", {"error": Distance()}, targets="all", space=space
    )
    errors = [s.values["error"] for s in scores if s.method == "copy-last"]
    assert errors == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("space", SPACES)
def test_targets_last_scores_only_the_last_visit(space: Space) -> None:
    scores = score(
        [generated(Task((0,), (1, 2, 3, 4)), [0.0] * 4)], "single", {"error": Distance()}, targets="last", space=space
    )
    assert [(s.method, s.visit) for s in scores] == [(name, 4) for name in ("copy-last", *BLURS, "model")]
    assert score([generated(Task((0,), (1,)), [0.0])], "full", {"error": Distance()}, targets="last", space=space) == []


@pytest.mark.parametrize("space", SPACES)
def test_the_foreground_is_that_of_the_first_visit(space: Space) -> None:
    first = torch.full((2, 2, 2, 2), -1.0)
    first[1, 0, 0, 0], first[0, 1, 1, 1], first[0, 0, 0, 1] = -0.9, 1.0, -0.96
    expected = torch.zeros(SHAPE, dtype=torch.bool)
    expected[0, 0, 0] = expected[1, 1, 1] = True
    assert torch.equal(foreground_mask(first), expected)
    assert foreground_mask(torch.full((1, *SHAPE), -1.0)).all()
    scores = score(
        [generated(Task((0,), (4,)), [0.0])], "single", {"size": Distance(of="foreground")}, targets="all", space=space
    )
    assert {s.values["size"] for s in scores} == {7.0}  # all voxels of the ramp but the lowest


def scored(setting: Any, method: str, subject: str, visit: int, **values: float) -> Score:
    return Score(setting, method, subject, visit, float(visit), values)


def test_each_subject_counts_once_and_the_gain_is_paired() -> None:
    scores = [
        *(scored("single", "copy-last", "a", visit, m=value) for visit, value in enumerate([0.1, 0.2, 0.3], 1)),
        *(scored("single", "model", "a", visit, m=value) for visit, value in enumerate([0.3, 0.4, 0.5], 1)),
        scored("single", "copy-last", "b", 1, m=0.8),
        scored("single", "model", "b", 1, m=1.0),
        scored("single", "copy-last", "c", 1, m=0.5),
        scored("single", "model", "c", 1, m=0.7),
        scored("full", "copy-last", "b", 1, m=0.5),
        scored("full", "model", "b", 1, m=0.25),
    ]
    rows = summarise(scores)
    assert [(row.setting, row.method) for row in rows] == [
        ("single", "copy-last"),
        ("single", "model"),
        ("full", "copy-last"),
        ("full", "model"),
    ]
    copy_last, model, full_copy_last, full_model = rows
    assert copy_last.values["m"].mean == pytest.approx((0.2 + 0.8 + 0.5) / 3)  # and not the mean over five visits, 0.38
    assert model.values["m"].mean == pytest.approx((0.4 + 1.0 + 0.7) / 3)
    assert (copy_last.values["m"].subjects, full_copy_last.values["m"].subjects) == (3, 1)
    # All subjects gain 0.2, so the interval of the paired gain is narrow, unlike those of the two means.
    gain = model.gains["m"]
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))
    assert model.values["m"].high - model.values["m"].low > 0.5
    assert not copy_last.gains
    assert full_model.gains["m"].mean == -0.25


def test_the_gain_is_over_subjects_for_which_both_are_defined() -> None:
    scores = [
        scored("full", "copy-last", "a", 1, m=math.nan),
        scored("full", "model", "a", 1, m=0.9),
        scored("full", "copy-last", "b", 1, m=0.5),
        scored("full", "model", "b", 1, m=0.6),
    ]
    gain = summarise(scores)[1].gains["m"]
    assert gain.mean == pytest.approx(0.1)
    assert gain.subjects == 1
    assert summarise([]) == []


PROTOCOL = Protocol.describe(
    metrics={"error": Distance(), "previous": Distance(of="previous")},
    preprocess=Preprocess(Grid(SHAPE, None)),
    data="some",
    fingerprint="abc",
    part="test",
    subjects=4,
    settings=("single", "full"),
    targets="last",
    setting_seed=0,
)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "other"},
        {"fingerprint": "abd"},
        {"part": "all"},
        {"subjects": 5},
        {"settings": ("single",)},
        {"targets": "all"},
        {"setting_seed": 1},
        {"samples": 2},
        {"space": "model"},
        {"preprocess": {**PROTOCOL.preprocess, "upper": 99.0}},
        {"metrics": {"error": Distance().definition}},
        {"metrics": {**PROTOCOL.metrics, "error": "mean absolute error over the foreground"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_changes_with_anything_in_the_protocol(change: dict[str, Any]) -> None:
    assert set(change) <= set(vars(PROTOCOL))
    assert replace(PROTOCOL, **change).hash != PROTOCOL.hash


def test_the_hash_is_of_the_content_alone() -> None:
    assert replace(PROTOCOL, metrics=dict(reversed(list(PROTOCOL.metrics.items())))).hash == PROTOCOL.hash
    written = json.loads(json.dumps(PROTOCOL.to_dict()))
    assert written == PROTOCOL.to_dict()
    assert written["metrics"] == {
        "error": "mean absolute error of generated",
        "previous": "mean absolute error of previous",
    }
    assert written["foreground"] == "first visit > -0.95"
    assert set(vars(PROTOCOL)) - {"samples", "images", "regions"} < set(written)
    known = replace(PROTOCOL, images="0123456789abcdef")
    assert known.to_dict()["images"] == "0123456789abcdef"
    assert known.hash != PROTOCOL.hash


def test_on_the_models_grid_the_grid_is_a_part_of_the_protocol() -> None:
    """And it has the hash that it had before there was a choice of space."""

    def hashed(shape: tuple[int, int, int], space: Space) -> Protocol:
        rest = {name: value for name, value in vars(PROTOCOL).items() if name not in ("metrics", "preprocess", "space")}
        metrics = {"error": Distance(), "previous": Distance(of="previous")}
        return Protocol.describe(metrics=metrics, preprocess=Preprocess(Grid(shape, None)), space=space, **rest)

    assert hashed(SHAPE, "model").hash == "e9597111fcd7"
    assert "space" not in hashed(SHAPE, "model").to_dict()
    assert hashed((2, 2, 3), "model").hash != hashed(SHAPE, "model").hash
    assert hashed((2, 2, 3), "subject").hash == hashed(SHAPE, "subject").hash == PROTOCOL.hash
    with pytest.raises(LongigenError, match=r"no space 'subjekt' to score in\. Did you mean 'subject'"):
        hashed(SHAPE, "subjekt")  # type: ignore[arg-type]


def test_one_sample_is_not_a_part_of_the_protocol() -> None:
    assert "samples" not in PROTOCOL.to_dict()
    assert replace(PROTOCOL, samples=3).to_dict()["samples"] == 3
