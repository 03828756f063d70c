"""Benchmark tables: their entries in a registry.yaml, and their rows as recipes."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from helpers.sites import PROJECT_REGISTRY, Site, add_registry
from longigen import Batch, LongigenError
from longigen.components.base import parameters
from longigen.evaluation.benchmark_run import BenchmarkRun, require_shared
from longigen.evaluation.benchmark_spec import BenchmarkRow, BenchmarkSpec
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.testing.case import after, history
from longigen.testing.composition import model_of
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen_cli.main import app


@pytest.mark.parametrize("name", PROJECT_REGISTRY["tables"])
def test_every_table_has_rows_that_resolve(name: str) -> None:
    table = BenchmarkSpec.of(name)
    assert table.summary
    assert table.paper
    for row in table.rows:
        recipe, unused = row.resolve(data=None, changes=[], forced=["training.steps=2"])
        assert recipe.settings("training").steps == 2
        assert unused == []
        for section, chosen in row.components.items():
            assert recipe.names[section] == chosen


def test_the_rows_of_the_papers_ablation() -> None:
    table = BenchmarkSpec.of("sadm-ablation")
    assert [row.name for row in table.rows] == [
        "linear",
        "without diffusion",
        "without attention",
        "without attention, all visits",
        "U-Net without diffusion",
        "sadm",
    ]
    assert [row.folder for row in table.only(["sadm", "without attention"])] == ["without-attention", "sadm"]
    plain, without = (table.only([name])[0].resolve(data=None, changes=[], forced=[])[0] for name in
                      ("sadm", "without diffusion"))  # fmt: skip
    assert plain.to_dict()["conditioner"]["name"] == without.to_dict()["conditioner"]["name"] == "sadm"
    assert (without.names["denoiser"], without.names["sampler"]) == ("identity", "regression")
    assert without.configs["conditioner"]["features"] == 1
    assert without.configs["model"]["target"] == "image"
    assert plain.configs["training"] == without.configs["training"]


def test_a_change_applies_to_the_rows_that_have_the_hyperparameter() -> None:
    changes = ["width=8", "conditioner.dim=16", "learning_rate=1e-4"]
    linear, sadm = (
        BenchmarkSpec.of("sadm-ablation").only([name])[0].resolve(data=None, changes=changes, forced=[])
        for name in ("linear", "sadm")
    )
    assert linear[1] == ["width=8", "conditioner.dim=16"]
    assert linear[0].configs["training"]["learning_rate"] == 1e-4
    assert sadm[1] == []
    assert (sadm[0].configs["denoiser"]["width"], sadm[0].configs["conditioner"]["dim"]) == (8, 16)
    with pytest.raises(LongigenError, match=r"steps could mean sampler\.steps or training\.steps"):
        BenchmarkRow("r", "sadm-tiny", {}, []).resolve(data=None, changes=["steps=3"], forced=[])


def test_rows_of_other_recipes_and_the_metrics_of_a_table() -> None:
    table = BenchmarkSpec.of("sadm-methods")
    assert [row.recipe for row in table.rows] == ["sadm-tiny", "gan-tiny", "diffusemorph-tiny", "sadm-tiny"]
    assert table.metrics == ("ssim", "psnr", "nrmse", "change-correlation")
    assert BenchmarkSpec.of("sadm-ablation").metrics == ()
    assert "fid" in BenchmarkSpec.of("additive-methods").metrics
    (med,) = BenchmarkSpec.of("additive-methods").only(["med-ddpm"])
    recipe, _ = med.resolve(data=None, changes=[], forced=[])
    assert (recipe.names["conditioner"], recipe.names["sampler"]) == ("source", "ddpm")
    assert (recipe.configs["sampler"]["schedule"], recipe.configs["sampler"]["train_steps"]) == ("cosine", 250)


def test_another_recipe_for_all_rows() -> None:
    assert {row.recipe for row in BenchmarkSpec.of("sadm-ablation", recipe="sadm-small").rows} == {"sadm-small"}


FITTING = {
    "sadm-ablation": ("sadm-tiny", "sadm-small", "sadm-acdc", "sadm-brain"),
    "sadm-methods": ("sadm-tiny", "sadm-small", "sadm-acdc", "sadm-brain", "gan-tiny", "diffusemorph-tiny"),
    "additive-methods": ("dao-tiny", "dao-small", "dao-adni"),
}
"""The recipes that each table can be made with."""


def resolved(table: BenchmarkSpec) -> dict[str, Recipe]:
    """Return the recipe of each row; where data are needed, of a path that is not read."""
    found = {}
    for row in table.rows:
        name = Catalog().recipe(row.recipe).content["data"]["name"]
        data = f"{name}:." if "path" in parameters(registry.load("dataset", name)) else None
        found[row.name] = row.resolve(data=data, changes=[], forced=[])[0]
    return found


@pytest.mark.parametrize(("name", "recipe"), [(name, recipe) for name in FITTING for recipe in FITTING[name]])
def test_another_recipe_changes_no_rows_method(name: str, recipe: str) -> None:
    own, table = resolved(BenchmarkSpec.of(name)), BenchmarkSpec.of(name, recipe=recipe)
    assert {row.name for row in table.rows} | table.unavailable.keys() == own.keys()
    found = resolved(table)
    for row, resolution in found.items():
        for section in ("conditioner", "denoiser"):
            assert resolution.names[section] == own[row].names[section]
    plain = [json.dumps(resolution.to_dict()) for resolution in found.values()]
    assert len(set(plain)) == len(plain)
    runs = [BenchmarkRun(row, 0, None, found[row.name], Run(Path("never"))) for row in table.rows]
    for run in runs:
        require_shared(runs[0], run)


@pytest.mark.parametrize("name", FITTING)
def test_a_recipe_of_another_method_is_refused(name: str) -> None:
    for recipe in ("heart", "med-ddpm", "dao-tiny" if name.startswith("sadm") else "sadm-acdc"):
        with pytest.raises(
            LongigenError, match=f"cannot be had with --recipe {recipe}, which has no size of its method"
        ):
            BenchmarkSpec.of(name, recipe=recipe)


@pytest.mark.parametrize(
    ("table", "recipe", "rows"),
    [
        ("sadm-methods", "sadm-acdc", ["sadm-acdc", "gan", "diffusemorph", "sadm-acdc"]),
        ("additive-methods", "dao-adni", ["vae", "med-ddpm", "dao-adni"]),
        ("additive-methods", "dao-small", ["med-ddpm-small", "dao-small"]),
    ],
)
def test_the_papers_tables_at_other_sizes(table: str, recipe: str, rows: list[str]) -> None:
    assert [row.recipe for row in BenchmarkSpec.of(table, recipe=recipe).rows] == rows


def test_a_row_that_cannot_be_had_at_a_size_is_named() -> None:
    table = BenchmarkSpec.of("sadm-methods", recipe="sadm-small")
    assert [row.name for row in table.rows] == ["linear", "sadm"]
    assert list(table.unavailable) == ["gan", "diffusemorph"]
    with pytest.raises(
        LongigenError, match=r"row 'gan', cannot .* it takes sadm-tiny or sadm-acdc, and --data .* leave"
    ):
        table.only(["sadm", "gan"])
    with pytest.raises(LongigenError, match=r"row 'linear', cannot .* with the components sadm, unet3d, continuous"):
        BenchmarkSpec.of("sadm-ablation", recipe="dao-tiny")
    with pytest.raises(LongigenError, match="no recipe 'sadm-smal'"):
        BenchmarkSpec.of("sadm-methods", recipe="sadm-smal")


def test_unknown_tables_and_rows() -> None:
    with pytest.raises(LongigenError, match=r"no table 'sadm-abl'\. Did you mean 'sadm-ablation'\? There are: "):
        BenchmarkSpec.of("sadm-abl")
    with pytest.raises(LongigenError, match=r"no row 'saddm'\. Did you mean 'sadm'\? Its rows: linear, without"):
        BenchmarkSpec.of("sadm-ablation").only(["sadm", "saddm"])


SIZED = [name for name, content in PROJECT_REGISTRY["tables"].items() if "sizes" in content]
DATA = ("sim-brain", "sim-heart", "acdc:.")


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in SIZED for size in PROJECT_REGISTRY["tables"][name]["sizes"]]
)
def test_the_rows_of_a_size_are_their_own_recipes_with_equal_data_and_budget(name: str, size: str, data: str) -> None:
    table, entry = BenchmarkSpec.of(name, size=size), PROJECT_REGISTRY["tables"][name]
    assert table.size == size
    runs = []
    for row in table.rows:
        assert row.recipe == entry["rows"][row.name]["sizes"][size]
        recipe, unused = row.resolve(data=data, changes=["training.seed=3"], forced=[])
        assert not unused
        own = Catalog().recipe(row.recipe).content
        for section in ("conditioner", "denoiser", "sampler"):
            assert recipe.names[section] == row.components.get(section, own[section]["name"])
        assert recipe.names["data"] == data.partition(":")[0]
        assert recipe.configs["training"]["learning_rate"] == own["training"]["learning_rate"]
        runs.append(BenchmarkRun(row, 3, None, recipe, Run(Path("never"))))
    for run in runs:
        require_shared(runs[0], run, [key for key in runs[0].recipe.configs["training"] if key.endswith("_every")])
        require_shared(runs[0], run)
    plain = [json.dumps(run.recipe.to_dict()) for run in runs]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("name", SIZED)
def test_a_row_of_a_table_with_sizes_is_recorded_as_changes_of_its_recipe(name: str) -> None:
    """So a model's card says what is not of the recipe, and the recipe with these changes is the row's again."""
    for row in BenchmarkSpec.of(name, size=[*PROJECT_REGISTRY["tables"][name]["sizes"]][-1]).rows:
        recipe, _ = row.resolve(data=None, changes=[], forced=[])
        origin = recipe.origin
        changes = [f"{key}={json.dumps(value)}" for key, value in origin["changes"].items()]
        again = Recipe.resolve(origin["recipe"], components=row.components, data=origin["data"], changes=changes)
        assert again.to_dict() == recipe.to_dict()


def test_a_tag_of_the_data_set_chooses_further_changes() -> None:
    table = BenchmarkSpec.of("field")
    rows = {row.name: row for row in table.rows}
    heart, brain, other = (
        {name: row.resolve(data=data, changes=[], forced=[])[0].configs for name, row in rows.items()}
        for data in ("sim-heart", "sim-brain", "nifti4d:.")
    )
    assert not any(configs["model"]["keep_background"] for configs in heart.values())
    assert brain["sadm"]["model"]["keep_background"]
    assert brain["sadm"]["conditioner"] == other["sadm"]["conditioner"] != heart["sadm"]["conditioner"]
    assert heart["sadm"]["conditioner"]["patch"] == heart["bridge"]["conditioner"]["patch"] == (4, 4, 2)
    paper = BenchmarkSpec.of("field", size="paper").only(["sadm", "heart"])
    for row in paper:
        of_heart, of_brain = (row.resolve(data=data, changes=[], forced=[])[0].configs for data in DATA[1::-1])
        assert of_heart["preprocess"]["shape"] == (128, 128, 32)
        assert of_brain["preprocess"]["shape"] == (128, 160, 128)


@pytest.mark.parametrize("data", DATA[:2])
@pytest.mark.parametrize("name", SIZED)
def test_the_rows_of_the_first_size_train_and_generate(name: str, data: str) -> None:
    for row in BenchmarkSpec.of(name).rows:
        model = model_of(row.resolve(data=data, changes=[], forced=[])[0])
        visits = history((12, 12, 8))
        loss = model.loss(Batch(visits, -visits.images[:, 0], after(visits)), torch.Generator().manual_seed(0))
        assert bool(loss.isfinite()), row.name
        weights = list(model.parameters())
        assert bool(weights) == (row.name != "linear")
        if weights:
            loss.backward()
            assert any(bool(weight.grad.any()) for weight in weights if weight.grad is not None), row.name
        image = model.eval().generate(visits, after(visits)[:, None], steps=1)
        assert bool(image.isfinite().all()), row.name


def test_a_size_that_a_table_does_not_have() -> None:
    assert BenchmarkSpec.of("field").size == "tiny"
    with pytest.raises(
        LongigenError, match=r"'field' has no size 'smal'\. Did you mean 'small'\? Its sizes: tiny, small"
    ):
        BenchmarkSpec.of("field", size="smal")
    with pytest.raises(
        LongigenError, match=r"recipe for each row, so --recipe cannot be given; choose a size with --si"
    ):
        BenchmarkSpec.of("field", recipe="sadm-small")
    with pytest.raises(LongigenError, match=r"'sadm-methods' has no sizes; leave --size out"):
        BenchmarkSpec.of("sadm-methods", size="tiny")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{recipe: r, sizes: [a], rows: {a: }}", "sizes, must map names to lists of changes"),
        ("{recipe: r, sizes: {a: x=1}, rows: {a: }}", "sizes, must map names to lists of changes"),
        ("{recipe: r, sizes: {a: [], b: []}, rows: {x: {sizes: {a: r}}}}", "row 'x', must map each .*'sizes': a, b"),
        ("{recipe: r, sizes: {a: []}, rows: {x: {recipe: r}}}", "row 'x', cannot have the key 'recipe': a table with"),
        ("{recipe: r, rows: {x: {data: {heart: {}}}}}", "row 'x', cannot have the key 'data': it is for a table with"),
        ("{recipe: r, data: {heart: {}}, rows: {x: }}", "has the key 'data' and no 'sizes'"),
        ("{recipe: r, sizes: {a: []}, data: {heart: []}, rows: {x: {sizes: {a: r}}}}", "must hold a mapping 'data'"),
        ("{recipe: r, sizes: {a: []}, data: {h: {b: []}}, rows: {x: {sizes: {a: r}}}}", "'h', has an unknown key 'b'"),
        ("{sizes: {a: []}, rows: {x: {sizes: {a: r}}}}", "row 'x', names no recipe"),
        ("{}", r"The table 't' has no rows; list them by name under 'rows'"),
        ("{rows: [a, b]}", "'t' has no rows"),
        ("{rows: {a: {}}}", "row 'a', names no recipe; add the key 'recipe'"),
        ("{row: {a: {}}}", r"unknown key 'row'\. Did you mean 'rows'\?"),
        ("{recipe: r, rows: {a: {component: {}}}}", r"row 'a', has an unknown key 'component'\. Did you mean"),
        ("{recipe: r, rows: {a: {components: {denoser: x}}}}", r"unknown key 'denoser'\. Did you mean 'denoiser'\?"),
        ("{recipe: r, rows: {a: {changes: width=3}}}", "row 'a', must hold a mapping 'components' and a list"),
        ("{recipe: r, rows: {a: {recipes: x}}}", "row 'a', must hold a mapping 'recipes' from recipes of the table"),
        ("{recipe: r, rows: {a: text}}", "row 'a', must hold keys such as 'components', got 'text'"),
        ("{recipe: r, rows: {a b: , A-b: }}", "two rows with the same folder name"),
        ("{recipe: r, rows: {copy-last: }}", "one called copy-last"),
        ("{recipe: r, rows: {copy-last blurred 1: }}", "or copy-last blurred 1; rename one"),
        ("{recipe: r, rows: {'..': }}", "two rows with the same folder name"),
    ],
)
def test_a_table_that_cannot_be_used(site: Site, text: str, problem: str) -> None:
    add_registry(site, "third-party", f"schema_version: 1\ntables:\n  t: {text}\n")
    with pytest.raises(LongigenError, match=problem):
        BenchmarkSpec.of("t")


def test_a_third_party_table(site: Site) -> None:
    add_registry(
        site, "third-party", "schema_version: 1\ntables:\n  t: {summary: theirs, recipe: sadm-tiny, rows: {a: }}\n"
    )
    assert Catalog().table("t").distribution == "third-party"
    assert BenchmarkSpec.of("t").rows == (BenchmarkRow("a", "sadm-tiny", {}, []),)
    add_registry(site, "second", "schema_version: 1\ntables:\n  t: {rows: {a: }}\n")
    with pytest.raises(LongigenError, match=r"The table 't' is claimed by .*; uninstall one of them"):
        BenchmarkSpec.of("t")


def test_list_and_info_show_tables() -> None:
    listed = CliRunner().invoke(app, ["list", "tables"])
    assert "sadm-ablation" in listed.stdout
    shown = CliRunner().invoke(app, ["info", "sadm-ablation"])
    for word in ("table:", "recipe: sadm-tiny", "without attention", "conditioner: raw"):
        assert word in shown.stdout
