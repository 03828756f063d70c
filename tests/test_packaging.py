"""The wheel: what is in it, and that it works where the checkout is not."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from helpers.files import ROOT
from longigen.hub.manifest import FILES

PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
TEMPLATES = "longigen/registry/templates"
PAGE = "longigen/reporting/page"
SHIPPED = {"longigen_models"}
"""Plugins without a component: they are there for the models in them."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return next(out.glob("*.whl"))


def entry_points(wheel: Path) -> ConfigParser:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        parser = ConfigParser(delimiters=["="])
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(archive.read(name).decode())
    return parser


def test_wheel_holds_our_packages_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"longigen", "longigen_cli", *PLUGINS}
    assert "longigen/registry.yaml" in names
    templates = [path.relative_to(ROOT) for path in (ROOT / TEMPLATES).rglob("*") if path.is_file()]
    assert templates
    assert {str(path) for path in templates} == {name for name in names if name.startswith(f"{TEMPLATES}/")}
    page = {name for name in names if name.startswith(f"{PAGE}/")}
    assert page == {f"{PAGE}/{path.name}" for path in (ROOT / PAGE).iterdir()} >= {f"{PAGE}/NIIVUE.txt"}
    code = (".py", ".yaml", ".template", "/py.typed")
    others = [name for name in names if ".dist-info/" not in name and not name.endswith(code) and name not in page]
    models = {tuple(path.parts) for path in map(Path, others)}
    assert all(len(parts) == 3 and parts[0] in SHIPPED and parts[2] in FILES for parts in models)
    folders = {
        path.name for path in (ROOT / "plugins" / "longigen_models").iterdir() if (path / "config.json").exists()
    }
    assert {parts[1] for parts in models} == folders
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_package_says_that_it_is_typed(wheel: Path) -> None:
    """A type checker reads the annotations of an installed package only where there is a ``py.typed``."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name.removesuffix("/py.typed") for name in archive.namelist() if name.endswith("/py.typed")}
    assert found == {"longigen", "longigen_cli", *PLUGINS}


def test_every_plugin_has_entry_points(wheel: Path) -> None:
    found = entry_points(wheel)
    modules = {
        value.partition(":")[0] for group in found if group.startswith("longigen.") for value in found[group].values()
    }
    assert modules == {*PLUGINS, "longigen"} - SHIPPED
    for name in SHIPPED:  # files and no code
        assert [path.name for path in (ROOT / "plugins" / name).rglob("*.py")] == ["__init__.py"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(Path(package).name for package in packages if package.startswith("plugins/")) == PLUGINS


def test_the_index_describes_every_entry_point(wheel: Path) -> None:
    index = yaml.safe_load((ROOT / "registry.yaml").read_text())
    found = entry_points(wheel)
    for kind in ("conditioners", "denoisers", "samplers", "codecs", "datasets", "metrics", "segmenters"):
        assert sorted(index[kind]) == sorted(found[f"longigen.{kind}"])
        assert all(entry["summary"] for entry in index[kind].values())


def test_constraints_pin_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"]]
    assert {name for extra in extras.values() for name in extra} == set(extras["dev"])  # so every extra is tested
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert {name.partition(">=")[0] for name in asked} | {"torchvision"} == pinned
    assert not any("==" in name for name in asked)


def test_the_citation_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == f"{project['name']}: {project['description'][0].lower()}{project['description'][1:]}"
    assert (citation["license"], citation["keywords"]) == (project["license"], project["keywords"])
    assert {"cff-version", "message", "authors"} <= citation.keys()  # what the format requires besides


def test_workflows_call_what_is_there() -> None:
    """Each line of a workflow that calls make or a script of the repository names one that exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = []
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            called += [line.split() for step in job["steps"] for line in step.get("run", "").splitlines()]
    assert {words[1] for words in called if words[:1] == ["make"]} == {"test", "test-lowest"} <= targets
    assert [words for words in called if words == [".ci/run"]]
    assert set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)) <= targets


def test_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Install the wheel alone; its dependencies are those of this environment, without the editable checkout."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*command: str) -> str:
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run(str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel))
    site = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A path that a .pth file adds has its own .pth files left alone, so no editable install comes with it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert str(ROOT) not in run(str(python), "-c", "import longigen, longigen_sadm; print(longigen.__file__)")
    listed = run(str(folder / "bin" / "longigen"), "list")
    for name in ("sadm", "unet3d", "continuous", "sim-brain", "csv", "psnr", "sadm-tiny"):
        assert name in listed
    assert "broken" not in listed
    run(str(folder / "bin" / "longigen"), "new-plugin", "mine", "--kind", "denoiser")
    assert (tmp_path / "mine" / "src" / "mine" / "denoiser.py").exists()
