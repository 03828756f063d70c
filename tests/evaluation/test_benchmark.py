"""The bench: trained where missing, continued where interrupted, refused where it would be mixed."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.processes import Longigen
from longigen import LongigenError
from longigen.evaluation.benchmark import Benchmark, BenchmarkResult
from longigen.evaluation.benchmark_spec import BenchmarkRow, BenchmarkSpec
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.tables import WIDTH
from longigen.utils.intervals import Summary

SMALL = (
    "conditioner.dim=16",
    "conditioner.depth=1",
    "denoiser.width=8",
    "denoiser.multipliers=1,2",
    "validate_every=100",
    "sample_every=100",
    "checkpoint_every=2",
)
ROWS = ("linear", "without attention")
ONE = "without diffusion"
METRICS = load_metrics(["psnr", "change-correlation"])


def bench(manifest: Path, folder: Path, *changes: str, rows: tuple[str, ...] = ROWS, **options: Any) -> Benchmark:
    options = {"steps": 2, "table": BenchmarkSpec.of("sadm-ablation"), **options}
    return Benchmark(options.pop("table"), folder, rows=rows, data=str(manifest), changes=[*SMALL, *changes], **options)


@pytest.fixture(scope="module")
def done(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, BenchmarkResult]:
    made = bench(manifest, tmp_path_factory.mktemp("bench"), seeds=(0, 1))
    return made, made.run(METRICS)


def written(folder: Path) -> dict[str, int]:
    """Return when each file of models and scores was written."""
    paths = [*folder.glob("*/*/model/*"), *folder.glob("*/*/evaluation/*")]
    assert paths
    return {str(path): path.stat().st_mtime_ns for path in paths}


def test_rows_and_costs(done: tuple[Benchmark, BenchmarkResult]) -> None:
    made, result = done
    assert [(row.setting, row.method) for row in result.rows] == [
        (setting, method) for setting in ("single", "missing", "full") for method in ("copy-last", *ROWS)
    ]
    linear, without = result.costs
    assert (linear["parameters"], linear["steps"], linear["nfe"], linear["training_bytes"]) == (0, 0, 1, None)
    assert not (made.folder / "linear" / "seed-0" / "checkpoints").exists()
    assert without["parameters"] > 10_000
    assert (without["steps"], without["nfe"]) == (2, 1)
    assert without["training_seconds"] > 0
    assert 0 < without["seconds_per_visit"] < 10
    assert without["generation_bytes"] > 1e7
    assert made.budget["steps"] == 2
    # On balls that grow evenly, a line through all visits before is better than the last of them.
    gain = next(row for row in result.rows if (row.setting, row.method) == ("full", "linear")).gains["psnr"]
    assert isinstance(gain, Summary)
    assert gain.low > 0
    assert made.unused == {"linear": list(SMALL[:4]), "without attention": list(SMALL[:2])}


def test_minutes_are_turned_into_steps_which_a_run_keeps(manifest: Path, tmp_path: Path) -> None:
    made = bench(manifest, tmp_path, steps=None, minutes=0.02, rows=("linear", "without attention"))
    assert (made.budget["steps"], made.budget["minutes"]) == (None, 0.02)
    result = made.run(METRICS, scenarios=("full",))
    steps = result.costs[1]["steps"]
    assert steps >= 1
    assert "each row trained for 0.02 minutes, in steps of 2 pairs" in result.table()
    again = bench(manifest, tmp_path, steps=None, minutes=0.02, rows=("linear", "without attention"))
    assert all(run.finished for run in again.runs)
    assert again.runs[1].recipe.settings("training").steps == steps
    assert again._steps_in(1.0, made.runs[1].recipe) > again._steps_in(0.0001, made.runs[1].recipe) == 1


def test_a_subjects_seeds_are_averaged_first_and_the_gain_is_paired(done: tuple[Benchmark, BenchmarkResult]) -> None:
    _, result = done

    def values(method: str, seed: int) -> dict[str, float]:
        rows = [row for row in result.scores if (row["method"], row["seed"], row["setting"]) == (method, seed, "full")]
        return {row["subject"]: row["psnr"] for row in rows}

    copied, *made = (values(*key) for key in (("copy-last", 0), ("without attention", 0), ("without attention", 1)))
    assert values("copy-last", 1) == {}  # it is told once
    assert made[0] != made[1]
    mean = {subject: (made[0][subject] + made[1][subject]) / 2 for subject in copied}
    place = [(row.setting, row.method) for row in result.rows].index(("full", "without attention"))
    row, by_seed = result.rows[place], result.by_seed[place]
    assert row.values["psnr"] == Summary.of(list(mean.values()))
    assert row.gains["psnr"].mean == pytest.approx(np.mean([mean[s] - copied[s] for s in copied]))
    assert by_seed["psnr"] == {seed: pytest.approx(np.mean(list(made[seed].values()))) for seed in (0, 1)}


def test_a_second_call_makes_nothing_and_prints_the_same(
    done: tuple[Benchmark, BenchmarkResult], manifest: Path
) -> None:
    made, result = done
    before = written(made.folder)
    again = bench(manifest, made.folder, seeds=(0, 1))
    repeated = again.run(METRICS)
    assert written(made.folder) == before
    text = result.table()
    assert repeated.table() == text
    assert repeated.scores[0].keys() == result.scores[0].keys()
    assert repeated.content == result.content
    json.dumps(result.content, allow_nan=False)
    assert max(map(len, text.splitlines())) <= WIDTH
    for word in ("setting single", "copy-last", "without attention", "psnr ↑", "NFE", "peak memory", "seeds 0, 1"):
        assert word in text


def test_another_protocol_is_scored_again_and_nothing_trained(
    done: tuple[Benchmark, BenchmarkResult], manifest: Path
) -> None:
    made, result = done
    before = written(made.folder)
    other = bench(manifest, made.folder, rows=("linear",)).run(METRICS, scenarios=("full",), targets="all")
    assert other.protocol.hash != result.protocol.hash
    assert {row.setting for row in other.rows} == {"full"}
    assert len(other.scores) == 2 * 3 * 2  # two subjects, three visits, two methods
    changed = {path for path, time in written(made.folder).items() if before[path] != time}
    assert {Path(path).parent.relative_to(made.folder).as_posix() for path in changed} == {"linear/seed-0/evaluation"}


def test_a_metric_of_a_set_is_kept_with_the_scores(manifest: Path, tmp_path: Path) -> None:
    metrics = load_metrics(["fid", "psnr"])
    made = bench(manifest, tmp_path, rows=("linear",), seeds=(0, 1))
    result = made.run(metrics, scenarios=("full",), targets="all")
    before = written(tmp_path)
    again = bench(manifest, tmp_path, rows=("linear",), seeds=(0, 1)).run(metrics, scenarios=("full",), targets="all")
    assert written(tmp_path) == before
    copied, linear = result.rows
    assert [row.values["fid"] for row in again.rows] == [row.values["fid"] for row in result.rows]
    assert linear.visits == 6
    assert linear.values["fid"].mean > 0
    # Nothing is drawn, so both seeds have the same set: their mean is either's, which a set of both together is not.
    assert result.by_seed[1]["fid"] == {0: linear.values["fid"].mean, 1: linear.values["fid"].mean}
    assert linear.gains["fid"].mean == pytest.approx(linear.values["fid"].mean - copied.values["fid"].mean)


class KilledError(Exception):
    pass


def stopping(at: int, error: type[BaseException]) -> Callable[[str], Any]:
    @contextmanager
    def progress(name: str) -> Iterator[Callable[..., None]]:
        def update(done: int, total: int, note: str = "") -> None:
            if name.startswith("training") and done == at:
                raise error

        yield update

    return progress


def test_an_interrupted_row_is_continued(manifest: Path, tmp_path: Path) -> None:
    whole = bench(manifest, tmp_path / "whole", rows=(ONE,), steps=4)
    whole.run(METRICS, scenarios=("full",))
    folder = tmp_path / "broken" / "without-diffusion" / "seed-0"
    for error, at, kept in ((KilledError, 3, 2), (KeyboardInterrupt, 3, 3)):
        with pytest.raises(error):
            bench(manifest, tmp_path / "broken", rows=(ONE,), steps=4, progress=stopping(at, error)).run(METRICS)
        assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-1] == f"step-{kept:07d}"
    spent = json.loads((folder / "cost.json").read_text())["training_seconds"]
    resumed = bench(manifest, tmp_path / "broken", rows=(ONE,), steps=4)
    assert not resumed.runs[0].finished
    result = resumed.run(METRICS, scenarios=("full",))
    one, two = (load_file(each.runs[0].output.model / "model.safetensors") for each in (whole, resumed))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
    assert result.costs[0]["training_seconds"] > spent > 0
    # As `longigen train` would leave it, or a kill before the model was exported: not trained again, but exported.
    (folder / "cost.json").unlink()
    (folder / "model" / "config.json").unlink()
    log = (folder / "metrics.jsonl").read_bytes()
    cost = bench(manifest, tmp_path / "broken", rows=(ONE,), steps=4).run(METRICS, scenarios=("full",)).costs[0]
    assert (folder / "metrics.jsonl").read_bytes() == log
    assert (cost["training_seconds"], cost["steps"]) == (None, 4)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ((), {"steps": 3}, r"seed-0 was trained with training\.steps = 2 and now 3 is asked for; ask for the same"),
        (("denoiser.width=16",), {}, r"without-attention/seed-0 was trained with denoiser\.width = 8 and now 16"),
        (("split.test=0.4",), {}, r"was trained with split\.test = 0\.2 and now 0\.4"),
        (("widht=3",), {}, r"widht: nothing has that name\. Did you mean 'width'"),
        ((), {"rows": ("nothing",)}, "no row 'nothing'"),
    ],
)
def test_other_options_are_refused(
    done: tuple[Benchmark, BenchmarkResult],
    manifest: Path,
    changes: tuple[str, ...],
    options: dict[str, Any],
    message: str,
) -> None:
    made, _ = done
    before = written(made.folder)
    with pytest.raises(LongigenError, match=message):
        bench(manifest, made.folder, *changes, **options)
    assert written(made.folder) == before


def test_rows_that_cannot_be_compared(manifest: Path, tmp_path: Path) -> None:
    table = BenchmarkSpec.of("sadm-ablation")
    for change, named in (("split.test=0.4", r"split\.test \(0\.2 and 0\.4\)"), ("training.batch_size=4", "batch_siz")):
        odd = replace(table, rows=(table.rows[0], replace(table.rows[3], changes=[change])))
        with pytest.raises(LongigenError, match=rf"'linear' and 'sadm' differ in .*{named}"):
            bench(manifest, tmp_path / "out", table=odd, rows=())
    with pytest.raises(LongigenError, match="no test subjects to score"):
        bench(manifest, tmp_path / "out", "split.test=0", rows=("linear",))


def test_other_data_in_the_same_place(manifest: Path, tmp_path: Path) -> None:
    table = tmp_path / "visits.csv"
    lines = manifest.read_text().replace(",s", f",{manifest.parent}/s")
    table.write_text(lines)
    bench(table, tmp_path / "out", rows=("linear",)).run(METRICS, scenarios=("full",))
    table.write_text(lines.replace(",1.10,", ",1.20,"))  # the same subjects at other times
    with pytest.raises(LongigenError, match="was trained when 'csv' held other subjects or visits"):
        bench(table, tmp_path / "out", rows=("linear",))


def test_the_command(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    arguments = [
        "bench",
        "sadm-ablation",
        "--data",
        manifest,
        "--out",
        tmp_path,
        "--row",
        "linear",
        "--setting",
        "full",
    ]
    result = longigen(*arguments, "--metric", "psnr", "--seeds", 2)
    assert result.stdout == (tmp_path / "table.txt").read_text()
    content = json.loads((tmp_path / "table.json").read_text())
    assert [row["method"] for row in content["rows"]] == ["copy-last", "linear"]
    assert content["seeds"] == [0, 1]
    assert content["methods"]["linear"]["components"]["conditioner"] == "linear"
    with (tmp_path / "subjects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in rows] == [("copy-last", "0"), ("linear", "0")] * 2 + [
        ("linear", "1")
    ] * 2
    refused = longigen(*arguments, "--steps", 3, status=2)
    assert refused.stderr.splitlines()[-1].startswith("longigen: ")
    assert "training.steps = 200 and now 3" in refused.stderr


def test_a_row_needs_its_name() -> None:
    assert BenchmarkRow("SADM, w = 0.1", "r", {}, []).folder == "sadm-w-0-1"
