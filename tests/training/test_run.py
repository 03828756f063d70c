"""The folder of a run: created once, its log rewound, its oldest checkpoints removed."""

import json
from pathlib import Path

import pytest

from longigen import LongigenError, Run


def test_a_folder_with_content_is_not_overwritten(tmp_path: Path) -> None:
    assert Run.create(tmp_path / "new").folder.is_dir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("precious")
    with pytest.raises(LongigenError, match="is not empty"):
        Run.create(tmp_path / "used")
    with pytest.raises(LongigenError, match=r"run\.json"):
        Run.open(tmp_path / "used")
    assert (tmp_path / "used" / "thesis.txt").read_text() == "precious"


def test_lines_after_the_step_and_broken_lines_are_dropped(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    for step in (10, 20, 30):
        run.log({"step": step, "loss": 1 / step})
    with run.metrics.open("a") as file:
        file.write('{"step": 4')  # killed while writing
    run.rewind(20)
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [10, 20]


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    for step in (1, 2, 10):
        part, final = run.checkpoint(step)
        part.mkdir(parents=True)
        assert part not in run.checkpoints()
        run.finish_checkpoint(part, final)
    assert [path.name for path in run.checkpoints()] == ["step-0000002", "step-0000010"]
