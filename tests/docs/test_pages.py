"""The documentation: its Python runs and prints what the pages say, its commands exist, the first page runs whole."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from helpers.files import ROOT
from longigen_cli.main import app

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("CONTRIBUTING*.md")), *sorted((ROOT / "docs").glob("*.md"))]
MARK = "--- end of block ---"
PYTHON = re.compile(r"```python\n(.*?)```\n(?:\n((?:    [^\n]*\n|\n)+))?", re.DOTALL)
NUMBER = re.compile(r"[0-9a-f]{12}|[+-]?\d+(?:\.\d+)?")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `longigen` of each command line in the blocks of a page, lines joined."""
    console, lines = False, iter(text.splitlines())
    for line in lines:
        if line.startswith("```"):
            console = line == "```console"
        if not (console or line.startswith("    ")) or not line.strip().startswith("longigen "):
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines)
        yield shlex.split(line.partition(" > ")[0], comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_exist(page: Path) -> None:
    """Each is parsed with its options and their types, as the command line does before it starts to work."""
    group = typer.main.get_command(app)
    for words in commands(page.read_text("utf-8")):
        if {"...", "…"} & {*words}:
            continue
        with group.make_context("longigen", list(words)) as context:
            name, command, rest = group.resolve_command(context, list(words))  # type: ignore[attr-defined]
            with command.make_context(name, rest, parent=context):
                pass


def test_every_page_has_its_commands_found() -> None:
    """The search of the test above finds what is there."""
    found = {page.name: len(list(commands(page.read_text("utf-8")))) for page in PAGES}
    assert found["command-line.md"] >= 30
    assert found["index.md"] == 10
    assert sum(found.values()) >= 140


@pytest.mark.docs
@pytest.mark.parametrize("page", ["python.md", "index.md", "plugin.md"])
def test_python_of_the_pages_runs(page: str, tmp_path: Path) -> None:
    """Blocks run one after the other; what is printed has the words of the page, whose digits depend on the machine."""
    blocks = PYTHON.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert blocks
    script = "\n".join(f"{code}\nprint({MARK!r})" for code, _ in blocks)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for (code, expected), printed in zip(blocks, done.stdout.split(f"{MARK}\n"), strict=False):
        if expected.strip():
            said = [line.strip() for line in expected.strip().splitlines()]
            assert words("\n".join(said)) == words("\n".join(line.strip() for line in printed.strip().splitlines())), (
                code
            )


def words(text: str) -> list[str]:
    """Return a text without its numbers and drawn lines, in words."""
    return NUMBER.sub("0", text.replace("─", "")).split()


@pytest.mark.docs
def test_the_first_page_runs_whole(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"```console\n(longigen list models\n.*?)```", (ROOT / "docs" / "index.md").read_text("utf-8"), re.DOTALL
    )
    for line in block.splitlines():
        words = [sys.executable, "-m", "longigen_cli", *shlex.split(line)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900, env={**os.environ})
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "made.html").stat().st_size > 100_000
    assert (tmp_path / "runs" / "first" / "report.html").stat().st_size > 100_000
