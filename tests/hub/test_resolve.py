"""Tests of finding models by name: folders, published models in packages, repositories, and invalid names."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.files import ROOT
from helpers.models import FIXTURE, model_folder
from helpers.processes import Longigen
from helpers.sites import Site
from longigen import LongigenError, LongitudinalModel
from longigen.hub.manifest import FILES, build_manifest, manifest_to_dict
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import ZooModel, zoo_model
from longigen.registry.catalog import Catalog
from longigen.utils.files import new_folder


def entry_of(folder: Path, source: str, **changes: Any) -> dict[str, Any]:
    """Return the entry in a registry.yaml of the model in a folder."""
    return {
        "summary": "a tiny model, from outside",
        "source": source,
        "files": manifest_to_dict(build_manifest(folder)),
        "licence": "cc-by-4.0",
        "data": "sim-brain, simulated",
        "recipe": "sadm-tiny",
        "parameters": 3708,
        "metrics": {"protocol": "17dfacfebf2e", "full": {"psnr": [43.43, 41.44]}},
        **changes,
    }


def publish(site: Site, name: str = "tiny", **changes: Any) -> Path:
    """Install a third-party distribution whose package ships a model, and return the model's folder."""
    distribution, package = f"of-{name}", f"of_{name}"
    folder = model_folder(site.folder / package / "weights" / name)
    index = {
        "schema_version": 1,
        "models": {name: entry_of(folder, **{"source": f"package:{package}/weights/{name}", **changes})},
    }
    files = {f"{package}/__init__.py": "raise RuntimeError", f"{package}/registry.yaml": yaml.safe_dump(index)}
    site.install(distribution, {"longigen.registry": {name: package}}, files)
    return folder


def test_model_in_a_third_party_package_is_found_without_import(site: Site) -> None:
    folder = publish(site)
    model = zoo_model("tiny")
    assert (model.distribution, model.parameters, model.protocol) == ("of-tiny", 3708, "17dfacfebf2e")
    assert model.metrics == {"full": {"psnr": (43.43, 41.44)}}
    assert model.size == sum(path.stat().st_size for path in folder.iterdir())
    source = ModelSource.parse("tiny")
    assert source.find() == folder
    assert source.pinned_name(folder) == "tiny"
    assert source.public_name == "tiny"
    assert source.origin(folder) == "shipped with of-tiny"
    assert LongitudinalModel.from_pretrained("tiny").parameter_count == 3708


def test_pull_list_info_and_generate_without_network(site: Site, longigen: Longigen, tmp_path: Path) -> None:
    folder = publish(site)
    environment = {"PYTHONPATH": str(site.folder), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    pulled = longigen("pull", "tiny", **environment)
    assert "shipped with of-tiny: 3,708 parameters" in pulled.stdout
    assert "full: psnr 43.43 (copy-last 41.44)" in pulled.stdout
    assert str(folder) in pulled.stdout
    assert "next: longigen generate tiny" in pulled.stdout
    plain = json.loads(longigen("pull", "tiny", "--json", **environment).stdout)
    assert plain["files"] == manifest_to_dict(build_manifest(folder))
    assert (plain["received"], plain["revision"]) == (0, None)
    rows = json.loads(longigen("list", "models", "--json", **environment).stdout)["models"]
    row = next(row for row in rows if row["name"] == "tiny")
    assert (row["distribution"], row["parameters"], row["licence"]) == ("of-tiny", 3708, "cc-by-4.0")
    assert row["data"] == "sim-brain, simulated"
    assert row["metrics"]["full"] == {"psnr": [43.43, 41.44]}
    assert str(folder) in longigen("info", "tiny", **environment).stdout
    made = longigen("generate", "tiny", "--subject", "sim-0001", "--times", "+1", **environment)
    assert "Wrote 1 volumes to generated/tiny-" in made.stderr


def test_each_output_folder_is_new(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        folder = new_folder(str(tmp_path), "tiny")
        assert folder == tmp_path / f"tiny-{number}"
        folder.mkdir()


def test_list_and_info_load_no_torch(site: Site) -> None:
    publish(site)
    for words in (["list", "models"], ["info", "tiny"], ["info", str(FIXTURE)]):
        assert site.python(
            f"import sys; sys.argv[1:] = {words}; sys.argv[0] = 'longigen'\n"
            "from longigen_cli.main import app\n"
            "app(standalone_mode=False)\n"
            "print('torch' in sys.modules)"
        ).endswith("False\n")


def test_name_of_both_a_model_and_a_folder_is_ambiguous(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = publish(site)
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    (desk / "tiny").mkdir()
    assert ModelSource.parse("tiny").find() == shipped  # a folder without a model is ignored
    shutil.copytree(FIXTURE, desk / "tiny" / "model")
    with pytest.raises(LongigenError, match="'tiny' is both a published model and a folder; write local-dir:tiny for"):
        ModelSource.parse("tiny")
    assert ModelSource.parse("local-dir:tiny").find() == Path("tiny/model")


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


def test_list_and_info_report_an_invalid_entry(site: Site) -> None:
    publish(site, licence="")
    printed = site.longigen("list", "models", "--json")
    row = next(row for row in json.loads(printed)["models"] if row["name"] == "tiny")
    assert "must have the key 'licence'" in row["problem"]
    assert "must have the key 'licence'" in site.longigen("info", "tiny")


def test_name_claimed_by_two_distributions(site: Site) -> None:
    publish(site)
    other = {"schema_version": 1, "models": {"tiny": {"summary": "mine"}}}
    files = {"copycat/__init__.py": "", "copycat/registry.yaml": yaml.safe_dump(other)}
    site.install("copycat", {"longigen.registry": {"c": "copycat"}}, files)
    with pytest.raises(LongigenError, match=r"The model 'tiny' is claimed by .*; uninstall one of them"):
        ModelSource.parse("tiny")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tyni", r"There is no model 'tyni'\. Did you mean 'tiny'\? Give a run's folder"),
        ("./nowhere", r"There is no model at \./nowhere"),
        ("a/b/c", "There is no model at a/b/c"),
        ("local-dir:nowhere", "There is no model at nowhere"),
        ("local-dir:", "has no model"),
        ("hf-hub:brain", "'hf-hub:brain' is not a repository; write hf-hub:org/repo"),
        ("hf-hub:lab/brain@", "is not a repository; write hf-hub:org/repo or hf-hub:org/repo@REVISION"),
        ("hf-hub:../../etc", "is not a repository"),
    ],
)
def test_name_of_no_model_is_refused(site: Site, text: str, problem: str) -> None:
    publish(site)
    with pytest.raises(LongigenError, match=problem):
        ModelSource.parse(text)


def test_repository_names_and_revisions() -> None:
    for text in ("lab/brain@v1", "hf-hub:lab/brain@v1"):
        source = ModelSource.parse(text)
        assert (source.repository, source.revision, source.stem) == ("lab/brain", "v1", "brain")
    assert ModelSource.parse("lab/brain", "v2").revision == "v2"
    with pytest.raises(LongigenError, match="has one revision and 'v2' is another"):
        ModelSource.parse("lab/brain@v1", "v2")
    with pytest.raises(LongigenError, match="is not a repository, so it has no revision 'v2'"):
        ModelSource.parse(str(FIXTURE), "v2")
    for repository, revision in (("../etc", None), ("lab/a b", None), ("lab/brain", "../../x"), ("lab/brain", "")):
        with pytest.raises(LongigenError, match="is not the name of a re"):
            ModelSource("x", repository=repository, revision=revision).local_folder()


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
