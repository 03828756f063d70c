"""The processes of a command: who they are, and errors that all of them end with."""

import re
from pathlib import Path

import pytest

from helpers.launch import scripts, together
from longigen import LongigenError
from longigen.utils.processes import agreeing, divided, gathered, is_first, launched, processes, says_first

VARIABLES = ("WORLD_SIZE", "RANK", "ACCELERATE_MIXED_PRECISION", "MASTER_ADDR")


def test_one_process_is_all() -> None:
    assert (launched(), is_first(), processes().num_processes) == (1, True, 1)
    assert gathered(["a"]) == ["a"]
    assert divided(lambda part: [2 * item for item in part], [1, 2, 3]) == [2, 4, 6]
    assert says_first("a sentence")
    with pytest.raises(LongigenError, match="no such thing"), agreeing():
        raise LongigenError("no such thing")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, "'accelerate launch' was asked for several"),
        ({"WORLD_SIZE": "2"}, r"there are 2 processes \(WORLD_SIZE\) and that this one has the number None"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "this one has the number 2"),
        ({"WORLD_SIZE": "two", "RANK": "0"}, "there are two processes"),
    ],
)
def test_launchers_that_cannot_be_believed(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LongigenError, match=message):
        launched()


def test_another_number_than_the_launcher_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    processes()  # as a script may have made the state before
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LongigenError, match="started 2 processes and 1 found each other"):
        processes()


def test_an_error_of_one_process_ends_all_and_is_said_once(manifest: Path, tmp_path: Path) -> None:
    """The second process reads the damaged file."""
    bad = tmp_path / "bad.csv"
    bad.write_text(re.sub(r"s1_2\.nii\.gz", "cut.nii.gz", manifest.read_text()))
    for path in manifest.parent.glob("*.nii.gz"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cut.nii.gz").write_bytes((manifest.parent / "s1_2.nii.gz").read_bytes()[:-200])
    printed = together(2, "train", "--data", bad, "--out", tmp_path / "run", folder=tmp_path, status=2)
    lines = [line for line in printed.splitlines() if line.startswith("longigen:")]
    assert len(lines) == 1, printed
    assert "cut.nii.gz" in lines[0]
    assert "run 'longigen doctor" in lines[0]
    assert "Traceback" not in printed


SECOND_IS_LATE = """
import time
from longigen import LongigenError
from longigen.utils.processes import agreeing, failing, is_first, processes

processes()
try:
    with agreeing():
        raise LongigenError("wrong here")
except LongigenError as error:
    time.sleep(0 if is_first() else 1)
    with failing(alike=error.raised_by_all) as says:
        if says:
            print(error)
"""


def test_what_all_raise_is_said_once_though_one_is_late(tmp_path: Path) -> None:
    """The first process keeps what they tell each other, so it may not end before the second one has asked."""
    done = scripts(2, SECOND_IS_LATE, folder=tmp_path)
    assert [code for code, _, _ in done] == [0, 0], done
    assert "".join(printed for _, printed, _ in done) == "wrong here\n", done


def test_wrong_words_are_said_once(tmp_path: Path) -> None:
    printed = together(2, "train", "--steps", "many", folder=tmp_path, status=2)
    assert printed.count("Usage: ") == printed.count("Invalid value for '--steps'") == 1, printed
