"""The benchmark of what ``longigen plan`` predicts, rehearsed at small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.files import ROOT


@pytest.mark.slow  # each row is a process of its own
def test_a_rehearsal_compares_predictions_with_measurements(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "plan.py"), "--tiny", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ((title, rows),) = json.loads((tmp_path / "results.json").read_text())["tables"].items()
    assert title.startswith("Predicted and measured on ")
    assert {row["work"] for row in rows} == {"training", "generation"}
    assert all(row["measured peak, MB"] > 0 and row["predicted peak, MB"] > 0 for row in rows)
    assert "Memory: " in (tmp_path / "results.md").read_text()
