"""Tests of the model card, the published configuration, and the privacy of values."""

import json
import shlex
from pathlib import Path
from typing import Any, Literal

import pytest
from huggingface_hub import ModelCard

from longigen import LongigenError
from longigen.components.base import parameters
from longigen.components.privacy import is_path, private_keys, public_values
from longigen.hub.citation import bibtex, markdown_links
from longigen.hub.manifest import manifest_to_dict, read_manifest
from longigen.hub.metrics_file import MetricsFile
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


def configured(
    *,
    path: Path | None = None,
    names: tuple[str, ...] = (),
    kind: Literal["a", "b"] | None = None,
    pattern: str = "*.nii",
    sizes: tuple[int, ...] = (),
    required: str,
) -> None: ...


KNOWN = parameters(configured)


def test_public_and_private_values() -> None:
    private = {"path": Path("/home/x"), "names": ("s01",), "pattern": "s01*.nii", "required": "b"}
    public = {"kind": "b", "sizes": (1, 2), "pattern": "*.nii", "path": None, "names": ()}
    for name, value in private.items():
        assert public_values(KNOWN, {name: value}) == {}, name
        assert private_keys(KNOWN, {name: value}) == [name]
    assert public_values(KNOWN, public) == {"kind": "b", "sizes": [1, 2], "pattern": "*.nii", "path": None, "names": []}
    assert public_values(KNOWN, {"unknown": 1}) == {}


def test_is_path(tmp_path: Path) -> None:
    there = tmp_path / "weights.bin"
    there.touch()
    for value in (there, str(there), "~/x", "./x", "../x", r"C:\x", r"\\server\x", ["a", "/x"], "/nowhere/at/all"):
        assert is_path(value), value
    for value in ("sadm", "org/name", "timm/resnet18.a1", "a b", 1, None, "", "x" * 5000, "a/\0"):
        assert not is_path(value), value


def config_of(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "library_name": "longigen",
        "conditioner": {"name": "source", "distribution": "longigen", "version": "1", "config": {}},
        "denoiser": {"name": "unet3d", "distribution": "longigen", "version": "1", "config": {"width": 8}},
        "sampler": {"name": "regression", "distribution": "longigen", "version": "1", "config": {}},
        "data": {"name": "acdc", "simulated": False},
        **changes,
    }


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


def test_verdict_reports_where_a_model_is_worse() -> None:
    def row(mean: float, low: float, high: float) -> dict[str, Any]:
        return {"mean": mean, "low": low, "high": high, "subjects": 20}

    none = {"mean": None, "low": None, "high": None, "subjects": 0}
    copied = {"setting": "full", "method": "copy-last", "psnr": row(30, 29, 31), "nrmse": row(1, 0, 2), "corr": none}
    model = {"setting": "full", "method": "model", "psnr": row(31, 30, 32), "nrmse": row(2, 1, 3)}
    model |= {"psnr gain": row(1, -0.5, 2), "nrmse gain": row(1, 0.5, 2), "corr": row(0.5, 0.4, 0.6), "corr gain": none}
    content = {
        "rows": [copied, model],
        "arrows": {"psnr": "↑", "nrmse": "↓", "corr": "↑"},
        "data": {"name": "acdc", "simulated": False, "subjects": 20, "unseen": True},
        "protocol": {"part": "test", "targets": "last"},
        "protocol_hash": "abc",
        "generation": {"steps": 3},
    }
    result = MetricsFile(content)
    assert result.verdict() == {
        "Worse than copy-last": ["nrmse (full)"],
        "No significant difference from copy-last": ["psnr (full)"],
    }
    text = Card("b", "hf-hub:lab/b@v2", config_of(), 1, result).text
    assert "| full | psnr ↑ | 30.00 [29.00, 31.00] | 31.00 [30.00, 32.00] | +1.0000 [-0.5000, +2.0000] |" in text
    assert "|  | corr ↑ | - | 0.5000 [0.4000, 0.6000] | - |" in text
    assert "- Worse than copy-last: nrmse (full)." in text
    assert "3 network evaluations per visit" in text


def test_links_and_bibtex_of_references() -> None:
    papers = [
        "Doe & Roe, On Brains, IPMI 2023, arXiv 2212.08228, Section 3; Roe, arXiv:1234.56789",
        "Poe, arXiv 2212.08228",
    ]
    assert markdown_links(papers[1]) == "Poe, [arXiv 2212.08228](https://arxiv.org/abs/2212.08228)"
    lines = list(bibtex(papers))
    assert lines[:3] == [
        "@misc{arXiv:2212.08228,",
        r"  note = {Doe \& Roe, On Brains, IPMI 2023},",
        "  eprint = {2212.08228},",
    ]
    assert "  note = {Roe}," in lines
    assert list(bibtex(["Wang et al., IEEE TIP 2004"])) == []
