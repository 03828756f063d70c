"""Evaluation in several processes."""

from pathlib import Path

from helpers.launch import together
from helpers.models import FIXTURE
from helpers.processes import Longigen


def test_two_processes_give_the_scores_of_one(longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    chosen = ["--setting", "single", "--targets", "all", "--metric", "psnr", "--batch-size", 3, "--samples", 2]
    words = ["evaluate", FIXTURE, "--data", manifest, *chosen, "--out"]
    longigen(*words, tmp_path / "one")
    printed = together(2, *words, tmp_path / "two", folder=tmp_path)
    assert printed.count("2 processes share the subjects") == printed.count("Wrote table.txt") == 1, printed
    for name in ("subjects.csv", "summary.json", "metrics.json", "table.txt", "strip.png"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
