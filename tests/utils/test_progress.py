"""Tests of progress as lines of text, without a terminal or notebook."""

import re

import pytest

from longigen.utils.progress import progress, silent, transfer


def test_one_line_per_ten_per_cent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training") as update:
        for done in range(1, 101):
            update(done, 100, f"loss {done}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert re.fullmatch(r"training 1/100  [\d.]+/s  \d+ s left  loss 1", lines[0])
    assert re.fullmatch(r"training 100/100  [\d.]+/s  0 s left  loss 100", lines[-1])


def test_rate_ignores_bytes_of_an_earlier_download(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer("pulling") as update:
        update(900, 1000, "model.safetensors")
        update(1000, 1000, "model.safetensors")
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("pulling 900 bytes of 1.0 kB  0 bytes/s")
    assert last.startswith("pulling 1.0 kB of 1.0 kB")


def test_silent_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with silent("training") as update:
        update(1, 2, "loss")
    assert capsys.readouterr().err == ""
