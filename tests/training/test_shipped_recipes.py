"""The shipped recipes: each composes into a model that trains and generates; SADM's use the paper's values."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from helpers.files import ROOT
from longigen import Batch, LongigenError, LongitudinalModel, VisitSequence
from longigen.components.base import parameters
from longigen.data.statistics import Statistics
from longigen.registry.catalog import Catalog
from longigen.registry.registry import registry
from longigen.training.recipe import Recipe

RECIPES = yaml.safe_load((ROOT / "registry.yaml").read_text(encoding="utf-8"))["recipes"]

SADM = (  # Yoon et al., IPMI 2023, arXiv 2212.08228; "code" is the published one, "guidance" Ho and Salimans 2022, and
    # "ADM" Dhariwal and Nichol 2021, whose settings they have
    ("conditioner", "depth", 3, "code, ViVit/vivit.py"),
    ("conditioner", "missing", "zero", "Section 3.1"),
    ("conditioner", "skip", False, "Section 3.1 has none"),
    ("sampler", "prediction", "epsilon", "Eq. 5"),
    ("sampler", "steps", 1000, "Section 4.1"),
    ("sampler", "log_snr_min", -20.0, "guidance, Section 4.1"),
    ("sampler", "log_snr_max", 20.0, "guidance, Section 4.1"),
    ("sampler", "v", 0.2, "guidance, Section 4.1, for 128 × 128"),
    ("model", "target", "image", "Section 2.1"),
    ("model", "p_uncond", 0.1, "guidance, Section 4.2; code, SADM.py"),
    ("model", "guidance", 0.1, "Section 4.1"),
    ("model", "guidance_space", "x", "Eq. 4"),
    ("preprocess", "lower", 0.0, "Section 4.1: min–max"),
    ("preprocess", "upper", 100.0, "Section 4.1: min–max"),
    ("preprocess", "normalise", "subject", "Section 4.1: per subject"),
    ("training", "steps", 3_000_000, "Section 4.1"),
    ("training", "learning_rate", 1e-4, "ADM, Table 11; code, SADM.py"),
    ("training", "lr_schedule", "constant", "ADM, code"),
    ("training", "betas", (0.9, 0.999), "ADM, Appendix I"),
    ("training", "weight_decay", 0.0, "ADM, code"),
    ("training", "ema", 0.9999, "ADM, Appendix I"),
)
SADM_ACDC = (
    ("data", "frames", 12, "Section 4.1"),
    ("preprocess", "shape", (128, 128, 32), "Section 4.1"),
    ("preprocess", "fit", "resize", "Section 4.1"),
    ("split", "validation", 0.1, "code, ACDC_prepare.py: 90 of 100"),
    ("training", "batch_size", 3, "code, SADM.py"),
)
SADM_BRAIN = (("split", "folds", 10, "Section 4.1"),)


def resolve(name: str) -> Recipe:
    """Return a recipe; a recipe that needs a data path gets the current folder, which is not read."""
    dataset = registry.load("dataset", RECIPES[name]["data"]["name"])
    return Recipe.resolve(name, changes=["data.path=."] if "path" in parameters(dataset) else [])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_trains_and_generates(name: str) -> None:
    recipe = resolve(name)
    model = LongitudinalModel(
        *(recipe.component(section) for section in ("conditioner", "denoiser", "sampler")),
        settings=recipe.settings("model"),
        statistics=Statistics(residual_std=0.1),
    )
    generator = torch.Generator().manual_seed(0)
    history = VisitSequence(
        images=torch.rand(1, 2, 1, 16, 16, 8, generator=generator) * 2 - 1,
        times=torch.tensor([[0.0, 1.0]]),
        observed=torch.ones(1, 2, dtype=torch.bool),
        valid=torch.ones(1, 2, dtype=torch.bool),
    )
    times = torch.tensor([2.5])
    loss = model.loss(Batch(history, -history.images[:, 1], times), generator)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert 0 < loss.item() < 1e4
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    generated = model.eval().generate(history, times[:, None], steps=2)
    assert generated.shape == (1, 1, 1, 16, 16, 8)
    assert generated.isfinite().all()
    assert generated.abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "section", "key", "value"),
    [("sadm-acdc", *row[:3]) for row in SADM + SADM_ACDC] + [("sadm-brain", *row[:3]) for row in SADM + SADM_BRAIN],
)
def test_hyperparameters_are_those_of_the_paper(name: str, section: str, key: str, value: Any) -> None:
    assert resolve(name).configs[section][key] == value


def test_the_brain_and_heart_recipes_have_the_same_effective_batch_size() -> None:
    training = [resolve(name).configs["training"] for name in ("sadm-acdc", "sadm-brain")]
    hearts, brains = (each["batch_size"] * each["gradient_accumulation"] for each in training)
    assert hearts == brains


@pytest.mark.parametrize("name", [name for name, content in RECIPES.items() if "numbers" in content])
def test_every_number_has_a_source_and_a_place(name: str) -> None:
    content, recipe = Catalog().recipe(name).content, resolve(name)
    for line in content["numbers"]:
        assert re.search(r": (paper|code|ours|Ho and Salimans|Dhariwal and Nichol|as in (sadm-acdc|dao-adni))", line), (
            line
        )
        for section, key in re.findall(r"\b([a-z]+)\.([a-z_]+)\b(?!\.)", line.partition(": ")[0]):
            assert key in recipe.configs[section] or (key == "name" and section in recipe.names), line


def test_a_recipe_configures_its_data_set_at_any_path(tmp_path: Path) -> None:
    patient = tmp_path / "patient001"
    patient.mkdir()
    (patient / "Info.cfg").write_text("ED: 1\nES: 12\n")
    for data in (str(tmp_path), f"acdc:{tmp_path}"):
        recipe = Recipe.resolve("sadm-acdc", data=data, changes=["data.frames=6"])
        assert recipe.configs["data"] == {**recipe.configs["data"], "path": tmp_path, "frames": 6}
        assert recipe.configs["preprocess"]["shape"] == (128, 128, 32)
        assert recipe.configs["preprocess"]["upper"] == 100.0
    given = Recipe.resolve("sadm-acdc", changes=[f"path={tmp_path}"])
    assert given == Recipe.resolve("sadm-acdc", data=f"acdc:{tmp_path}")
    other = Recipe.resolve("sadm-acdc", data="sim-heart")
    assert other.configs["preprocess"]["shape"] is None
    assert other.configs["sampler"]["steps"] == 1000


def test_a_recipe_whose_data_must_be_given_says_so() -> None:
    with pytest.raises(
        LongigenError, match=r"^The dataset 'acdc' needs the path of your data; give it with --data PATH"
    ):
        Recipe.resolve("sadm-acdc")
