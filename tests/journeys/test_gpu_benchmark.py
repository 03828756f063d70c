"""The benchmark for a GPU, rehearsed at small sizes on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.files import ROOT


@pytest.mark.slow  # it trains too, half a minute of a core
def test_a_rehearsal_writes_every_table_and_a_scored_model(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--minutes", "0.05", "--out"]
    result = subprocess.run([*command, str(tmp_path / "out")], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    tables = json.loads((tmp_path / "out" / "results.json").read_text())["tables"]
    assert all(len(row) == len(table["columns"]) for table in tables for row in table["rows"])
    assert "unet3d" in tables[0]["rows"][0]
    assert {row[1] for row in tables[-1]["rows"]} >= {"copy-last", "sadm"}
    assert (tmp_path / "out" / "bench" / "sadm" / "seed-0" / "model" / "model.safetensors").exists()
