"""Install third-party distributions in a temporary folder, for tests of the registry."""

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from helpers.files import ROOT
from longigen.registry import packages

PROJECT_REGISTRY = yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))
"""The project's own registry.yaml."""

SCALE = """\
from pathlib import Path

from longigen import Denoiser

Path(__file__).with_name("imported").write_text("yes")


class Scale(Denoiser):
    def __init__(self, *, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def build(self, *, channels, routes):
        pass

    def forward(self, z_t, log_snr, conditioning):
        return self.gain * z_t
"""


class Site:
    """A folder on Python's path into which distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]) -> None:
        """Install version 1.0 of a distribution: its entry points by group, and its files."""
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = [
            "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())])
            for group, entries in points.items()
        ]
        (info / "entry_points.txt").write_text("\n\n".join(groups))
        for path, text in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        clear_package_caches()

    def python(self, code: str) -> str:
        """Run code in a fresh process that sees the folder, and return its output."""
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": ""}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def longigen(self, *words: str) -> str:
        """Run ``longigen`` in a fresh process that sees the folder, and return its output."""
        return self.python(f"import sys; sys.argv[1:] = {list(words)}; from longigen_cli.main import main; main()")


def clear_package_caches() -> None:
    importlib.invalidate_caches()
    for found in (packages.installed_entry_points, packages.find_module, packages.parse_module):
        found.cache_clear()


def add_registry(site: Site, name: str, text: str | bytes) -> None:
    """Install a distribution that ships a registry.yaml."""
    package = f"of_{name}"
    site.install(name, {"longigen.registry": {name: package}}, {f"{package}/__init__.py": ""})
    content = text if isinstance(text, bytes) else text.encode()
    (site.folder / package / "registry.yaml").write_bytes(content)
