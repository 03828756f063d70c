"""Tests of new-plugin: the packages it writes are installed, checked, tested, linted, type-checked and used."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import yaml

from helpers import commandline
from helpers.files import ROOT, ball, write_image
from helpers.processes import Longigen
from longigen import LongigenError
from longigen.registry.catalog import CATALOG_SECTIONS
from longigen.registry.new_plugin import MAX_NAME_LENGTH, TEMPLATES, PluginTemplate
from longigen.registry.registry import KINDS

GUIDE = (ROOT / "CONTRIBUTING-PLUGINS.md").read_text(encoding="utf-8")
LONG = "-".join(["a23456789"] * 3) + "-b"
assert len(LONG) == MAX_NAME_LENGTH - 1

USE = {
    "conditioner": ("train", "--conditioner"),
    "denoiser": ("train", "--denoiser"),
    "sampler": ("train", "--sampler"),
    "codec": ("train", "--codec"),
    "dataset": ("train", "--data"),
    "metric": ("evaluate", "RUN", "--metric"),
    "segmenter": ("evaluate", "RUN", "--segmenter"),
}


@pytest.fixture(scope="module")
def plugins(longigen: Longigen, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder that the command line wrote for each kind."""
    folder = tmp_path_factory.mktemp("plugins")
    for kind in KINDS:
        lines = longigen("new-plugin", f"my-{kind}", "--kind", kind, "--out", folder / kind).stdout.splitlines()
        assert [line.strip() for line in lines[1:]] == [
            f"pip install -e {folder / kind}",
            f"longigen check my-{kind}",
            " ".join(["longigen", *USE[kind], f"my-{kind}"]),
        ]
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def installed(plugins: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment variables of a process in which all of them are installed."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--target", str(site), *map(str, plugins.values())]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def run(module: str, *arguments: object, folder: Path, status: int = 0, **environment: str) -> tuple[str, str]:
    """Run a Python module in a folder and return what it prints to stdout and stderr; see `commandline.run`."""
    words = [str(argument) for argument in arguments]
    every = {**os.environ, **environment}
    found, *printed = commandline.run(words, folder, every, timeout=300, module=module)
    assert found == status, "".join(printed)
    return printed[0], printed[1]


def tool(*command: object, folder: Path, **environment: str) -> str:
    """Run a program that checks code in a folder and return its output; the exit status must be 0."""
    result = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_kind_has_a_template() -> None:
    assert tuple(TEMPLATES) == KINDS


def test_written_files(plugins: dict[str, Path]) -> None:
    folder = plugins["denoiser"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "pyproject.toml",
        "src/my_denoiser/__init__.py",
        "src/my_denoiser/denoiser.py",
        "src/my_denoiser/registry.yaml",
        "tests/test_my_denoiser.py",
    ]
    assert not list(folder.parent.glob(".part-*"))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "longigen-my-denoiser"
    assert project["entry-points"]["longigen.denoisers"] == {"my-denoiser": "my_denoiser:MyDenoiser"}


def test_plugins_are_listed(installed: dict[str, str], longigen: Longigen) -> None:
    result = longigen("list", "--json", **installed)
    assert "left out" not in result.stderr
    found = json.loads(result.stdout)
    for kind in KINDS:
        (row,) = [row for row in found[f"{kind}s"] if row["name"] == f"my-{kind}"]
        assert row["distribution"] == f"longigen-my-{kind} 0.1.0"
        assert row["summary"]
        assert "problem" not in row
    recipes = {row["name"] for row in found["recipes"]}
    assert recipes >= {f"my-{kind}-tiny" for kind in KINDS if TEMPLATES[kind].has_recipe}


@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_the_plugin_pass(kind: str, plugins: dict[str, Path], installed: dict[str, str]) -> None:
    """All tests of the plugin but the matrix of compositions, which takes half a minute."""
    output, _ = run("pytest", "-p", "no:cacheprovider", "-k", "not composes", folder=plugins[kind], **installed)
    passed = re.search(r"(\d+) passed", output)
    assert passed
    assert int(passed[1]) >= 7
    assert "failed" not in output


@pytest.mark.parametrize("kind", ["dataset", "metric"])
def test_check_command(kind: str, installed: dict[str, str], longigen: Longigen) -> None:
    assert_checked(longigen("check", f"my-{kind}", **installed).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conditioner", "denoiser", "sampler"])
def test_check_command_with_every_composition(kind: str, installed: dict[str, str], longigen: Longigen) -> None:
    assert_checked(longigen("check", f"my-{kind}", **installed).stdout)


def assert_checked(output: str) -> None:
    assert "FAIL" not in output
    match = re.search(r"(\d+) of (\d+) checks passed", output)
    assert match
    assert match[1] == match[2]


def test_model_of_all_plugins(installed: dict[str, str], longigen: Longigen, tmp_path: Path) -> None:
    """Conditioner, denoiser and sampler train together on the data set, and the metric scores what they generate."""
    run = tmp_path / "run"
    longigen(
        "train", "--recipe", "my-dataset-tiny", "--conditioner", "my-conditioner", "--denoiser", "my-denoiser",
        "--sampler", "my-sampler", "--steps", 2, "--set", "data.subject_count=10", "--set", "sampler.steps=2",
        "--set", "checkpoint_every=2", "--out", run, **installed,
    )  # fmt: skip
    scored = longigen("evaluate", run, "--setting", "full", "--metric", "my-metric", "--out", tmp_path / "scores",
                      **installed).stdout  # fmt: skip
    assert "my-metric ↓" in scored


def test_recipes_of_the_plugins(installed: dict[str, str], tmp_path: Path) -> None:
    """Their recipes are complete and have no unknown key."""
    code = "import sys; from longigen.training.recipe import Recipe; "
    code += "print(*[Recipe.resolve(name).names for name in sys.argv[1:]], sep='\\n')"
    (tmp_path / "resolve.py").write_text(code)
    kinds = [kind for kind in KINDS if TEMPLATES[kind].has_recipe]
    printed, _ = run("resolve", *(f"my-{kind}-tiny" for kind in kinds), folder=tmp_path, **installed)
    for kind, names in zip(kinds, printed.splitlines(), strict=True):
        assert ast.literal_eval(names)["data" if kind == "dataset" else kind] == f"my-{kind}"


@pytest.mark.parametrize("name", ["a", "my-model", LONG])
def test_ruff_reports_nothing(name: str, tmp_path: Path) -> None:
    """Also for the shortest and longest names: no line is too long, and the formatter changes nothing."""
    for kind in KINDS:
        PluginTemplate(name, kind).write(tmp_path / kind)
    tool("ruff", "check", "--no-cache", ".", folder=tmp_path)
    tool("ruff", "format", "--no-cache", "--check", ".", folder=tmp_path)


def test_pyright_reports_nothing(plugins: dict[str, Path]) -> None:
    """All plugins in one run, with the settings that each pyproject.toml has."""
    settings = [tomllib.loads((path / "pyproject.toml").read_text())["tool"]["pyright"] for path in plugins.values()]
    assert settings == [{"include": ["src", "tests"], "pythonVersion": "3.11"}] * len(KINDS)
    everything = {"include": [*KINDS], "extraPaths": [f"{kind}/src" for kind in KINDS], "pythonVersion": "3.11"}
    folder = plugins["denoiser"].parent
    (folder / "pyrightconfig.json").write_text(json.dumps(everything))
    report = json.loads(tool("pyright", "--pythonpath", sys.executable, "--outputjson", folder=folder))
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] == 3 * len(KINDS)


@pytest.mark.slow
def test_mypy_finds_nothing(plugins: dict[str, Path]) -> None:
    """All of them at once, as strict as it can be: most of the minute goes into reading torch."""
    folder = plugins["denoiser"].parent
    places = [f"{kind}/{place}" for kind in KINDS for place in (f"src/my_{kind}", "tests")]
    sources = os.pathsep.join(f"{kind}/src" for kind in KINDS)
    said = tool("mypy", "--strict", "--cache-dir", folder / "cache", *places, folder=folder, MYPYPATH=sources)
    assert said == f"Success: no issues found in {3 * len(KINDS)} source files\n"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("My-Denoiser", "denoiser", "has upper-case letters; write 'my-denoiser'"),
        ("3d-net", "denoiser", "begins with a digit"),
        ("my_denoiser", "denoiser", "single hyphens; write 'my-denoiser'"),
        ("my denoiser", "denoiser", "single hyphens; write 'my-denoiser'"),
        ("-my--denoiser", "denoiser", "single hyphens; write 'my-denoiser'"),
        ("../my-denoiser", "denoiser", "single hyphens; write 'my-denoiser'"),
        ("größe", "denoiser", "single hyphens"),
        ("", "denoiser", "choose one such as my-denoiser"),
        ("a" * (MAX_NAME_LENGTH + 1), "denoiser", f"choose a name of {MAX_NAME_LENGTH} or fewer"),
        ("lambda", "denoiser", "keyword of Python"),
        ("on", "denoiser", "is read as True in a registry.yaml"),
        ("longigen", "denoiser", "like the packages of longigen itself; choose another name"),
        ("longigen-mine", "denoiser", "write 'mine' \\(its distribution is named longigen-mine\\)"),
        ("sadm", "denoiser", r"longigen \S+ has a conditioner of that name \(longigen_sadm:SADMConditioner\)"),
        ("csv", "metric", "has a data set of that name"),
        ("sadm-tiny", "metric", "the registry.yaml of longigen has 'sadm-tiny' among its recipes"),
        ("dao", "denoiser", "the registry.yaml of longigen has 'dao-tiny' among its recipes"),
        ("numpy", "dataset", "numpy has a package 'numpy'"),
        ("statistics", "metric", "Python has a module 'statistics'"),
        ("mine", "denoisers", "There is no kind 'denoisers'. Did you mean 'denoiser'"),
    ],
)
def test_invalid_name_is_refused(name: str, kind: str, message: str) -> None:
    with pytest.raises(LongigenError, match=message) as caught:
        PluginTemplate(name, kind)
    assert "\n" not in str(caught.value)


def test_folder_with_the_name_of_a_component(tmp_path: Path) -> None:
    """`info NAME` describes the component, even if a folder NAME exists; without a component it is an error."""
    for name in ("sadm", "mine"):
        (tmp_path / name).mkdir()
    assert "longigen_sadm:SADMConditioner" in run("longigen_cli", "info", "sadm", folder=tmp_path)[0]
    assert run("longigen_cli", "info", "mine", folder=tmp_path, status=2)[1].startswith("longigen: mine has no model")


def test_name_of_an_installed_plugin(installed: dict[str, str], longigen: Longigen, tmp_path: Path) -> None:
    result = longigen("new-plugin", "my-sampler", "--kind", "denoiser", "--out", tmp_path / "x", status=2, **installed)
    assert result.stderr == (
        "longigen: 'my-sampler' is taken: longigen-my-sampler 0.1.0 has a sampler of that name (my_sampler:MySampler); "
        "choose another.\n"
    )
    assert not (tmp_path / "x").exists()


def test_missing_kind(longigen: Longigen) -> None:
    error = longigen("new-plugin", "mine", status=2).stderr
    assert error == f"longigen: The kind of 'mine' is missing; give --kind with one of: {', '.join(KINDS)}.\n"


def test_existing_files_are_not_overwritten(longigen: Longigen, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.py").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    arguments = ("new-plugin", "mine", "--kind", "metric", "--out")
    assert "exists and is not empty" in longigen(*arguments, tmp_path / "full", status=2).stderr
    assert "is a file" in longigen(*arguments, tmp_path / "file", status=2).stderr
    assert "cannot be written" in longigen(*arguments, tmp_path / "file" / "deeper", status=2).stderr
    assert "the current folder" in longigen(*arguments, ".", status=2).stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file", "full", "work.py"]
    longigen(*arguments, tmp_path / "empty")
    assert (tmp_path / "empty" / "pyproject.toml").exists()


def test_full_disk_leaves_no_folder(tmp_path: Path) -> None:
    """A disk that is full after three files is left unchanged."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    code += "from longigen_cli.main import main; main()"
    command = [sys.executable, "-c", code, "new-plugin", "mine", "--kind", "dataset", "--out", str(tmp_path / "mine")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"longigen: {tmp_path / 'mine'} cannot be written (File too large); choose another output folder.\n"
    )
    assert not list(tmp_path.iterdir())


def test_default_folder(tmp_path: Path) -> None:
    """Without --out the folder is ./NAME, and the printed commands refer to it."""
    output, _ = run("longigen_cli", "new-plugin", "mine", "--kind", "metric", folder=tmp_path)
    assert "    pip install -e mine\n" in output
    assert (tmp_path / "mine" / "src" / "mine" / "metric.py").exists()


class TestGuide:
    """Tests of the code and links in CONTRIBUTING-PLUGINS.md."""

    def blocks(self, language: str) -> list[str]:
        return [textwrap.dedent(text) for text in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)]

    def test_its_links(self) -> None:
        for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
            assert (ROOT / target).exists(), f"there is no {target}"

    def test_its_index(self) -> None:
        (index,) = (yaml.safe_load(block) for block in self.blocks("yaml"))
        assert index.pop("schema_version") == 1
        assert set(index) <= set(CATALOG_SECTIONS)

    def test_its_code_imports_public_names(self) -> None:
        public = ast.literal_eval(
            re.search(r"__all__ = (\[.*?\])", (ROOT / "longigen" / "__init__.py").read_text(), re.DOTALL)[1]  # type: ignore[index]
        )
        for block in self.blocks("python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "longigen":
                    assert {alias.name for alias in node.names} <= set(public)

    def test_its_losses(self, installed: dict[str, str], tmp_path: Path) -> None:
        """The denoiser with its own loss, derived from the template's, passes the conformance suite."""
        (code,) = (block for block in self.blocks("python") if "@register_denoiser" in block)
        code += "from longigen.testing import cases, run_check\n"
        code += "for kind, label in cases('denoiser')[:-1]:\n    run_check(kind, label, 'sharp')\n    print(label)\n"
        (tmp_path / "sharp.py").write_text(code)
        assert "has losses, named and of each sample" in run("sharp", folder=tmp_path, **installed)[0]

    def test_its_reader(self, tmp_path: Path) -> None:
        """The data set in the guide reads a folder, and reports a bad file."""
        (code,) = (block for block in self.blocks("python") if "(Dataset)" in block)
        (tmp_path / "reader.py").write_text(code)
        spec = importlib.util.spec_from_file_location("reader", tmp_path / "reader.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        folder = tmp_path / "data"
        for subject in ("s1", "s2"):
            for time in (0.0, 1.5):
                write_image(folder / subject / f"{time}.nii.gz", ball((6, 7, 8), 0.5))
        subjects = module.Folders(path=folder).subjects()
        assert [(subject.id, subject.times) for subject in subjects] == [("s1", (0.0, 1.5)), ("s2", (0.0, 1.5))]
        assert subjects[0].visits[1].load().data.shape == (6, 7, 8)
        (folder / "s2" / "0.0.nii.gz").write_bytes(b"no image")
        with pytest.raises(LongigenError, match="s2"):
            module.Folders(path=folder).subjects()
        findings = []
        assert [subject.times for subject in module.Folders(path=folder).subjects(findings.append)] == [
            (0.0, 1.5),
            (1.5,),
        ]
        assert [finding.subject for finding in findings] == ["s2"]
