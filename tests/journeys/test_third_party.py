"""A third-party plugin package: installed by pip, found, checked, trained and loaded by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import Longigen
from longigen.testing import CHECKS

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "longigen-outside"
version = "0.3"
dependencies = ["longigen"]

[project.entry-points."longigen.denoisers"]
outside = "outside:Outside"

[project.entry-points."longigen.registry"]
outside = "outside"

[tool.hatch.build.targets.wheel]
packages = ["outside"]
"""

DENOISER = '''\
"""A denoiser from another package."""

import torch
from longigen import Conditioning, Denoiser, Routes
from torch import Tensor, nn


class Outside(Denoiser):
    """Three convolutions, modulated by the noise level and the embeddings."""

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        self.width = width

    @property
    def stem_features(self) -> int:
        return self.width

    def build(self, *, channels: int, routes: Routes) -> None:
        self.stem = nn.Conv3d(channels + routes.concat, self.width, 3, padding=1)
        self.level = nn.Linear(1 + routes.embedding + routes.tokens, self.width)
        self.body = nn.Conv3d(self.width, self.width, 3, padding=1)
        self.head = nn.Conv3d(self.width, channels, 3, padding=1)

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        x = z_t if conditioning.concat is None else torch.cat([z_t, conditioning.concat], dim=1)
        x = self.stem(x) if conditioning.stem is None else self.stem(x) + conditioning.stem
        levels = [log_snr[:, None] / 20]
        levels += [] if conditioning.embedding is None else [conditioning.embedding]
        levels += [] if conditioning.tokens is None else [conditioning.tokens.mean(dim=1)]
        x = x + self.level(torch.cat(levels, dim=1))[:, :, None, None, None]
        return self.head(torch.relu(self.body(torch.relu(x)))).to(z_t.dtype)
'''

INDEX = """\
schema_version: 1
denoisers:
  outside:
    summary: three convolutions, from another package
recipes:
  outside-tiny:
    summary: the third-party denoiser on simulated brains
    conditioner: {name: source}
    denoiser: {name: outside}
    sampler: {name: continuous, prediction: x, steps: 2}
    data: {name: sim-brain, subject_count: 6}
    training: {steps: 2}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the third-party package."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside").mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "outside" / "__init__.py").write_text(DENOISER)
    (folder / "outside" / "registry.yaml").write_text(INDEX)
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
               "--target", str(target), str(folder)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def test_a_third_party_denoiser(site: Path, longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    listed = json.loads(longigen("list", "denoisers", "--json", **environment).stdout)["denoisers"]
    assert {
        "name": "outside",
        "distribution": "longigen-outside 0.3",
        "summary": "three convolutions, from another package",
    } in listed
    assert "outside-tiny" in longigen("list", "recipes", **environment).stdout
    checked = longigen("check", "outside", **environment).stdout
    assert "FAIL" not in checked
    assert "{0} of {0} checks passed".format(len(CHECKS["denoiser"])) in checked
    run = tmp_path / "run"
    longigen("train", "--data", manifest, "--conditioner", "source", "--denoiser", "outside", "--steps", 2,
             "--set", "sampler.steps=2", "--out", run, **environment)  # fmt: skip
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["denoiser"]["distribution"] == "longigen-outside"
    longigen("generate", run, "--out", tmp_path / "generated", **environment)
    assert list((tmp_path / "generated").glob("sub-*/ses-*/anat/*.nii.gz"))
    without = longigen("generate", run, "--out", tmp_path / "generated", status=2)
    assert "pip install longigen-outside" in without.stderr
