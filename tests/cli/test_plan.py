"""``longigen plan`` and ``longigen train --dry-run`` as processes."""

import json
from pathlib import Path

import pytest

from helpers.processes import Longigen
from helpers.trainings import SMALL

CHANGES = [change for change in SMALL if not change.startswith("conditioner.")]
OPTIONS = ["--conditioner", "source", *(word for change in CHANGES for word in ("--set", change))]


@pytest.mark.slow
def test_plan_prints_json(longigen: Longigen, manifest: Path) -> None:
    words = ["plan", "sadm-tiny", "--data", manifest, *OPTIONS, "--device", "NVIDIA H200"]
    found = json.loads(longigen(*words, "--json").stdout)
    assert (found["grid"], found["visits"], found["fits"]) == ([13, 12, 10], 4, True)
    assert found["device"]["name"] == "NVIDIA H200"
    assert found["disk"]["cache"] == 8 * 4 * 4 * 13 * 12 * 10


def test_a_dry_run_does_all_but_train(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    words = ["train", "--data", manifest, *OPTIONS, "--steps", 2, "--out", tmp_path / "run", "--dry-run"]
    said = longigen(*words)
    assert "subjects for training" in said.stderr
    assert "measured peak" in said.stdout
    assert "loading" in said.stdout
    assert not (tmp_path / "run").exists()
    refused = longigen("train", "--resume", "--out", tmp_path, "--dry-run", status=2)
    assert "--dry-run is for a new training" in refused.stderr
    refused = longigen("plan", "sadm-tiny", "--device", "A100", status=2)
    assert refused.stderr.count("\n") == 1
    assert "is several devices" in refused.stderr
