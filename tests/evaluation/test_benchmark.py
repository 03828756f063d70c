"""Benchmarks: train missing runs, continue interrupted ones, and refuse runs with other options."""

import csv
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import longigen
from helpers.files import write_image
from helpers.processes import Longigen
from longigen import LongigenError, LongigenWarning
from longigen.evaluation.benchmark import Benchmark
from longigen.evaluation.benchmark_result import BenchmarkResult
from longigen.evaluation.benchmark_spec import BenchmarkRow, BenchmarkSpec
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.result_table import WIDTH
from longigen.hub.metrics_file import COPIES
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
def timed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, BenchmarkResult, float]:
    """Return a benchmark that was run, its result, and the seconds that it took."""
    benchmark, started = bench(manifest, tmp_path_factory.mktemp("bench"), seeds=(0, 1)), time.perf_counter()
    return benchmark, benchmark.run(METRICS), time.perf_counter() - started


@pytest.fixture(scope="module")
def done(timed: tuple[Benchmark, BenchmarkResult, float]) -> tuple[Benchmark, BenchmarkResult]:
    """Return a benchmark that was run, and its result."""
    return timed[:2]


def write_times(folder: Path) -> dict[str, int]:
    """Return the time of the last change of each file of models and scores."""
    paths = [*folder.glob("*/*/model/*"), *folder.glob("*/*/evaluation/*")]
    assert paths
    return {str(path): path.stat().st_mtime_ns for path in paths}


def test_rows_and_costs(timed: tuple[Benchmark, BenchmarkResult, float]) -> None:
    benchmark, result, seconds = timed
    assert [(row.setting, row.method) for row in result.rows] == [
        (setting, method) for setting in ("single", "missing", "full") for method in (*COPIES, *ROWS)
    ]
    linear, without = result.costs
    assert (linear["parameters"], linear["steps"], linear["nfe"], linear["training_bytes"]) == (0, 0, 1, None)
    assert not (benchmark.folder / "linear" / "seed-0" / "checkpoints").exists()
    assert without["parameters"] > 10_000
    assert (without["steps"], without["nfe"]) == (2, 1)
    assert without["training_seconds"] > 0
    assert 0 < without["seconds_per_visit"] < seconds
    assert without["generation_bytes"] > 1e7
    assert benchmark.budget["steps"] == 2
    # For balls that grow linearly, extrapolation from all earlier visits is better than copying the last one.
    gain = next(row for row in result.rows if (row.setting, row.method) == ("full", "linear")).gains["psnr"]
    assert isinstance(gain, Summary)
    assert gain.mean > 5
    assert np.isnan(gain.low)  # of two subjects
    assert "n = 2; no interval below 3" in result.table()
    assert benchmark.unused == {"linear": list(SMALL[:4]), "without attention": list(SMALL[:2])}


def test_two_rows_that_are_one_model_are_refused(manifest: Path, tmp_path: Path) -> None:
    rows = tuple(BenchmarkRow(name, "sadm-tiny", {"conditioner": "raw"}, []) for name in ("gan", "sadm"))
    with pytest.raises(LongigenError, match=r"^The rows 'gan' and 'sadm' have equal components and hyperparameters"):
        bench(manifest, tmp_path, table=BenchmarkSpec("t", "", "", (), rows), rows=())
    assert not list(tmp_path.iterdir())


def test_rows_that_cannot_be_had_at_a_size_are_left_out_saying_so(manifest: Path, tmp_path: Path) -> None:
    table = BenchmarkSpec.of("sadm-methods", recipe="sadm-small")
    with pytest.warns(LongigenWarning, match=r"row 'gan', cannot be had with --recipe sadm-small.* it is left out"):
        benchmark = bench(manifest, tmp_path, "denoiser.blocks=1", table=table, rows=())
    assert [run.row.name for run in benchmark.runs] == ["linear", "sadm"]


def test_a_table_with_sizes_says_what_is_equal(manifest: Path, tmp_path: Path) -> None:
    tables = {size: BenchmarkSpec.of("field", size=size) for size in ("tiny", "small")}
    benchmark = bench(manifest, tmp_path, "split.test=0.5", table=tables["tiny"], rows=("linear",), steps=None)
    result = benchmark.run(METRICS, scenarios=["full"])
    assert result.content["size"] == "tiny"
    assert result.content["methods"]["linear"]["recipe"] == "sadm-tiny"
    text = " ".join(result.table().split())
    assert "trained for 200 steps of 2 pairs" in text
    assert (
        "size tiny, each row from its own recipe: subjects, preprocessing, split, steps and pairs per step are" in text
    )
    assert "% needs" in result.to_latex()
    with pytest.raises(LongigenError, match=r"was trained with training\.steps = 200, which is now 20000"):
        bench(manifest, tmp_path, "split.test=0.5", table=tables["small"], rows=("linear",), steps=None)


def test_minutes_are_converted_to_steps_once_per_run(manifest: Path, tmp_path: Path) -> None:
    first = bench(manifest, tmp_path, steps=None, minutes=0.02, rows=("linear", "without attention"))
    assert (first.budget["steps"], first.budget["minutes"]) == (None, 0.02)
    result = first.run(METRICS, scenarios=("full",))
    steps = result.costs[1]["steps"]
    assert steps >= 1
    assert "each row trained for 0.02 minutes, in steps of 2 pairs" in result.table()
    again = bench(manifest, tmp_path, steps=None, minutes=0.02, rows=("linear", "without attention"))
    assert all(run.finished for run in again.runs)
    assert again.runs[1].recipe.settings("training").steps == steps
    assert again._steps_in(1.0, first.runs[1].recipe) > again._steps_in(0.0001, first.runs[1].recipe) == 1


def test_a_subjects_seeds_are_averaged_first_and_the_gain_is_paired(done: tuple[Benchmark, BenchmarkResult]) -> None:
    _, result = done

    def values(method: str, seed: int) -> dict[str, float]:
        rows = [row for row in result.scores if (row["method"], row["seed"], row["setting"]) == (method, seed, "full")]
        return {row["subject"]: row["psnr"] for row in rows}

    copy_last = values("copy-last", 0)
    by_model = [values("without attention", seed) for seed in (0, 1)]
    assert values("copy-last", 1) == {}  # copy-last is written only once
    assert by_model[0] != by_model[1]
    mean = {subject: (by_model[0][subject] + by_model[1][subject]) / 2 for subject in copy_last}
    place = [(row.setting, row.method) for row in result.rows].index(("full", "without attention"))
    row, by_seed = result.rows[place], result.by_seed[place]
    assert row.values["psnr"] == Summary.of(list(mean.values()))
    assert row.gains["psnr"].mean == pytest.approx(np.mean([mean[s] - copy_last[s] for s in copy_last]))
    assert by_seed["psnr"] == {seed: pytest.approx(np.mean(list(by_model[seed].values()))) for seed in (0, 1)}


def test_a_second_call_reuses_everything_and_prints_the_same(
    done: tuple[Benchmark, BenchmarkResult], manifest: Path
) -> None:
    benchmark, result = done
    before = write_times(benchmark.folder)
    again = bench(manifest, benchmark.folder, seeds=(0, 1))
    repeated = again.run(METRICS)
    assert write_times(benchmark.folder) == before
    text = result.table()
    assert repeated.table() == text
    assert repeated.scores[0].keys() == result.scores[0].keys()
    assert repeated.content == result.content
    json.dumps(result.content, allow_nan=False)
    assert max(map(len, text.splitlines())) <= WIDTH
    for word in ("setting single", "copy-last", "without attention", "psnr ↑", "NFE", "peak memory", "seeds 0, 1"):
        assert word in text


def test_another_protocol_is_scored_again_without_training(
    done: tuple[Benchmark, BenchmarkResult], manifest: Path
) -> None:
    benchmark, result = done
    before, folder = write_times(benchmark.folder), benchmark.folder
    other = bench(manifest, folder, rows=("linear",)).run(METRICS, scenarios=("full",), targets="all")
    assert other.protocol.hash != result.protocol.hash
    assert {row.setting for row in other.rows} == {"full"}
    assert len(other.scores) == 2 * 3 * 4  # two subjects, three visits, the row and three copies
    changed = {path for path, time in write_times(folder).items() if before[path] != time}
    assert {Path(path).parent.relative_to(folder).as_posix() for path in changed} == {"linear/seed-0/evaluation"}


def test_another_precision_is_scored_again_and_recorded(
    done: tuple[Benchmark, BenchmarkResult], manifest: Path
) -> None:
    benchmark, _ = done
    run = next(run.output for run in benchmark.runs if run.row.name == "without attention")
    weights = run.model / "model.safetensors"
    trained = weights.stat().st_mtime_ns
    for precision in ("bf16", "fp32"):
        again = bench(manifest, benchmark.folder, rows=("without attention",), precision=precision)
        again.run(METRICS, scenarios=("single",))
        recorded = json.loads((run.folder / "evaluation" / "summary.json").read_text())
        assert recorded["generation"]["precision"] == precision
    assert weights.stat().st_mtime_ns == trained


def test_scores_without_blurred_copies_are_computed_again(manifest: Path, tmp_path: Path) -> None:
    """Those of an earlier version, on the model's grid, whose hash is the same."""

    def run() -> BenchmarkResult:
        return bench(manifest, tmp_path, rows=("linear",)).run(METRICS, scenarios=("full",), space="model")

    result, path = run(), tmp_path / "linear" / "seed-0" / "evaluation" / "subjects.csv"
    written = path.read_text()
    path.write_text("".join(line for line in written.splitlines(keepends=True) if "blurred" not in line))
    assert run().rows == result.rows
    assert path.read_text() == written
    assert "on the model's grid" in result.table()


def test_features_of_a_set_metric_are_cached_with_the_scores(manifest: Path, tmp_path: Path) -> None:
    metrics = load_metrics(["fid", "psnr"])
    first = bench(manifest, tmp_path, rows=("linear",), seeds=(0, 1))
    result = first.run(metrics, scenarios=("full",), targets="all")
    before = write_times(tmp_path)
    again = bench(manifest, tmp_path, rows=("linear",), seeds=(0, 1)).run(metrics, scenarios=("full",), targets="all")
    assert write_times(tmp_path) == before
    copy_last, *_, linear = result.rows
    assert [row.values["fid"] for row in again.rows] == [row.values["fid"] for row in result.rows]
    assert linear.visits == 6
    assert linear.values["fid"].mean > 0
    # The row is deterministic, so both seeds have equal sets and values; pooling both sets would give another value.
    assert result.by_seed[-1]["fid"] == {0: linear.values["fid"].mean, 1: linear.values["fid"].mean}
    assert linear.gains["fid"].mean == pytest.approx(linear.values["fid"].mean - copy_last.values["fid"].mean)


class KilledError(Exception):
    pass


def stopping(at: int, error: type[BaseException]) -> Callable[[str], Any]:
    """Return a progress bar that raises an error at a training step."""

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
    one, two = (load_file(item.runs[0].output.model / "model.safetensors") for item in (whole, resumed))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
    assert result.costs[0]["training_seconds"] > spent > 0
    # After `longigen train`, or a kill before the model was exported, it is not trained again, but exported.
    (folder / "cost.json").unlink()
    (folder / "model" / "config.json").unlink()
    log = (folder / "metrics.jsonl").read_bytes()
    cost = bench(manifest, tmp_path / "broken", rows=(ONE,), steps=4).run(METRICS, scenarios=("full",)).costs[0]
    assert (folder / "metrics.jsonl").read_bytes() == log
    assert (cost["training_seconds"], cost["steps"]) == (None, 4)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ((), {"steps": 3}, r"seed-0 was trained with training\.steps = 2, which is now 3; use the same value"),
        (("denoiser.width=16",), {}, r"without-attention/seed-0 was trained with denoiser\.width = 8, which is now 16"),
        (("split.test=0.4",), {}, r"was trained with split\.test = 0\.2, which is now 0\.4"),
        (("widht=3",), {}, r"widht: there is no parameter of that name\. Did you mean 'width'"),
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
    folder = done[0].folder
    before = write_times(folder)
    with pytest.raises(LongigenError, match=message):
        bench(manifest, folder, *changes, **options)
    assert write_times(folder) == before


def test_rows_that_cannot_be_compared(manifest: Path, tmp_path: Path) -> None:
    table = BenchmarkSpec.of("sadm-ablation")
    for change, named in (("split.test=0.4", r"split\.test \(0\.2 and 0\.4\)"), ("training.batch_size=4", "batch_siz")):
        odd = replace(table, rows=(table.rows[0], replace(table.only(["sadm"])[0], changes=[change])))
        with pytest.raises(LongigenError, match=rf"'linear' and 'sadm' differ in .*{named}"):
            bench(manifest, tmp_path / "out", table=odd, rows=())
    with pytest.raises(LongigenError, match="no test subjects to score"):
        bench(manifest, tmp_path / "out", "split.test=0", rows=("linear",))


def test_changed_data_at_the_same_path_are_refused(manifest: Path, tmp_path: Path) -> None:
    table = tmp_path / "visits.csv"
    lines = manifest.read_text().replace(",s", f",{manifest.parent}/s")
    table.write_text(lines)
    bench(table, tmp_path / "out", rows=("linear",)).run(METRICS, scenarios=("full",))
    table.write_text(lines.replace(",1.10,", ",1.20,"))  # the same subjects at other times
    with pytest.raises(LongigenError, match="was trained when 'csv' held other subjects, visits or images"):
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
    assert [row["method"] for row in content["rows"]] == [*COPIES, "linear"]
    assert content["seeds"] == [0, 1]
    assert content["methods"]["linear"]["components"]["conditioner"] == "linear"
    with (tmp_path / "subjects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "target: last, in the subjects' own space; protocol" in result.stdout
    assert [(row["method"], row["seed"]) for row in rows] == [(name, "0") for name in (*COPIES, "linear")] * 2 + [
        ("linear", "1")
    ] * 2
    refused = longigen(*arguments, "--steps", 3, status=2)
    assert refused.stderr.splitlines()[-1].startswith("longigen: ")
    assert "training.steps = 200, which is now 3" in refused.stderr


def test_folds_score_each_subject_once_by_models_that_never_saw_it(manifest: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"rows": ("linear", "without attention"), "steps": 1, "folds": 2}
    benchmark = bench(manifest, tmp_path / "out", **options)
    result = benchmark.run(METRICS, scenarios=("full",))
    result.save(tmp_path / "out")
    everyone = {f"s{number}" for number in range(8)}
    tested: dict[str, int] = {}
    for fold in (0, 1):
        for row in ("linear", "without-attention"):
            parts = json.loads((tmp_path / "out" / row / f"fold-{fold}" / "seed-0" / "run.json").read_text())["split"]
            assert set(parts["train"]) | set(parts["validation"]) == everyone - set(parts["test"])
            tested |= dict.fromkeys(parts["test"], fold)
    assert tested.keys() == everyone
    for method in (*COPIES, "linear", "without attention"):
        scored = [row for row in result.scores if row["method"] == method]
        assert {row["subject"]: row["fold"] for row in scored} == tested
        assert len(scored) == 8
    for row, folds in zip(result.rows, result.by_fold, strict=True):
        values = {s["subject"]: s["psnr"] for s in result.scores if s["method"] == row.method}
        assert row.values["psnr"] == Summary.of(list(values.values()))  # the interval is over all subjects
        averages = [np.mean([values[name] for name, of in tested.items() if of == fold]) for fold in (0, 1)]
        assert folds["psnr"] == {0: pytest.approx(averages[0]), 1: pytest.approx(averages[1])}
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert (content["folds"], content["protocol"]["part"], content["protocol"]["subjects"]) == (
        2, "test parts of 2 folds", 8,
    )  # fmt: skip
    assert content["rows"][-1]["by_fold"]["psnr"].keys() == {"0", "1"}
    text = result.table()
    assert "csv: 8 subjects in 2 folds, each scored by models that were not trained on it, target: last" in text
    assert "means over subjects, n = 8 [95 % t interval" in text
    assert "by fold, setting full" in text
    again = bench(manifest, tmp_path / "out", **options)
    assert all(run.finished for run in again.runs)
    alone = bench(manifest, tmp_path / "alone", "split.folds=2", "split.fold=1", rows=("linear",))
    one = alone.run(METRICS, scenarios=("full",))
    assert one.rows[-1].values["psnr"].mean == pytest.approx(content["rows"][-2]["by_fold"]["psnr"]["1"])
    assert one.protocol.hash != result.protocol.hash
    assert set(again.generate(result.protocol, "full", subjects=1)) == {
        "linear",
        "without attention",
    }  # of the first fold


def test_folds_that_a_table_cannot_have(manifest: Path, tmp_path: Path) -> None:
    for change in ("fold=1", "split.folds=3"):
        with pytest.raises(LongigenError, match=f"--folds 2 trains and tests every fold, so --set {change} cannot"):
            bench(manifest, tmp_path, change, rows=("linear",), folds=2)
    with pytest.raises(LongigenError, match="has 8 subjects, too few for 9 folds"):
        bench(manifest, tmp_path / "out", rows=("linear",), folds=9)
    with pytest.raises(LongigenError, match="--folds must be a whole number of at least 2, got 1"):
        longigen.bench("sadm-ablation", tmp_path, folds=1)


def test_a_subject_in_two_folds_under_two_ids_is_refused(manifest: Path, tmp_path: Path) -> None:
    """Also if both are trained on in the first fold: in another one a test subject is trained on."""
    table = tmp_path / "visits.csv"
    lines = manifest.read_text().replace(",s", f",{manifest.parent}/s").splitlines()
    table.write_text("\n".join([*lines, *(f"copy{line[2:]}" for line in lines if line.startswith("s0,"))]) + "\n")
    with pytest.raises(LongigenError, match=r"copy.*s0|s0.*copy"):
        bench(table, tmp_path / "out", rows=("linear",), folds=9)


def test_the_folder_of_a_row_is_named_after_it() -> None:
    assert BenchmarkRow("SADM, w = 0.1", "r", {}, []).folder == "sadm-w-0-1"


def test_scores_of_other_images_are_taken_again(manifest: Path, tmp_path: Path) -> None:
    data, rows = tmp_path / "data", ("linear",)
    shutil.copytree(manifest.parent, data)
    first = bench(data / manifest.name, tmp_path / "bench", rows=rows)
    before = first.run(METRICS, scenarios=["full"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", LongigenWarning)
        again = bench(data / manifest.name, tmp_path / "bench", rows=rows).run(METRICS, scenarios=["full"])
    assert again.content == before.content
    tested, trained = (first.cohort.split.ids[part][0] for part in ("test", "train"))
    draw = np.random.default_rng(0)

    def spoil(subject: str) -> None:
        path = data / f"{subject}_3.nii.gz"
        noise = draw.uniform(0, 900, (13, 12, 10)).astype(np.float32)
        write_image(path, noise, nibabel.load(path).affine)  # type: ignore[attr-defined]

    spoil(tested)
    with pytest.warns(
        LongigenWarning, match="taken of other images of these subjects, so the visits are generated and"
    ):
        after = bench(data / manifest.name, tmp_path / "bench", rows=rows).run(METRICS, scenarios=["full"])
    assert after.protocol.hash != before.protocol.hash
    psnr = [
        next(row for row in result.rows if row.method == "linear").values["psnr"].mean for result in (before, after)
    ]
    assert psnr[1] < psnr[0] - 1
    spoil(trained)
    with pytest.raises(LongigenError, match="was trained when 'csv' held other subjects, visits or images"):
        bench(data / manifest.name, tmp_path / "bench", rows=rows)
