"""What is printed fits into 80 columns: no line is longer, no word is broken or cut off; pipes are not broken."""

import os
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.files import ball, write_image
from longigen import LongigenError
from longigen_cli import console
from longigen_cli.main import app

NARROW = CliRunner(env={"COLUMNS": "80"})
PIPE = CliRunner(env={"COLUMNS": None})
COMMANDS = [command.name for command in app.registered_commands if command.name]


def lines_of(runner: CliRunner, *arguments: str, status: int = 0) -> list[str]:
    result = runner.invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    lines = lines_of(NARROW, *([command] if command else []), "--help")
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    assert not [line for line in lines if line.count("<") != line.count(">")]  # a type that is broken in two


def test_list_and_info() -> None:
    narrow, wide = lines_of(NARROW, "list"), lines_of(PIPE, "list")
    assert max(map(len, narrow)) <= 80
    assert not [line for line in narrow if "…" in line]
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(wide).split())
    entries = [line for line in wide if line.startswith(("sadm-tiny ", "sim-brain ", "psnr ", "unet3d "))]
    assert len(entries) == 4
    assert all(line.endswith(")") for line in entries)  # with the distribution, the last of an entry
    for name in ("sadm", "sadm-sim-brain", "sadm-tiny"):
        assert max(map(len, lines_of(NARROW, "info", name))) <= 80
        assert len(lines_of(PIPE, "info", name)) <= len(lines_of(NARROW, "info", name))


def test_doctor(tmp_path: Path) -> None:
    folder = tmp_path / ("a-folder-with-a-long-name-" * 3)
    rows = ["subject,time,path"]
    for subject in range(2):
        for visit in range(2):
            name = f"subject-{subject}-of-the-second-hospital_visit-{visit}_T1w.nii"
            write_image(folder / name, ball((8, 8, 8), 0.5 + 0.1 * subject))
            rows.append(f"subject-{subject}-of-the-second-hospital,{visit},{name}")
    damaged = folder / rows[1].split(",")[2]
    damaged.write_bytes(damaged.read_bytes()[:500])
    table = folder / "visits.csv"
    table.write_text("\n".join(rows))
    narrow, wide = lines_of(NARROW, "doctor", str(table), status=1), lines_of(PIPE, "doctor", str(table), status=1)
    assert max(map(len, narrow)) <= 80
    assert "error    truncated  subject-0-of-the-second-hospital: visits.csv, line 2:" in narrow
    assert [line.split() for line in narrow if damaged.name in line] == [[damaged.name]]
    assert "         → copy it again or remove it" in narrow
    assert f"error    truncated  subject-0-of-the-second-hospital: visits.csv, line 2: {damaged.name}" in wide
    assert " ".join(" ".join(narrow[:-1]).split()) == " ".join(" ".join(wide[:-1]).split())


def test_pull() -> None:
    narrow, wide = lines_of(NARROW, "pull", "sadm-sim-brain"), lines_of(PIPE, "pull", "sadm-sim-brain")
    assert max(map(len, narrow[:-2])) <= 80
    assert narrow[-2:] == wide[1:]  # a path and a command to copy
    assert " ".join(narrow[:-2]) == wide[0]


def test_a_name_longer_than_a_line_stays_whole() -> None:
    name = f"hf-hub:organisation/a-repository-of-a-model@{'0123456789' * 4}"
    lines = console.beside(name, ["what it is " * 12], 12, 80)
    assert lines[0] == name
    assert max(map(len, lines[1:])) <= 80
    assert all(line.startswith(" " * 12 + "what") or line.strip() for line in lines[1:])
    assert console.beside("short", ["a b", "c"], 12, None) == ["short       a b", "            c"]


def test_messages_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = "/data/" + "folder/" * 12 + "visits.csv"
    command = "longigen doctor /data/visits.csv"
    error = LongigenError(f"{path} has no column 'time' and no row that can be used; correct it, and see '{command}'.")
    shown, written = os.openpty()
    with os.fdopen(written, "w") as stream, redirect_stderr(stream):
        console.say(f"longigen: {error}")
        console.say(f"next: longigen evaluate {path} --out {path}")
        console.say("the end")
        content = b""
        while not content.endswith(b"the end\r\n"):  # a terminal gives it in pieces
            content += os.read(shown, 5000)
    *lines, _ = content.decode().splitlines()
    os.close(shown)
    assert lines[-1] == f"next: longigen evaluate {path} --out {path}"
    assert path in lines
    assert any(f"'{command}'" in line for line in lines)
    assert max(len(line) for line in lines[:-1] if line != path) <= 80
    assert " ".join(lines[:-1]) == f"longigen: {error}"


def test_messages_to_a_file_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a word " * 50)
    assert capsys.readouterr().err == "a word " * 50 + "\n"


def test_a_path_whose_spaces_are_not_quoted_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "my visits of 2019.csv"
    path.touch()
    with pytest.raises(LongigenError) as caught:
        console.require_quoted(["train", "--data", *str(path).split(" "), "--out", "runs"])
    assert str(caught.value) == f"'{path}' was given as 4 words, since it has spaces; write '{path}'."
    refused = CliRunner().invoke(app, ["train", "--data", *str(path).split(" ")])
    assert str(refused.exception) == str(caught.value)
    console.require_quoted(["train", "--data", str(path), "--out", "runs"])
    refused = CliRunner().invoke(app, ["train", str(path)])
    assert str(refused.exception).endswith(f"without the name of an option; data are given as --data '{path}'.")
