"""Tests of config.json and weights: migration of older schemas, and refusal of invalid files without using memory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.files import FIXTURES
from helpers.models import edit_config
from longigen import Covariate, LongigenError, LongitudinalModel, VisitSequence
from longigen.hub.model_config import CODEC, CONFIG_KEYS, CONFIG_SCHEMA_VERSION, MIGRATIONS, grid_text, read_config


@pytest.mark.parametrize("version", range(1, CONFIG_SCHEMA_VERSION + 1))
def test_model_of_every_schema_generates_the_same_numbers(version: int) -> None:
    """The fixtures and the expected numbers are of the longigen version that introduced each schema."""
    folder = FIXTURES / f"schema-{version}"
    assert json.loads((folder / "config.json").read_text())["schema_version"] == version
    model = LongitudinalModel.from_pretrained(folder)
    axes = [torch.linspace(-1, 1, n) for n in (16, 20, 16)]
    squared = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0)
    images = torch.stack([2 * torch.exp(-squared / (0.5 - 0.1 * visit)) - 1 for visit in range(2)])[None, :, None]
    known = torch.ones(1, 2, dtype=torch.bool)
    history = VisitSequence(
        images=images,
        times=torch.tensor([[0.0, 1.5]]),
        observed=known,
        valid=known,
        covariates={"age": Covariate(torch.tensor([[70.0, 71.5]]), known)},
    )
    generated = model.generate(history, torch.tensor([[3.0]]), subjects=["fixture"])
    assert generated.mean().item() == pytest.approx(-0.726901, abs=1e-5)
    assert generated.std().item() == pytest.approx(0.350954, abs=1e-5)
    assert generated[0, 0, 0, 8, 10, 8].item() == pytest.approx(0.898108, abs=1e-4)
    assert (generated[:, 0] - images[:, 1]).std().item() == pytest.approx(0.0102208, rel=1e-3)


def test_every_older_schema_has_a_migration_and_a_fixture() -> None:
    assert sorted(MIGRATIONS) == list(range(1, CONFIG_SCHEMA_VERSION))
    assert sorted(path.name for path in FIXTURES.glob("schema-*")) == [
        f"schema-{n}" for n in range(1, CONFIG_SCHEMA_VERSION + 1)
    ]
    assert set(read_config(FIXTURES / "schema-1")) == set(CONFIG_KEYS) - {CODEC}  # which they did not have


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "schema-1", tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda c: c.update(schema_version=CONFIG_SCHEMA_VERSION + 1),
            f"schema_version {CONFIG_SCHEMA_VERSION + 1}, which is newer",
        ),
        (lambda c: c.update(schema_version=0), "schema_version 0, but the first one is 1"),
        (lambda c: c.update(schema_version=True), "is not the configuration of a longigen model"),
        (lambda c: c.update(library_name="diffusers"), "is not the configuration of a longigen model"),
        (lambda c: c.update(denoisr={}), "unknown key 'denoisr'. Did you mean 'denoiser'"),
        (lambda c: c.update(model=[1]), "'model' must be an object of keys and values, got [1]"),
        (lambda c: c["denoiser"].update(code="os.system"), "the denoiser has an unknown key 'code'"),
        (lambda c: c["denoiser"].update(name=["unet3d"]), "has no name of a denoiser"),
        (
            lambda c: c["denoiser"].update(config="width"),
            "the config of the denoiser must be an object of keys and values",
        ),
        (
            lambda c: c["denoiser"]["config"].update(width="wide"),
            "config.json: The denoiser 'unet3d': width must be a whole number of at least 1, got 'wide'",
        ),
        (lambda c: c["denoiser"]["config"].update(colour=1), "has no parameter 'colour'"),
        (
            lambda c: c["statistics"].update(channels=10**9),
            "config.json: Section 'statistics': channels must be a whole number from 1 to 64",
        ),
        (lambda c: c["statistics"].update(residual_std=0), "residual_std must be a number from 1e-12 to 1e+12, got 0"),
        (lambda c: c["statistics"].update(time_unit="fortnights"), "statistics.time_unit must be one of years"),
        (
            lambda c: c["model"].update(p_uncond=2),
            "config.json: Section 'model': p_uncond must be a number from 0 to 1, got 2",
        ),
        (
            lambda c: c["preprocess"].update(shape=[16, 16]),
            "shape must be 3 whole numbers from 0 to 100000, got [16, 16]",
        ),
        (
            lambda c: c["preprocess"].update(lower=-3),
            "config.json: Section 'preprocess': lower must be a number from 0",
        ),
        (lambda c: c["data"].update(name=5), "config.json: data.name must be a text, got 5"),
        (lambda c: c["data"].update(subjects=True), "data.subjects must be a whole number, got True"),
        (lambda c: c["data"].update(intervals=[1]), "data.intervals must be two numbers, got [1]"),
        (lambda c: c["data"].update(split=[1]), "data.split must be an object, got [1]"),
        (lambda c: c.update(training={"seconds": "long"}), "training.seconds must be a number or a whole number, got"),
        (lambda c: c["sampler"].update(version=1.0), "sampler.version must be a text, got 1.0"),
        (
            lambda c: c["data"].update(split={"test": 1.5}),
            "config.json: Section 'data', split: test must be a number of",
        ),
        (
            lambda c: c["statistics"].update(residual_noise_std=-1),
            "config.json: Section 'statistics': residual_noise_std",
        ),
        (lambda c: c["sampler"]["config"].update(log_snr_min=9), "config.json: ContinuousSampler: log_snr_min must be"),
        (lambda c: c["preprocess"].update(shape=[10**5] * 3), "has more than 268,435,456 voxels"),
        (
            lambda c: c["sampler"].update(name="ddpm", config={"train_steps": 10**12}),
            "train_steps must be a whole number from 2 to 100000",
        ),
    ],
)
def test_invalid_config_is_refused(folder: Path, change: Any, problem: str) -> None:
    edit_config(folder, change)
    with pytest.raises(LongigenError) as caught:
        LongitudinalModel.from_pretrained(folder)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_large_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(" " * 2**23 + "{}")
    with pytest.raises(LongigenError, match=r"config\.json cannot be read .it has 8388610 bytes, more than the limit"):
        LongitudinalModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("preprocess", "text"),
    [
        ({"shape": [40, 48, 48]}, "40 × 48 × 48"),
        ({"shape": [100, 100, 0]}, "100 × 100 × all"),
        ({"shape": [0, 0, 0], "extent": [160.0, 142.5, 0.0]}, "160 × 142.5 × all mm"),
    ],
)
def test_size_of_a_grid_in_words(preprocess: dict[str, list[float]], text: str) -> None:
    assert grid_text(preprocess) == text
