"""Published models in registry.yaml files: what is refused."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.files import ROOT
from helpers.models import publish
from helpers.sites import Site
from longigen import LongigenError, LongitudinalModel
from longigen.hub.manifest import FILES
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import ZooModel, zoo_model
from longigen.registry.catalog import Catalog


def test_files_that_differ_from_the_registry_are_refused(site: Site) -> None:
    folder = publish(site)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LongigenError, match=r"model\.safetensors has the wrong content: its SHA-256 is .* reinstall"):
        LongitudinalModel.from_pretrained("tiny")
    weights.write_bytes(content[:-7])
    with pytest.raises(
        LongigenError, match=r"is truncated: it has 22625 bytes and should have 22632; reinstall of-tiny"
    ):
        LongitudinalModel.from_pretrained("tiny")
    weights.unlink()
    with pytest.raises(LongigenError, match=r"model\.safetensors is missing; reinstall of-tiny"):
        LongitudinalModel.from_pretrained("tiny")


def test_link_out_of_the_package_is_refused(site: Site, tmp_path: Path) -> None:
    folder = publish(site)
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(outside / "config.json")
    with pytest.raises(LongigenError, match="is a link that leads out of the package 'of_tiny', which is refused"):
        ModelSource.parse("tiny").find()
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    with pytest.raises(LongigenError, match="is a link that leads out of the package"):
        ModelSource.parse("tiny").find()


GOOD = {"sha256": "0" * 64, "size": 5}


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sumary": "x"}, "unknown key 'sumary'. Did you mean 'summary'"),
        ({"licence": ""}, "must have the key 'licence'"),
        ({"source": "https://drive.example.org/weights"}, "it must be package:IMPORT_NAME/FOLDER or hf-hub:org/repo"),
        ({"source": "package:of_tiny"}, "for a package it must be package:IMPORT_NAME/FOLDER"),
        ({"source": "package:of tiny/x"}, "for a package it must be package:IMPORT_NAME/FOLDER"),
        ({"source": "package:of_tiny/../../etc"}, "may lead out of its package"),
        ({"source": "package:of_tiny//etc"}, "may lead out of its package"),
        ({"source": "package:of_tiny/.ssh"}, "may lead out of its package"),
        ({"source": "package:of_tiny/a\\b"}, "may lead out of its package"),
        ({"source": "package:of_tiny/weights/x", "revision": COMMIT}, "ships in a package, which has no revision"),
        ({"source": "hf-hub:lab/brain"}, "must have a commit (40 hexadecimal digits) as its revision"),
        (
            {"source": "hf-hub:lab/brain", "revision": "main"},
            "must have a commit (40 hexadecimal digits) as its revision",
        ),
        ({"files": None}, "must have the key 'files'"),
        ({"files": {"config.json": GOOD}}, "must have the file model.safetensors"),
        ({"files": {"../config.json": GOOD}}, "has the file '../config.json', which is not a file of a model"),
        ({"files": {"/etc/passwd": GOOD}}, "has the file '/etc/passwd'"),
        ({"files": {"code.py": GOOD}}, "has the file 'code.py'"),
        ({"files": {"config.json": {"size": 5}}}, "must have exactly the keys sha256 and size for config.json"),
        ({"files": {"config.json": {**GOOD, "sha256": "abc"}}}, "must be 64 hexadecimal digits"),
        ({"files": {"config.json": {**GOOD, "size": -1}}}, "must be a number of bytes"),
        ({"parameters": "many"}, "must have its number of parameters"),
        ({"metrics": {"full": {"psnr": [1, 2]}}}, "'metrics' must have the hash of the protocol"),
        ({"metrics": {"protocol": "x", "full": {"psnr": 43}}}, "'metrics' must have the hash of the protocol"),
    ],
)
def test_invalid_entry_does_not_affect_others(
    site: Site,
    changes: dict[str, Any],
    problem: str,
) -> None:
    publish(site, **changes)
    with pytest.raises(LongigenError) as caught:
        ModelSource.parse("tiny")
    assert problem in str(caught.value)
    assert "'tiny' in the registry.yaml of of-tiny" in str(caught.value)
    assert Catalog().sections["recipes"]["sadm-tiny"]


def test_shipped_models_match_the_registry() -> None:
    """Every folder of `longigen_models` has an entry, and every entry a folder with the right files."""
    root = ROOT
    shipped = {path.name: path for path in (root / "plugins" / "longigen_models").iterdir() if path.is_dir()}
    shipped.pop("__pycache__", None)
    index = yaml.safe_load((root / "registry.yaml").read_text(encoding="utf-8"))["models"] or {}
    entries = [ZooModel.from_entry(Catalog().model(name)) for name in index]
    assert {entry.source for entry in entries if not entry.repository} == {
        f"package:longigen_models/{name}" for name in shipped
    }
    for name, folder in shipped.items():
        assert ModelSource.parse(name).find() == folder
        assert set(os.listdir(folder)) <= set(FILES)
        assert LongitudinalModel.from_pretrained(name).parameter_count == zoo_model(name).parameters
