"""A stranger's package: installed, found, checked, trained and loaded by name."""

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
name = "longigen-stranger"
version = "0.3"
dependencies = ["longigen"]

[project.entry-points."longigen.denoisers"]
stranger = "stranger:Stranger"

[project.entry-points."longigen.registry"]
stranger = "stranger"

[tool.hatch.build.targets.wheel]
packages = ["stranger"]
"""

DENOISER = '''\
"""A denoiser from outside."""

import torch
from longigen import Conditioning, Denoiser, Routes
from torch import Tensor, nn


class Stranger(Denoiser):
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
        known = [log_snr[:, None] / 20]
        known += [] if conditioning.embedding is None else [conditioning.embedding]
        known += [] if conditioning.tokens is None else [conditioning.tokens.mean(dim=1)]
        x = x + self.level(torch.cat(known, dim=1))[:, :, None, None, None]
        return self.head(torch.relu(self.body(torch.relu(x)))).to(z_t.dtype)
'''

INDEX = """\
schema_version: 1
denoisers:
  stranger:
    summary: three convolutions, from outside
recipes:
  stranger-tiny:
    summary: the stranger on simulated brains
    conditioner: {name: source}
    denoiser: {name: stranger}
    sampler: {name: continuous, prediction: x, steps: 2}
    data: {name: sim-brain, subject_count: 6}
    training: {steps: 2}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the stranger's package."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "stranger").mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "stranger" / "__init__.py").write_text(DENOISER)
    (folder / "stranger" / "registry.yaml").write_text(INDEX)
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
               "--target", str(target), str(folder)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def test_a_strangers_denoiser(site: Path, longigen: Longigen, manifest: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    listed = json.loads(longigen("list", "denoisers", "--json", **environment).stdout)["denoisers"]
    assert {
        "name": "stranger",
        "distribution": "longigen-stranger 0.3",
        "summary": "three convolutions, from outside",
    } in listed
    assert "stranger-tiny" in longigen("list", "recipes", **environment).stdout
    checked = longigen("check", "stranger", **environment).stdout
    assert "FAIL" not in checked
    assert "{0} of {0} checks passed".format(len(CHECKS["denoiser"])) in checked
    run = tmp_path / "run"
    longigen("train", "--data", manifest, "--conditioner", "source", "--denoiser", "stranger", "--steps", 2,
             "--set", "sampler.steps=2", "--out", run, **environment)  # fmt: skip
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["denoiser"]["distribution"] == "longigen-stranger"
    longigen("generate", run, "--out", tmp_path / "made", **environment)
    assert list((tmp_path / "made").glob("*/*.nii.gz"))
    without = longigen("generate", run, "--out", tmp_path / "made", status=2)
    assert "pip install longigen-stranger" in without.stderr
