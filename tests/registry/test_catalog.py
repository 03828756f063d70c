"""Tests of the catalog: merging registry.yaml files, broken files, and the project's own registry.yaml."""

import re
import tomllib

import pytest

from helpers.files import ROOT
from helpers.sites import PROJECT_REGISTRY, SCALE, Site, add_registry
from longigen import LongigenError
from longigen.components.base import parameters
from longigen.registry.catalog import CATALOG_SECTIONS, Catalog
from longigen.registry.registry import KINDS, registry
from longigen.training.recipe import Recipe

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_entry_points_and_registry_name_the_same_components(kind: str) -> None:
    points = PROJECT["project"]["entry-points"][f"longigen.{kind}s"]
    assert set(points) == set(PROJECT_REGISTRY[f"{kind}s"])
    for name, entry in PROJECT_REGISTRY[f"{kind}s"].items():
        assert entry["summary"].strip(), name


@pytest.mark.parametrize("name", PROJECT_REGISTRY["recipes"])
def test_every_recipe_resolves_and_has_a_source(name: str) -> None:
    described = Catalog().recipe(name)
    assert described.summary
    assert described.content["source"].strip()
    reads = "path" in parameters(registry.load("dataset", described.content["data"]["name"]))
    recipe = Recipe.resolve(name, changes=["data.path=."] if reads else [])
    for section in ("conditioner", "denoiser", "sampler", "data"):
        if not (section == "data" and reads):
            assert recipe.component(section).config == recipe.configs[section]
    for section in ("model", "preprocess", "split", "training"):
        assert vars(recipe.settings(section)) == recipe.configs[section]


def test_registry_files_are_merged(site: Site) -> None:
    add_registry(
        site, "zed", "schema_version: 1\nrecipes:\n  r: {summary: of zed}\ndenoisers:\n  d: {summary: of zed}\n"
    )
    add_registry(site, "amy", "schema_version: 1\nrecipes:\ndenoisers:\n  d: {summary: of amy}\n  bare:\n")
    catalog = Catalog()
    assert set(catalog.sections) == set(CATALOG_SECTIONS)
    assert catalog.recipe("r").distribution == "zed"
    assert {entry.distribution for entry in catalog.sections["denoisers"]["d"]} == {"amy", "zed"}
    described, bare, own = (catalog.describe("denoisers", name) for name in ("d", "bare", "unet3d"))
    assert described is not None
    assert described.summary == "of amy"
    assert bare is not None
    assert bare.summary == ""
    assert own is not None
    assert own.distribution == "longigen"
    assert catalog.describe("denoisers", "none") is None
    assert catalog.problems == {}


def test_recipe_claimed_by_two_distributions(site: Site) -> None:
    add_registry(
        site, "stranger", "schema_version: 1\nrecipes:\n  sadm-tiny: {summary: mine}\n  other: {summary: mine too}\n"
    )
    with pytest.raises(LongigenError, match="'sadm-tiny' is claimed by") as caught:
        Catalog().recipe("sadm-tiny")
    assert {"longigen", "stranger"} <= set(re.split(r"[ ;]", str(caught.value)))
    assert Catalog().recipe("other").summary == "mine too"


def test_unknown_recipe() -> None:
    with pytest.raises(
        LongigenError, match=r"no recipe 'sadm-tny'\. Did you mean 'sadm-tiny'\? There are: .*sadm-tiny"
    ):
        Catalog().recipe("sadm-tny")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("denoisers: {d: {", "cannot be read"),
        (b"\xff\xfe\x00bad", "cannot be read"),
        ("[1, 2]", "has no schema_version; add 'schema_version: 1'"),
        ("denoisers: {}", "has no schema_version"),
        ("", "has no schema_version"),
        ("schema_version: 99", "schema_version 99, which is newer than this longigen reads"),
        ("schema_version: 1\ndenoiser: {}", "unknown section 'denoiser'. Did you mean 'denoisers'?"),
        ("schema_version: 1\ndenoisers: [d]", "section 'denoisers' must map names"),
        ("schema_version: 1\ndenoisers: {d: a text}", "'d' in section 'denoisers' must have keys"),
        ("schema_version: 1\ndenoisers: !!python/object:os.system {}", "cannot be read"),
    ],
)
def test_broken_file_is_skipped_and_reported(site: Site, text: str | bytes, problem: str) -> None:
    add_registry(site, "breaker", text)
    add_registry(site, "other", "schema_version: 1\ndenoisers:\n  d: {summary: of other}\n")
    catalog = Catalog()
    described = catalog.describe("denoisers", "d")
    assert described is not None
    assert described.distribution == "other"
    assert catalog.describe("denoisers", "unet3d") is not None
    assert list(catalog.problems) == ["breaker"]
    assert str(site.folder / "of_breaker" / "registry.yaml") in catalog.problems["breaker"]
    assert problem in catalog.problems["breaker"]


def test_missing_file_or_package(site: Site) -> None:
    site.install("empty", {"longigen.registry": {"empty": "of_empty"}}, {"of_empty/__init__.py": ""})
    site.install("gone", {"longigen.registry": {"gone": "of_gone"}}, {})
    site.install("module", {"longigen.registry": {"module": "of_module"}}, {"of_module.py": ""})
    catalog = Catalog()
    assert "unet3d" in catalog.sections["denoisers"]
    assert "No such file" in catalog.problems["empty"]
    assert "'of_gone', which should hold a registry.yaml, is not installed" in catalog.problems["gone"]
    assert "'of_module'" in catalog.problems["module"]


def test_a_changed_description_changes_no_other_and_a_changed_file_is_read_again(site: Site) -> None:
    add_registry(site, "one", "schema_version: 1\nrecipes: {mine: {summary: first, data: {name: csv}}}\n")
    first = Catalog().recipe("mine").content
    first["data"]["name"] = "other"
    assert Catalog().recipe("mine").content == {"summary": "first", "data": {"name": "csv"}}
    (site.folder / "of_one" / "registry.yaml").write_text("schema_version: 1\nrecipes: {mine: {summary: second}}\n")
    assert Catalog().recipe("mine").summary == "second"


def test_file_of_nested_package_is_found_without_import(site: Site) -> None:
    files = {
        "outer/__init__.py": "raise RuntimeError",
        "outer/inner/__init__.py": "raise RuntimeError",
        "outer/inner/registry.yaml": "schema_version: 1\ndenoisers: {d: {summary: inner}}",
    }
    site.install("nested", {"longigen.registry": {"nested": "outer.inner"}}, files)
    described = Catalog().describe("denoisers", "d")
    assert described is not None
    assert described.summary == "inner"


def test_list_reports_broken_file_and_shows_the_rest(site: Site) -> None:
    add_registry(site, "breaker", "denoisers: {d: {")
    site.install("worker", {"longigen.denoisers": {"scale": "scaling:Scale"}}, {"scaling.py": SCALE})
    code = (
        "import sys; sys.argv[1:] = ['list', 'denoisers']; sys.stderr = sys.stdout;"
        "from longigen_cli.main import main; main()"
    )
    printed = site.python(code)
    assert "The registry.yaml of breaker is left out:" in printed
    assert "unet3d" in printed
    assert "scale" in printed
    assert not (site.folder / "imported").exists()
