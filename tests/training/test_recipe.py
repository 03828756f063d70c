"""Recipes: resolution, changes, and the data set of a name or a path."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.files import FIXTURES
from helpers.sites import Site
from longigen import LongigenError
from longigen.hub.inventory import describe_name
from longigen.training.recipe import Recipe

NAME = "sadm-tiny"


def test_a_recipe_is_complete_and_its_values_have_their_types() -> None:
    recipe = Recipe.resolve(NAME)
    assert recipe.names == {
        "conditioner": "sadm",
        "denoiser": "unet3d",
        "sampler": "continuous",
        "codec": "identity",
        "data": "sim-brain",
    }
    assert set(recipe.configs) == {*recipe.names, "model", "preprocess", "augment", "split", "training"}
    assert recipe.configs["sampler"]["prediction"] == "x"  # set by the recipe
    assert recipe.configs["sampler"]["log_snr_min"] == -20.0  # the component's default
    assert recipe.configs["training"]["learning_rate"] == pytest.approx(3e-3)
    assert type(recipe.settings("model")).__name__ == "ModelSettings"
    assert recipe.component("sampler").config == recipe.configs["sampler"]


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("denoiser.width=8", "denoiser", "width", 8),
        ("width=8", "denoiser", "width", 8),
        (" sampler.steps =5", "sampler", "steps", 5),
        ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
        ("learning_rate=1", "training", "learning_rate", 1.0),
        ("preprocess.shape=8,10,12", "preprocess", "shape", (8, 10, 12)),
        ("preprocess.shape=[8, 10, 12]", "preprocess", "shape", (8, 10, 12)),
        ("preprocess.shape=null", "preprocess", "shape", None),
        ("target=image", "model", "target", "image"),
        ("split.test=0", "split", "test", 0.0),
    ],
)
def test_changes(change: str, section: str, key: str, value: Any) -> None:
    changed, plain = Recipe.resolve(NAME, changes=[change]), Recipe.resolve(NAME)
    assert changed.configs[section][key] == value
    assert type(changed.configs[section][key]) is type(value)
    for name, config in plain.configs.items():
        differing = {k for k in config if changed.configs[name][k] != config[k]}
        assert differing <= ({key} if name == section else set())


def test_a_run_of_an_earlier_version_keeps_its_draws_of_missing_visits() -> None:
    recorded = Recipe.resolve(NAME).to_dict()
    assert recorded["training"]["missing"] == "mixed"
    assert Recipe.from_dict(recorded).configs["training"]["missing"] == "mixed"
    del recorded["training"]["missing"]
    assert Recipe.from_dict(recorded).configs["training"]["missing"] == "slots"


def test_the_last_of_several_changes_holds() -> None:
    assert Recipe.resolve(NAME, changes=["width=8", "denoiser.width=12"]).configs["denoiser"]["width"] == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("width", r"--set takes KEY=VALUE, got 'width'\."),
        ("=3", "--set takes KEY=VALUE"),
        ("steps=3", r"--set steps could mean sampler\.steps or training\.steps; write it out\."),
        (
            "widht=3",
            r"--set widht: there is no parameter of that name\. Did you mean 'width'\? You can set: .*denoiser\.width",
        ),
        ("denoiser.widht=3", r"denoiser has no 'widht'\. Did you mean 'width'\? It has: .*width"),
        ("denoisr.width=3", r"no section 'denoisr'\. Did you mean 'denoiser'\? Sections: conditioner, denoiser"),
        ("denoiser.name=other", "denoiser has no 'name'"),
        ("width=wide", r"The denoiser 'unet3d': width must be a whole number of at least 1, got 'wide'\."),
        ("width=true", r"width must be a whole number of at least 1, got True\."),
        (
            "training.learning_rate=nan",
            r"Section 'training': learning_rate must be a number of at least 0, got 'nan'\.",
        ),
        ("target=volume", r"target must be one of 'image', 'residual', got 'volume'\."),
        ("preprocess.shape=8,10", r"shape must be 3 whole numbers from 0 to 100000 or None, got '8,10'\."),
        ("preprocess.shape=[,2", r"shape must be 3 whole numbers from 0 to 100000 or None, got '\[,2'\."),
        ("width=2020-13-45", "width must be a whole number of at least 1, got '2020-13-45'"),
        ("width=", r"width must be a whole number of at least 1, got None\."),
    ],
)
def test_changes_that_are_refused(change: str, message: str) -> None:
    with pytest.raises(LongigenError, match=message):
        Recipe.resolve(NAME, changes=[change])


def test_another_component_starts_from_its_own_defaults() -> None:
    recipe = Recipe.resolve(NAME, components={"conditioner": "source", "denoiser": None}, changes=["width=8"])
    assert recipe.names["conditioner"] == "source"
    assert recipe.configs["conditioner"] == recipe.component("conditioner").config
    assert recipe.names["denoiser"] == "unet3d"
    narrow = Recipe.resolve(NAME, components={"sampler": "continuous"})
    assert narrow.configs["sampler"]["prediction"] == "x"  # the same component keeps the recipe's configuration


def test_another_components_configuration_is_not_the_recipes(site: Site) -> None:
    site.install(
        "third-party",
        {"longigen.registry": {"third-party": "third_party"}, "longigen.samplers": {"copy": "third_party:Copy"}},
        {
            "third_party/__init__.py": "from longigen_continuous import ContinuousSampler\n\n\n"
            "class Copy(ContinuousSampler):\n    pass\n",
            "third_party/registry.yaml": "schema_version: 1\n",
        },
    )
    recipe = Recipe.resolve(NAME, components={"sampler": "copy"})
    assert recipe.configs["sampler"] == recipe.component("sampler").config
    assert recipe.configs["sampler"]["prediction"] == "epsilon"
    assert recipe.configs["sampler"]["steps"] == 100
    assert recipe.configs["training"] == Recipe.resolve(NAME).configs["training"]


def test_an_unknown_component() -> None:
    with pytest.raises(LongigenError, match=r"no conditioner 'sdam'\. Did you mean 'sadm'\?"):
        Recipe.resolve(NAME, components={"conditioner": "sdam"})


def test_a_grid_of_the_recipes_data_is_not_kept_for_other_data(site: Site) -> None:
    site.install(
        "third-party",
        {"longigen.registry": {"third-party": "third_party"}},
        {
            "third_party/__init__.py": "",
            "third_party/registry.yaml": "schema_version: 1\nrecipes:\n  r:\n    conditioner: {name: source}\n"
            "    denoiser: {name: unet3d}\n    sampler: {name: continuous}\n    data: {name: sim-brain, noise: 0.5}\n"
            "    preprocess: {shape: [8, 8, 8]}\n",
        },
    )
    (site.folder / "m.csv").write_text("subject,time,path\n")
    same = Recipe.resolve("r", data="sim-brain")
    assert same.configs["preprocess"]["shape"] == (8, 8, 8)
    assert same.configs["data"]["noise"] == 0.5
    other = Recipe.resolve("r", data=str(site.folder / "m.csv"))
    assert other.configs["preprocess"]["shape"] is None
    assert "noise" not in other.configs["data"]


SIZED = (
    "schema_version: 1\nrecipes:\n  r:\n    conditioner: {name: source}\n    denoiser: {name: unet3d, width: 8}\n"
    "    sampler: {name: continuous}\n    data: {name: sim-brain}\n    sizes:\n"
    "      large: [denoiser.width=64, training.steps=200000]\n      small: [denoiser.width=4]\n"
)


def test_sizes_of_a_recipe(site: Site) -> None:
    site.install(
        "third-party",
        {"longigen.registry": {"third-party": "third_party"}},
        {"third_party/__init__.py": "", "third_party/registry.yaml": SIZED},
    )
    plain, large = Recipe.resolve("r"), Recipe.resolve("r", size="large")
    assert (plain.configs["denoiser"]["width"], large.configs["denoiser"]["width"]) == (8, 64)
    assert large.configs["training"]["steps"] == 200_000
    assert "size" not in plain.origin
    assert large.origin["size"] == "large"
    assert large.origin["changes"] == {"denoiser.width": 64, "training.steps": 200_000}
    assert large.provenance["changes"] == large.origin["changes"]
    further = Recipe.resolve("r", size="large", changes=["training.steps=10"])
    assert further.origin["changes"] == {"denoiser.width": 64, "training.steps": 10}
    with pytest.raises(
        LongigenError, match=r"'r' has no size 'larg'\. Did you mean 'large'\? Its sizes: large, small\."
    ):
        Recipe.resolve("r", size="larg")
    with pytest.raises(LongigenError, match=r"'sadm-tiny' has no size 'large'\. It has one size; leave --size out\."):
        Recipe.resolve(NAME, size="large")
    assert describe_name("r")["recipe"]["sizes"]["small"] == ["denoiser.width=4"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{sizes: [large]}", r"In the recipe 'r', 'sizes' must map names to lists of changes section\.key=value\."),
        ("{sizes: {large: {training: {steps: 3}}}}", r"In the recipe 'r', 'sizes' must map names to lists"),
        ("{denoiser: unet3d}", r"In the recipe 'r', 'denoiser' must hold keys and values, got 'unet3d'\."),
        ("{trainig: {steps: 3}}", r"The recipe 'r' has an unknown section 'trainig'\. Did you mean 'training'\?"),
        ("{denoiser: {name: unet3d}}", r"The recipe 'r' names no conditioner; choose one with --conditioner\."),
        (
            "{conditioner: {name: source, widht: 3}, denoiser: {name: unet3d}, sampler: {name: continuous}, "
            "data: {name: sim-brain}}",
            "The conditioner 'source' has no parameter 'widht'",
        ),
    ],
)
def test_a_recipe_that_is_wrong(site: Site, lines: str, message: str) -> None:
    site.install(
        "third-party",
        {"longigen.registry": {"third-party": "third_party"}},
        {"third_party/__init__.py": "", "third_party/registry.yaml": f"schema_version: 1\nrecipes: {{r: {lines}}}\n"},
    )
    with pytest.raises(LongigenError, match=message):
        Recipe.resolve("r")


def test_a_recipe_survives_the_round_trip_through_json(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("subject,time,path\n")
    recipe = Recipe.resolve(NAME, data=str(manifest), changes=["preprocess.shape=8,10,12", "width=8"])
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.configs["preprocess"]["shape"] == (8, 10, 12)
    changed = Recipe.from_dict(recipe.to_dict(), changes=["training.steps=7"])
    assert changed.configs["training"] == {**recipe.configs["training"], "steps": 7}
    with pytest.raises(LongigenError, match="The run's recipe names no sampler"):
        Recipe.from_dict({**recipe.to_dict(), "sampler": {}})


def test_settings_that_a_model_to_fine_tune_decides_are_said() -> None:
    config = json.loads((FIXTURES / "schema-1" / "config.json").read_text())
    config["model"]["residual_scale"] = "gap"
    resolved = Recipe.resolve("sadm-tiny", model=config)
    assert resolved.configs["model"]["residual_scale"] == "gap"
    assert "model.residual_scale=gap (recipe: all, so losses cannot be compared)" in resolved.overruled
    chosen = Recipe.resolve("sadm-tiny", model=config, changes=["model.residual_scale=all"])
    assert not [text for text in chosen.overruled if "residual_scale" in text]
