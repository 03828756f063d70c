"""Install third-party distributions in a temporary folder, for tests of the registry."""

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from helpers import commandline
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
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self._environment(), cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def longigen(self, *words: str) -> str:
        """Run ``longigen`` in a process that sees the folder, and return its output; see `commandline.run`."""
        status, stdout, stderr = commandline.run(list(words), self.folder, self._environment(), timeout=300)
        assert status == 0, stderr
        return stdout

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, "COLUMNS": ""}


def clear_package_caches() -> None:
    importlib.invalidate_caches()
    for found in vars(packages).values():
        if hasattr(found, "cache_clear"):
            found.cache_clear()


def add_registry(site: Site, name: str, text: str | bytes) -> None:
    """Install a distribution that ships a registry.yaml."""
    package = f"of_{name}"
    site.install(name, {"longigen.registry": {name: package}}, {f"{package}/__init__.py": ""})
    content = text if isinstance(text, bytes) else text.encode()
    (site.folder / package / "registry.yaml").write_bytes(content)
