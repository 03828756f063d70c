"""The folder of a run: created once, locked, its log rewound, its oldest checkpoints removed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longigen import LongigenError, LongigenWarning, Run


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


def test_after_an_earlier_checkpoint_later_ones_are_removed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    for step in (3, 6, 4):
        part, final = run.checkpoint(step)
        part.mkdir(parents=True)
        run.finish_checkpoint(part, final)
    assert [path.name for path in run.checkpoints()] == ["step-0000003", "step-0000004"]


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step-0000001", "step-old1", "step-0000002.part", "step-", "other"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in Run(tmp_path).checkpoints()] == ["step-0000001"]


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.metrics.write_bytes(
        b'{"step": 1}\n\xff\xfe\n{"step": [2]}\n' + b"[" * 100_000 + b'\n{"loss": 3}\n{"step": 4}\n{"st'
    )
    with pytest.warns(LongigenWarning, match=r"4 of the 7 lines of .*metrics\.jsonl are damaged"):
        run.rewind(9)
    assert run.metrics.read_text() == '{"step": 1}\n{"step": 4}\n'
    run.metrics.unlink()
    run.metrics.mkdir()
    with pytest.raises(LongigenError, match=r"metrics\.jsonl cannot be read"):
        run.rewind(9)


SPLIT = {"train": ["a"], "validation": [], "test": ["b"]}
RECIPE = {"training": {"steps": 3}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b'{"recipe": {"training"',
        b"[" * 100_000,
        b"[]",
        b"{}",
        json.dumps({"recipe": [], "split": SPLIT}).encode(),
        json.dumps({"recipe": {"training": 3}, "split": SPLIT}).encode(),
        json.dumps({"recipe": {"training": {}}, "split": SPLIT}).encode(),
        json.dumps({"recipe": {"training": {"steps": "3"}}, "split": SPLIT}).encode(),
        json.dumps({"recipe": RECIPE, "split": {**SPLIT, "test": "b"}}).encode(),
        json.dumps({"recipe": RECIPE, "split": {"train": ["a"]}}).encode(),
        json.dumps({"recipe": RECIPE, "split": {**SPLIT, "test": [1]}}).encode(),
        json.dumps({"recipe": RECIPE, "split": SPLIT, "origin": []}).encode(),
        json.dumps({"recipe": RECIPE, "split": SPLIT, "schedule": [3]}).encode(),
    ],
    ids=range(15),
)
def test_a_damaged_run_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(LongigenError, match=r"run\.json"):
        Run.open(tmp_path).read()
    (tmp_path / "run.json").write_text(json.dumps({"recipe": RECIPE, "split": SPLIT, "origin": {}}))
    assert Run.open(tmp_path).read()["split"] == SPLIT


def test_one_process_trains_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    hold = "import sys; from longigen import Run; from pathlib import Path\n"
    hold += "with Run(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, run.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LongigenError, match="Another process is training the run"), run.locked():
            pass
        other.kill()
    with run.locked():  # a killed process holds nothing
        Run.create(run.folder)  # and its lock does not make a folder a used one
