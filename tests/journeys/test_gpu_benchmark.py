"""The benchmark for a GPU, rehearsed at small sizes on a CPU."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

from helpers import commandline
from helpers.files import ROOT


def test_a_rehearsal_writes_every_table_and_a_scored_model(tmp_path: Path) -> None:
    words = ["--tiny", "--minutes", "0.05", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    status, _, stderr = commandline.run(words, tmp_path, environment, timeout=600, module="gpu")
    assert status == 0, stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["failures"] == {}
    tables = results["tables"]
    assert all(len(row) == len(table["columns"]) for table in tables for row in table["rows"])
    assert "unet3d" in tables[0]["rows"][0]
    assert {row[1] for row in tables[-1]["rows"]} >= {"copy-last", "sadm"}
    assert (tmp_path / "out" / "bench" / "sadm" / "seed-0" / "model" / "model.safetensors").exists()


def test_a_part_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    report = gpu.Report(tmp_path, torch.device("cpu"), minutes=1)

    def fails() -> None:
        raise ValueError("no such kernel\nand more")

    report.measure("first", fails)
    report.measure("second", lambda: gpu.Table("Second", ["a"], [["1"]]))
    page = (tmp_path / "results.md").read_text()
    assert "## Second" in page
    assert "## Failed: first\n\nValueError: no such kernel\n" in page
    assert json.loads((tmp_path / "results.json").read_text())["failures"] == {"first": "ValueError: no such kernel"}
    printed = capsys.readouterr()
    assert "second …" in printed.out
    assert "Traceback" in printed.err
