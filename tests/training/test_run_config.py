"""``--config``: a training's hyperparameters in a file, printed, read again, changed, and those of a run repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.models import FIXTURE
from helpers.processes import Longigen
from helpers.trainings import SMALL, lines, weights
from longigen import LongigenError, train
from longigen.api import config_text
from longigen.training.recipe import Recipe
from longigen.training.run import Run
from longigen.training.run_config import RunConfig


def recorded(folder: Path, recipe: Recipe) -> str:
    """Return the ``run.json`` of a recipe."""
    folder.mkdir()
    Run(folder).write(recipe, {"train": [], "validation": [], "test": []})
    return (folder / "run.json").read_text()


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"changes": ["denoiser.width=8", "training.betas=0.5,0.9", "training.mixed_precision=no", "crop=4,0,0"]},
        {"changes": ["training.steps=1500", "preprocess.shape=null", "split.test=0.25"], "size": "large"},
        {"components": {"conditioner": "raw", "sampler": "regression"}, "changes": ["training.learning_rate=1e-5"]},
        {"data": "the table", "changes": ["time_unit=days"]},
        {"data": "the table", "name": "heart", "changes": ["preprocess.shape=8,8,8"]},
    ],
)
def test_a_printed_config_gives_the_same_run_json(chosen: dict[str, Any], manifest: Path, tmp_path: Path) -> None:
    chosen = {"name": "heart" if "size" in chosen else "sadm-tiny", **chosen}
    if "data" in chosen:
        chosen["data"] = str(manifest)
    recipe = Recipe.resolve(**chosen)
    printed = tmp_path / "run.yaml"
    printed.write_text(
        config_text(chosen["name"], chosen.get("data"), **_for_api(chosen), progress=False), encoding="utf-8"
    )
    again = Recipe.resolve(chosen["name"], config=RunConfig.read(printed))
    assert recorded(tmp_path / "first", recipe) == recorded(tmp_path / "again", again)


def _for_api(chosen: dict[str, Any]) -> dict[str, Any]:
    components = chosen.get("components", {})
    return {**components, "changes": chosen.get("changes", ()), "size": chosen.get("size")}


def test_a_printed_config_of_a_fine_tuning_gives_the_same_run_json(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text(config_text(init=str(FIXTURE), changes=["training.steps=3"], progress=False))
    assert config_text(config=first, progress=False) == first.read_text()
    assert yaml.safe_load(first.read_text())["origin"]["init"] is True


def test_recipe_then_config_then_set_then_options(manifest: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "recipe:\n  conditioner: {name: raw}\n  training: {steps: 7, warmup: 3, mixed_precision: no}\n"
        "  denoiser: {width: 24}\n"
    )
    read = RunConfig.read(path)
    recipe = Recipe.resolve(
        "sadm-tiny", config=read, changes=["training.warmup=5"], components={"denoiser": "identity"}, data=str(manifest)
    )
    plain, training = Recipe.resolve("sadm-tiny"), recipe.configs["training"]
    assert recipe.names == {
        "conditioner": "raw",
        "denoiser": "identity",
        "sampler": "continuous",
        "codec": "identity",
        "data": "csv",
    }
    assert (training["steps"], training["warmup"]) == (7, 5)
    assert training["learning_rate"] == plain.configs["training"]["learning_rate"]
    # What the user chose, for a model's card; the width went with the U-Net, and mixed_precision is as it was.
    assert recipe.origin == {
        "recipe": "sadm-tiny",
        "components": {"conditioner": "raw", "denoiser": "identity"},
        "data": "csv",
        "changes": {"training.steps": 7, "training.warmup": 5},
    }


def test_what_is_changed_in_a_printed_config_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    content = yaml.safe_load(config_text(changes=["denoiser.width=8"], progress=False))
    content["recipe"]["training"]["steps"] = 9
    path.write_text(json.dumps(content))
    recipe = Recipe.resolve("sadm-tiny", config=RunConfig.read(path))
    assert recipe.origin["changes"] == {"denoiser.width": 8, "training.steps": 9}
    assert recipe.configs["training"]["steps"] == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: {trainig: {steps: 3}}", r"recipe has no section 'trainig'\. Did you mean 'training'\?"),
        ("recipe: {training: {stpes: 3}}", r"run\.yaml: training has no 'stpes'\. Did you mean 'steps'\? It has: "),
        ("recipe: {training: {steps: many}}", r"run\.yaml, training: steps must be a whole number .*, got 'many'"),
        ("recipe: {denoiser: {name: unet3}}", r"unet3.* Did you mean 'unet3d'\?"),
        ("training: {steps: 3}", r"the section 'training' belongs under 'recipe:'"),
        ("split: {folds: 5}", r"the section 'split' belongs under 'recipe:'"),
        ("recipes: {}", r"there is no 'recipes'\. Did you mean 'recipe'\?"),
        ("recipe: [1]", "'recipe' must hold keys and values"),
        ("origin: {changes: 3}", r"origin\.changes cannot be 3"),
        ("3", "must hold keys and values"),
        ("recipe: {", "cannot be read .*; --config takes YAML or JSON"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(LongigenError, match=message):
        config_text(config=path, progress=False)


def test_a_recipe_beside_the_config_of_another_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_text(progress=False))
    with pytest.raises(LongigenError, match=r"is of the recipe 'sadm-tiny', so --recipe heart does not go with it"):
        config_text("heart", config=path, progress=False)
    with pytest.raises(LongigenError, match="resume continues a run with its own options"):
        train(out=tmp_path, resume=True, config=path)


def test_a_run_is_repeated(manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    options: dict[str, Any] = {
        "changes": [*SMALL, "training.steps=1", "training.score_every=1"],
        "device": "cpu",
        "progress": False,
    }
    train(manifest, out=first, **options)
    # A subject that joined the training part is in the run's split, and not where it would be drawn.
    content = json.loads((first / "run.json").read_text())
    moved = content["split"]["test"].pop()
    content["split"]["train"].append(moved)
    (first / "run.json").write_text(json.dumps(content))
    with caplog.at_level("INFO", logger="longigen"):
        train(config=first / "run.json", out=again, progress=False)
    repeated = json.loads((again / "run.json").read_text())
    assert {**repeated, "split": None} == {**content, "split": None}
    assert moved in repeated["split"]["train"]
    assert not (again / "tensorboard").exists()
    (line,) = lines(again)
    assert {"validation_ssim", "validation_ssim_gain", "validation_psnr", "validation_psnr_gain"} <= set(line)
    assert any("The best validation was that of step 1: PSNR" in message for message in caplog.messages)
    assert Run(again).best_step() == 1
    assert weights(first).keys() == weights(again).keys()
    assert all(torch.isfinite(tensor).all() for tensor in weights(again).values())

    # Of other data it is split anew, and that is said.
    read = RunConfig.read(first / "run.json")
    other = Recipe.resolve("sadm-tiny", config=read, data="sim-brain")
    assert read.split_for(other) is None
    assert read.split_for(Recipe.resolve("sadm-tiny", config=read, changes=["training.steps=2"])) == content["split"]


def test_a_device_that_is_not_there_is_said_before_anything_is_read(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for name, message in (
        ("cuda:1", r"There is no device cuda:1 here, only cpu; choose another with --device"),
        ("gpu", r"--device \(device\) must be cpu, cuda, cuda:1 \(or another number\) or mps, got 'gpu'"),
    ):
        with pytest.raises(LongigenError, match=message):
            train("nowhere", out=tmp_path / "run", device=name)
    assert not (tmp_path / "run").exists()


def test_the_command_line_reads_and_prints_a_config(longigen: Longigen, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(config_text(changes={"denoiser.width": 8}, progress=False))
    printed = longigen("train", "--config", path, "--print-config", "--steps", 3, "--set", "warmup=2").stdout
    assert (
        printed.rstrip() == config_text(config=path, changes=["warmup=2", "training.steps=3"], progress=False).rstrip()
    )
    assert yaml.safe_load(printed)["origin"]["changes"] == {
        "denoiser.width": 8, "training.warmup": 2, "training.steps": 3,
    }  # fmt: skip
