"""Comparison of models: paired tests over subjects and seeds, and which results are not compared."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

import longigen
from longigen import LongigenError
from longigen.evaluation.evaluate import SCORES, SUMMARY, write_csv
from longigen.evaluation.protocol import Protocol
from longigen.evaluation.result_table import WIDTH
from longigen.evaluation.scoring import Score, summarise
from longigen.hub.metrics_file import COPY_LAST, MODEL
from longigen.utils.files import write_json

SUBJECTS = [f"s{number:02}" for number in range(12)]
PROTOCOL = Protocol(
    data="some",
    fingerprint="abc",
    part="test",
    subjects=len(SUBJECTS),
    settings=("full",),
    targets="last",
    setting_seed=0,
    preprocess={"lower": 0.0, "upper": 99.9, "normalise": "subject"},
    metrics={"psnr": "in dB", "nrmse": "of the range"},
    images="0123",
)
RNG = np.random.default_rng(11)
COPIED = RNG.normal(20, 2, len(SUBJECTS))
Values = Sequence[float] | np.ndarray


def scores(method: str, psnr: Values, nrmse: Values) -> list[Score]:
    return [
        Score("full", method, subject, 2, 1.0, {"psnr": float(db), "nrmse": float(error)})
        for subject, db, error in zip(SUBJECTS, psnr, nrmse, strict=True)
    ]


def evaluated(folder: Path, psnr: Values, nrmse: Values | None = None, protocol: Protocol = PROTOCOL) -> Path:
    """Write what ``evaluate --out`` writes of a model with these values, and return the folder."""
    found = [*scores(COPY_LAST, COPIED, COPIED / 100), *scores(MODEL, psnr, COPIED / 100 if nrmse is None else nrmse)]
    content = {
        "protocol_hash": protocol.hash,
        "model": {},
        "generation": {"seed": 0},
        "protocol": protocol.to_dict(),
        "rows": [row.to_dict() for row in summarise(found)],
        "arrows": {"psnr": "↑", "nrmse": "↓"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(content, folder / SUMMARY)
    write_csv([score.to_row() for score in found], folder / SCORES)
    return folder


def changed(folder: Path, **content: Any) -> Path:
    """Change entries of ``summary.json``."""
    path = folder / SUMMARY
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    return folder


def test_two_models_are_compared_by_paired_tests_that_are_adjusted_for_their_number(tmp_path: Path) -> None:
    base = COPIED + RNG.normal(0, 0.3, len(SUBJECTS))
    one = evaluated(tmp_path / "one", base, COPIED / 100)
    two = evaluated(tmp_path / "two", base + 1 + RNG.normal(0, 0.1, len(SUBJECTS)), COPIED / 100)
    comparison = longigen.compare([one, two])
    rows = {(row.metric, row.model): row for row in comparison.rows}
    assert list(rows)[:3] == [("psnr", COPY_LAST), ("psnr", "one"), ("psnr", "two")]
    better = rows["psnr", "two"]
    assert better.difference is not None
    assert better.difference.mean == pytest.approx(1, abs=0.1)
    assert (better.better, better.seeds) == (12, 1)
    assert better.p < 0.001
    assert better.p == pytest.approx(2 * better.difference.p)  # the smaller of two tests
    equal = rows["nrmse", "two"]
    assert (equal.p, equal.better) == (1.0, 0)
    assert rows["psnr", "one"].difference is None
    assert math.isnan(rows["psnr", COPY_LAST].p)  # a copy is no hypothesis, and has an interval alone
    assert rows["psnr", COPY_LAST].difference is not None
    table = comparison.table()
    assert table.splitlines()[1] == f"protocol {comparison.hash}" == f"protocol {PROTOCOL.hash}"
    (line,) = [line for line in table.splitlines() if " two " in line and "12/12" in line]
    assert line.endswith("<.001 ▲")
    assert "adjusted for 2 tests (Holm 1979)" in table
    assert "one, two: one seed, so this is of the trained model and not of its method" in table
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "| nrmse ↓ | copy-last |" in comparison.to_markdown()
    assert comparison.to_latex().count("\\begin{tabular}") == 1
    record = list(csv.DictReader(StringIO(comparison.to_csv())))[2]
    assert (record["model"], record["better"], record["seeds"]) == ("two", "12", "1")
    assert float(record["difference_mean"]) == better.difference.mean
    assert len(comparison.to_pandas()) == 6
    assert json.loads(json.dumps(comparison.content, allow_nan=False))["against"] == "one"
    turned = longigen.compare([one, two], against="two", metrics=["psnr"])
    assert [row.p for row in turned.rows if row.model == "one"] == pytest.approx([better.difference.p])
    alone = longigen.compare(one, metrics=["psnr"])
    assert alone.against == COPY_LAST
    assert alone.rows[1].p < 1  # against a copy the model is tested


def test_values_without_skewness_give_the_p_of_the_paired_t_test(tmp_path: Path) -> None:
    away = np.array([-5, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 5]) / 10 + 0.2
    one, two = evaluated(tmp_path / "one", COPIED), evaluated(tmp_path / "two", COPIED + away)
    row = longigen.compare([one, two], metrics=["psnr"]).rows[-1]
    assert row.p == pytest.approx(ttest_rel(COPIED + away, COPIED).pvalue)  # type: ignore[attr-defined]


def test_equal_models_whose_seeds_differ_are_not_called_different(tmp_path: Path) -> None:
    """One seed of each would be: the seeds' effects are larger than the subjects' differences."""
    rng = np.random.default_rng(2)
    places: dict[str, list[Path]] = {}
    for name in ("one", "two"):
        for seed, effect in enumerate(rng.permutation([-1.0, 0.1, 0.9])):
            values = COPIED + effect + rng.normal(0, 0.2, len(SUBJECTS))
            places.setdefault(name, []).append(evaluated(tmp_path / f"{name}-{seed}", values))
    row = longigen.compare(places, metrics=["psnr"]).rows[-1]
    assert (row.model, row.seeds) == ("two", 3)
    assert row.p > 0.5
    by_pair = [
        longigen.compare([("one", places["one"][0]), ("two", each)], metrics=["psnr"]).rows[-1].p
        for each in places["two"]
    ]
    assert max(by_pair) > min(by_pair) < 0.001
    text = longigen.compare(places).table()
    assert "mean: over subjects and seeds, n = 12" in text
    assert "mixed model of subjects and seeds (Hillis 2014)" in text
    assert "one seed" not in text


def test_a_row_of_a_benchmark_has_its_seeds_and_a_table_its_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    of_run: Mapping[tuple[str, int], list[Score]] = {
        (row, seed): scores(row, COPIED + shift + rng.normal(0, 0.1, len(SUBJECTS)), COPIED / 100)
        for row, shift in (("first", 0.0), ("second", 1.0))
        for seed in (0, 1)
    }
    copies = scores(COPY_LAST, COPIED, COPIED / 100)
    rows = [
        row
        for name in ("first", "second")
        for row in summarise([*copies, *of_run[name, 0], *of_run[name, 1]])[0 if name == "first" else 1 :]
    ]
    content = {"table": "t", "protocol": PROTOCOL.to_dict(), "rows": [row.to_dict() for row in rows]}
    write_json(content, tmp_path / "table.json")
    by_seed = [{"seed": seed, **score.to_row()} for (_, seed), found in of_run.items() for score in found]
    write_csv([*({"seed": 0, **copy.to_row()} for copy in copies), *by_seed], tmp_path / SCORES)
    for (name, seed), found in of_run.items():
        evaluated(tmp_path / name / f"seed-{seed}" / "evaluation", [score.values["psnr"] for score in found])
    whole = longigen.compare([tmp_path])
    assert [(row.model, row.seeds) for row in whole.rows[:3]] == [(COPY_LAST, 1), ("first", 2), ("second", 2)]
    assert whole.arrows == {"psnr": "↑", "nrmse": "↓"}  # of the installed metrics: an older table did not record them
    assert whole.rows[2].p < 0.05
    apart = longigen.compare([tmp_path / "first", tmp_path / "second"])
    assert apart.rows == whole.rows
    twice = longigen.compare([tmp_path, ("first", tmp_path / "first"), tmp_path])
    assert {row.model for row in twice.rows if row.model != COPY_LAST} == {
        "first", f"{tmp_path}: first", f"{tmp_path}: second",
    }  # fmt: skip


def test_results_of_other_protocols_are_refused_saying_what_differs(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", COPIED)
    other = replace(PROTOCOL, images="4567", metrics={**PROTOCOL.metrics, "nrmse": "of the mean"})
    two = evaluated(tmp_path / "two", COPIED, protocol=other)
    with pytest.raises(LongigenError) as refused:
        longigen.compare([one, two])
    assert f"are of different protocols ({PROTOCOL.hash}, and {other.hash})" in str(refused.value)
    assert "differ in: definition of nrmse (of the range, and of the mean); images (hash) (0123, and 4567)." in str(
        refused.value
    )
    fewer = replace(PROTOCOL, settings=("missing", "full"), setting_seed=3)
    three = changed(evaluated(tmp_path / "three", COPIED), protocol=fewer.to_dict())
    notes = longigen.compare([one, three]).notes  # another seed of missing visits, which the setting full has not
    assert notes[0] == "left out, since not all results have them: setting missing"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"results": ["none"]}, "none"),
        ({"results": []}, "There is nothing to compare"),
        ({"results": ["."]}, "There are no results in ."),
        ({"results": ["one"], "against": "on"}, "Nothing of the name 'on' is compared. Did you mean 'one'?"),
        ({"results": ["one"], "metrics": ["psn"]}, "Not all results have the metric 'psn'. Did you mean 'psnr'?"),
        ({"results": ["one", "copied"]}, "their psnr of copy-last is"),
        ({"results": ["one", "damaged"]}, "is damaged"),
        ({"results": ["one", "fewer"]}, "fewer/summary.json has values of other subjects"),
        ({"results": {"a": ["one", "means"]}}, "it cannot be one of several seeds of 'a'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_one_sentence(
    arguments: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, copied, damaged, fewer, means = (
        evaluated(Path(name), COPIED) for name in ("one", "copied", "damaged", "fewer", "means")
    )
    rows = json.loads((copied / SUMMARY).read_text())["rows"]
    rows[0]["psnr"]["mean"] += 0.1
    changed(copied, rows=rows)
    lines = (one / SCORES).read_text().splitlines()
    (damaged / SCORES).write_text("\n".join([*lines[:-1], lines[-1].replace(",", ";")]))
    (fewer / SCORES).write_text("\n".join(lines[:-1]))
    (means / SCORES).unlink()
    with pytest.raises(LongigenError) as refused:
        longigen.compare(arguments.pop("results"), **arguments)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_values_of_subjects_there_are_means_and_no_tests(tmp_path: Path) -> None:
    one, two = evaluated(tmp_path / "one", COPIED), evaluated(tmp_path / "two", COPIED + 1)
    (two / SCORES).unlink()
    rows = json.loads((one / SUMMARY).read_text())["rows"]
    rows[1]["nrmse"]["mean"] = 7.0  # as of a metric of all visits together, such as FID
    changed(one, rows=rows)
    comparison = longigen.compare([one, two])
    assert comparison.tests == 0
    values = {(row.metric, row.model): row.value.mean for row in comparison.rows}
    assert values["psnr", "two"] == pytest.approx(COPIED.mean() + 1)
    assert values["nrmse", "one"] == 7.0
    assert comparison.notes[0].startswith("two: only means are known, so there is no test")
    assert comparison.notes[1] == "nrmse: no mean of values of subjects, so there is no test"
    published = longigen.compare(["sadm-sim-brain", "additive-sim-brain"], settings="full", metrics=["psnr"])
    assert [row.model for row in published.rows[-2:]] == ["sadm-sim-brain", "additive-sim-brain"]


def test_too_few_subjects_for_an_interval_are_said(tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "one", COPIED + 1)
    (folder / SCORES).unlink()
    rows = json.loads((folder / SUMMARY).read_text())["rows"]
    for row in rows:
        for metric in ("psnr", "nrmse"):
            row[metric]["subjects"] = 2
    changed(folder, rows=rows)
    assert "mean: over subjects, n = 2; no interval below 3" in longigen.compare([folder]).table()
