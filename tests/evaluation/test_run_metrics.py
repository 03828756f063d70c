"""The metrics.json of a run: merged by protocol, never narrowed in silence."""

import warnings
from pathlib import Path
from typing import Any

import pytest

import longigen
from helpers.trainings import SMALL
from longigen import LongigenWarning, Run
from longigen.evaluation.evaluate import Evaluation
from longigen.hub.metrics_file import MetricsFile


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    return longigen.train(
        manifest, changes=[*SMALL, "training.steps=2", "training.score_every=2"], out=out, progress=False
    )


def evaluate(run: Run, settings: str, metrics: str, **options: Any) -> Evaluation:
    return longigen.evaluate(run, settings=settings.split(), metrics=metrics.split(), progress=False, **options)  # type: ignore[arg-type]


def saved(run: Run) -> MetricsFile:
    found = MetricsFile.read(run.model)
    assert found is not None
    return found


@pytest.fixture
def fresh(run: Run) -> Run:
    (run.model / "metrics.json").unlink(missing_ok=True)
    return run


def test_one_more_metric_is_added_and_the_file_is_that_of_one_evaluation(
    fresh: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "longigen")
    evaluate(fresh, "single full", "psnr nrmse")
    before = saved(fresh)
    assert evaluate(fresh, "full", "kid").metrics_path == fresh.model / "metrics.json"
    after = saved(fresh)
    assert "has the other metrics and settings of earlier evaluations" in caplog.text
    values = {(row.setting, row.method): dict(row.values) for row in after.rows}
    for row in before.rows:
        assert {name: values[row.setting, row.method][name] for name in ("psnr", "nrmse")} == row.values
        assert ("kid" in values[row.setting, row.method]) == (row.setting == "full")
    evaluate(fresh, "single", "kid")
    added, whole = saved(fresh), evaluate(fresh, "single full", "psnr nrmse kid")
    assert added.content["protocol_hash"] == whole.protocol.hash
    assert added.rows == whole.rows
    assert saved(fresh).content == whole.metrics_file.content


@pytest.mark.parametrize("other", [{"seed": 1}, {"space": "model"}, {"targets": "all"}, {"steps": 3}])
def test_another_protocol_replaces_it_only_by_as_much(fresh: Run, other: dict[str, Any]) -> None:
    whole = evaluate(fresh, "single full", "psnr nrmse").metrics_file.content
    for settings, metrics in (("full", "psnr nrmse"), ("single full", "psnr")):
        with pytest.warns(LongigenWarning, match=r"metrics\.json keeps those of protocol .* have fewer"):
            assert evaluate(fresh, settings, metrics, **other).metrics_path is None
        assert saved(fresh).content == whole
    with pytest.warns(LongigenWarning, match=r"metrics\.json those of protocol .* replace those of protocol"):
        assert evaluate(fresh, "single full", "psnr nrmse ssim", **other).metrics_path is not None
    assert "ssim" in saved(fresh).arrows


def test_scores_of_the_best_weights_stand_beside_them(fresh: Run) -> None:
    assert evaluate(fresh, "full", "psnr", weights="best").metrics_path == fresh.best / "metrics.json"
    assert MetricsFile.read(fresh.best) is not None
    assert MetricsFile.read(fresh.model) is None


def test_a_damaged_file_is_replaced_saying_so(fresh: Run) -> None:
    (fresh.model / "metrics.json").write_text("{}")
    with pytest.warns(LongigenWarning, match=r"Replaced .*metrics\.json, which is of other weights or cannot be read"):
        evaluate(fresh, "full", "psnr")
    assert list(saved(fresh).arrows) == ["psnr"]


def test_another_evaluation_in_the_output_folder_is_replaced_saying_so(fresh: Run, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", LongigenWarning)
        for _ in range(2):
            evaluate(fresh, "full", "psnr", out=tmp_path)
    with pytest.warns(LongigenWarning, match="Replaced another evaluation in"):
        evaluate(fresh, "full", "nrmse", out=tmp_path)
