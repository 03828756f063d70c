"""Tests of longigen.utils.files: atomic writes, and errors as one sentence."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longigen import BadData, LongigenError, Run, Subject, info, load, open_dataset, read_sidecar
from longigen.utils.files import atomic, read_json, reason, writable_folder, write_errors, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_json_creates_folders_and_uses_default_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "v.json"
    write_json({"a": [1, None], "β": "γ"}, path)
    assert read_json(path) == {"a": [1, None], "β": "γ"}
    assert names(path.parent) == ["v.json"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("name", "extension"), [("v.nii.gz", ".nii.gz"), ("v.json", ".json"), ("v", "")])
def test_atomic_temporary_file_has_same_folder_and_extension(tmp_path: Path, name: str, extension: str) -> None:
    with atomic(tmp_path / name) as part:
        assert part.parent == tmp_path
        assert part.name.endswith(extension)
        assert part.name != name
        part.write_text("new")
        assert not (tmp_path / name).exists()
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_exception_keeps_old_file(tmp_path: Path, failure: BaseException) -> None:
    (tmp_path / "v.txt").write_text("old")

    def write() -> None:
        with atomic(tmp_path / "v.txt") as part:
            part.write_text("half of the n")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert (tmp_path / "v.txt").read_text() == "old"
    assert names(tmp_path) == ["v.txt"]


def test_value_not_allowed_in_json_keeps_old_file(tmp_path: Path) -> None:
    write_json({"a": 1}, tmp_path / "v.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "v.json")
    assert read_json(tmp_path / "v.json") == {"a": 1}
    assert names(tmp_path) == ["v.json"]


def test_error_names_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/longigen")):
        with pytest.raises(
            LongigenError, match=rf"{folder}.* cannot be written \(.+\); choose another output folder\."
        ):
            writable_folder(folder)
        with pytest.raises(LongigenError, match=rf"{folder}/v\.json cannot be written \(.+\)"):
            write_json({}, folder / "v.json")
    assert names(tmp_path) == ["file"]


def test_folder_at_path_of_file(tmp_path: Path) -> None:
    (tmp_path / "v.json").mkdir()
    with pytest.raises(LongigenError, match=r"v\.json cannot be written"):
        write_json({}, tmp_path / "v.json")
    assert names(tmp_path) == ["v.json"]


def test_writable_folder_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("the user's own")
    writable_folder(tmp_path)
    assert names(tmp_path) == ["probe"]
    assert (tmp_path / "probe").read_text() == "the user's own"
    writable_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


@pytest.mark.skipif(sys.platform != "linux", reason="simulates a full disk by a limit on file size")
@pytest.mark.parametrize("call", ["writable_folder(path)", "write_json({'a': 1}, path / 'v.json')"])
def test_full_disk_keeps_old_file(tmp_path: Path, call: str) -> None:
    import resource

    (tmp_path / "v.json").write_text("old")
    code = f"from pathlib import Path; from longigen.utils.files import *; path = Path({str(tmp_path)!r}); {call}"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4)),
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"longigen.errors.LongigenError: {tmp_path}")
    assert last.endswith("cannot be written (File too large); choose another output folder.")
    assert names(tmp_path) == ["v.json"]
    assert (tmp_path / "v.json").read_text() == "old"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"v\.json cannot be read \(Expecting property name"),
        (b"\xff{}", r"v\.json cannot be read \("),
        (b"[1]", r"v\.json is not a JSON object\."),
        (None, r"v\.json cannot be read \(No such file or directory\)\."),
    ],
)
def test_read_json_of_invalid_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(LongigenError, match=message):
        read_json(tmp_path / "v.json")


def test_write_errors_translates_only_os_errors() -> None:
    with (
        pytest.raises(LongigenError, match=r"out cannot be written \(No space left on device\)"),
        write_errors(Path("out")),
    ):
        raise OSError(28, os.strerror(28))
    with pytest.raises(ZeroDivisionError), write_errors(Path("out")):
        raise ZeroDivisionError


def test_reason_is_one_short_line() -> None:
    assert reason(OSError(2, "No such file or directory", "a/b")) == "No such file or directory"
    assert reason(ValueError("first.\nsecond")) == "first"
    assert reason(EOFError()) == "EOFError"
    assert len(reason(ValueError(json.dumps(["x"] * 500)))) == 160


@pytest.mark.parametrize(
    "use", [open_dataset, load, info, Run.open, Run.create, lambda path: Subject.from_files([path], [0.0])]
)
def test_a_path_that_is_too_long_is_a_sentence(use: Callable[[Any], object]) -> None:
    with pytest.raises(LongigenError, match="File name too long"):
        use(f"/tmp/{'x' * 5000}" if use in (load, info) else Path("/tmp", "x" * 5000))  # noqa: S108


def test_the_home_of_nobody_is_an_unknown_path() -> None:
    with pytest.raises(LongigenError, match="There is no model at ~nobody-here/x"):
        load("~nobody-here/x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "it has two values of 'a'"),
        ('{"b": {"a": [1], "a": [2]}}', "it has two values of 'a'"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": [1e999]}', "1e999 is not a finite number"),
        ('{"a": -Infinity}', "-Infinity is not a finite number"),
    ],
)
def test_json_that_says_two_things_or_no_number_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LongigenError, match=problem):
        read_json(tmp_path / "a.json")


def test_equal_values_of_a_key_and_nan_of_other_programs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_sidecar(path) == {}
    path.write_text('\ufeff{"a": 1, "a": 1, "b": Infinity}')
    assert read_sidecar(path) == {"a": 1, "b": math.inf}
    path.write_text('{"a": 1, "a": 2}')
    with pytest.raises(BadData, match=r"a.json \(subject s\) cannot be read as JSON \(it has two values of 'a'\)"):
        read_sidecar(path, "s")
