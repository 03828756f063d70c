"""Tests of finding models by name: folders, published models in packages, repositories, and invalid names."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from helpers.models import FIXTURE, publish
from helpers.processes import Longigen
from helpers.sites import Site
from longigen import LongigenError, LongitudinalModel
from longigen.hub.manifest import build_manifest, manifest_to_dict
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import zoo_model
from longigen.utils.files import new_folder


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


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURE, tmp_path / "runs" / "mine")
    with pytest.raises(LongigenError, match=r"no model at runs/mime.*Did you mean 'runs/mine'\? .*hf-hub:runs/mime"):
        ModelSource.parse("runs/mime")
    assert ModelSource.parse("hf-hub:runs/mime").repository == "runs/mime"
    assert ModelSource.parse("lab/brain").repository == "lab/brain"
