"""Tests of the model card, the published configuration, and the privacy of values."""

import json
import shlex
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from helpers.models import config_of
from longigen import LongigenError
from longigen.hub.manifest import manifest_to_dict, read_manifest
from longigen.hub.model_card import Card
from longigen.hub.publish import export, published_config
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.pretrained import loader
from longigen.models.settings import Provenance
from longigen.registry.registry import register_conditioner, registry
from longigen.training.recipe import Recipe
from longigen_baselines import SourceConditioner
from longigen_continuous import ContinuousSampler
from longigen_unet3d import UNet3D


def test_path_of_a_component_is_replaced_by_its_default(tmp_path: Path) -> None:
    @register_conditioner("warm")
    class Warm(SourceConditioner):
        def __init__(self, *, weights: Path | None = None, backbone: str = "plain") -> None:
            super().__init__()

    @register_conditioner("bound")
    class Bound(SourceConditioner):
        def __init__(self, *, weights: Path) -> None:
            super().__init__()

    try:
        secret = tmp_path / "patient.bin"
        secret.touch()
        model = LongitudinalModel(
            Warm(weights=secret, backbone=str(secret)),
            UNet3D(width=8, multipliers=(1,)),
            ContinuousSampler(),
            provenance=Provenance(data={"name": "csv", "path": str(tmp_path)}),
        )
        model.save_pretrained(tmp_path / "model")
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        assert config["conditioner"]["config"]["weights"] == str(secret)
        published = published_config(config)
        assert published["conditioner"]["config"] == {"weights": None, "backbone": "plain"}
        assert str(tmp_path) not in json.dumps(published)
        assert published_config(published) == published
        (tmp_path / "model" / "config.json").write_text(json.dumps(published))
        assert LongitudinalModel.from_pretrained(tmp_path / "model").conditioner.config["weights"] is None
        config["conditioner"] |= {"name": "bound", "config": {"weights": str(secret)}}
        with pytest.raises(
            LongigenError, match="'bound' requires the path 'weights', which exists only on this machine"
        ):
            published_config(config)
    finally:
        for name in ("warm", "bound"):
            registry.unregister("conditioner", name)


def test_card_states_what_is_unknown() -> None:
    """It has no diffusion tag for another sampler, no licence that was not given, no command that was not recorded."""
    card = ModelCard(Card("x", "hf-hub:lab/x@v2", config_of(), 1234).text)
    assert card.data.license is None
    assert "diffusion" not in card.data.tags
    assert {"heart", "mri", "cine", "source", "regression"} <= set(card.data.tags)
    assert card.data.eval_results is None
    for words in (
        "1,234 parameters",
        "The details of training were not recorded.",
        "It was not evaluated",
        "is not stated",
    ):
        assert words in card.text
    assert "longigen train" not in card.text


def test_card_of_a_fine_tuned_model() -> None:
    training = {
        "recipe": "sadm-tiny",
        "init": True,
        "components": {"sampler": "ddpm"},
        "data": "sim-heart",
        "changes": {"preprocess.shape": [8, 8, 8], "training.steps": 7, "model.keep_background": True},
        "withheld": ["training.init_conditioner", "training.init_denoiser", "data.pattern"],
        "initialised": {"conditioner": "hf-hub:lab/brains@v1", "denoiser": "hf-hub:lab/brains@v1"},
        "steps": 7,
        "seconds": 7200.0,
        "device": "NVIDIA H100 80GB HBM3",
        "processes": 2,
    }
    config = config_of(data={"name": "sim-heart", "simulated": True}, training=training)
    config["denoiser"] = {**config["denoiser"], "distribution": "longigen-wonder"}
    card = ModelCard(Card("x", "hf-hub:lab/x@v2", config, 2_500_000).text)
    assert card.data.base_model == ["lab/brains"]
    assert card.data.license is None  # unknown for weights initialised from another model
    for words in (
        "longigen train --recipe sadm-tiny --sampler ddpm --data sim-heart --init hf-hub:lab/brains@v1 "
        "--set preprocess.shape=8,8,8 --set training.steps=7 --set model.keep_background=true --set data.pattern=...",
        "`...` replaces text",
        "conditioner and denoiser of [hf-hub:lab/brains@v1](https://hf.co/lab/brains).",
        "7 steps in 2.0 hours on 2 × NVIDIA H100 80GB HBM3",
        "It needs longigen and `longigen-wonder`.",
        "2.50 million parameters",
        "fine-tuned on simulated data, starting from a pretrained model",
    ):
        assert words in card.text, words
    registered = {**training, "initialised": {"conditioner": "sadm-sim-brain"}}
    text = Card("x", "hf-hub:lab/x@v2", config_of(training=registered), 1).text
    assert "Initialised from another model: conditioner of `sadm-sim-brain`." in text
    assert "base_model" not in text


def test_command_on_the_card_reproduces_the_recipe() -> None:
    changes = ["training.steps=7", "conditioner.patch=2,2,2", "data.spacing=4", "training.freeze=[]"]
    changes += ["training.learning_rate=0.00012345678", "denoiser.attention=-1"]
    recipe = Recipe.resolve("sadm-tiny", components={"sampler": "ddpm"}, data="sim-brain", changes=changes)
    command = Card("b", "hf-hub:lab/b@v2", config_of(data={"name": "sim-brain"}, training=recipe.provenance), 1).command
    assert command is not None
    words = shlex.split(command)
    assert words[:8] == ["longigen", "train", "--recipe", "sadm-tiny", "--sampler", "ddpm", "--data", "sim-brain"]
    again = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert Recipe.resolve("sadm-tiny", components={"sampler": "ddpm"}, data="sim-brain", changes=again) == recipe


def test_export_of_a_model_for_a_package(tmp_path: Path) -> None:
    """It writes the files, returns their manifest, and uses the given name."""
    model = LongitudinalModel(
        SourceConditioner(),
        UNet3D(width=8, multipliers=(1,)),
        ContinuousSampler(),
        provenance=Provenance(data={"name": "sim-brain", "simulated": True}),
    )
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "metrics.json").write_text("of other weights")
    manifest = export(str(tmp_path / "model"), tmp_path / "shipped", load=loader(LongitudinalModel), name="tiny-brain")
    assert sorted(manifest) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "shipped").iterdir()) == sorted(manifest)
    assert read_manifest(manifest_to_dict(manifest), "it") == manifest
    text = (tmp_path / "shipped" / "README.md").read_text(encoding="utf-8")
    assert "longigen pull tiny-brain\n" in text
    assert "# tiny-brain\n" in text
    LongitudinalModel.from_pretrained(tmp_path / "shipped")


def test_card_of_a_model_whose_grid_is_each_subjects_own() -> None:
    for preprocess, words in (
        ({"shape": [100, 100, 0]}, "Its grid has 100 × 100 × all voxels of the subject's own voxel size, with"),
        (
            {"shape": [0, 0, 0], "extent": [150, 150, 0]},
            "Its grid covers 150 × 150 × all mm in voxels of the subject's",
        ),
    ):
        assert words in Card("x", "hf-hub:lab/x@v2", config_of(preprocess=preprocess), 1234).text


def test_card_says_at_which_voxels_a_model_was_trained() -> None:
    data = {"name": "acdc", "simulated": False, "voxels": [[1.0, 1.0, 5.0], [1.4, 1.4, 8.0], [2.0, 2.0, 10.0]]}
    for shape, words in (
        ([100, 100, 9], "100 × 100 × 9 voxels of 1.4 × 1.4 × 8 mm, to which a subject of other voxels is resampled"),
        ([100, 100, 0], "voxels of the subject's own voxel size, in training 1 × 1 × 5 mm to 2 × 2 × 10 mm, with axes"),
    ):
        assert words in Card("x", "hf-hub:lab/x@v2", config_of(preprocess={"shape": shape}, data=data), 1234).text
