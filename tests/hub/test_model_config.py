"""Tests of config.json and weights: migration of older schemas, and refusal of invalid files without using memory."""

import json
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.files import FIXTURES
from longigen import Covariate, LongigenError, LongitudinalModel, VisitSequence
from longigen.hub.model_config import CONFIG_KEYS, CONFIG_SCHEMA_VERSION, MIGRATIONS, read_config
from longigen.hub.safetensors_header import read_header


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
    assert set(read_config(FIXTURES / "schema-1")) == set(CONFIG_KEYS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "schema-1", tmp_path / "model")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


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
            "shape must be 3 whole numbers from 1 to 100000, got [16, 16]",
        ),
        (
            lambda c: c["preprocess"].update(lower=-3),
            "config.json: Section 'preprocess': lower must be a number from 0",
        ),
        (lambda c: c["data"].update(split={"test": 2}), "config.json: Section 'data', split: test must be a number of"),
        (
            lambda c: c["statistics"].update(residual_noise_std=-1),
            "config.json: Section 'statistics': residual_noise_std",
        ),
        (lambda c: c["sampler"]["config"].update(log_snr_min=9), "config.json: ContinuousSampler: log_snr_min must be"),
        (lambda c: c["preprocess"].update(shape=[10**5] * 3), "has more than 2147483648 voxels"),
        (
            lambda c: c["sampler"].update(name="ddpm", config={"train_steps": 10**12}),
            "train_steps must be a whole number from 2 to 100000",
        ),
    ],
)
def test_invalid_config_is_refused(folder: Path, change: Any, problem: str) -> None:
    edit(folder, change)
    with pytest.raises(LongigenError) as caught:
        LongitudinalModel.from_pretrained(folder)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_large_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(" " * 2**20 + "{}")
    with pytest.raises(LongigenError, match="is not a model's configuration: it is larger than 1048576 bytes"):
        LongitudinalModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("part", "changes", "problem"),
    [
        ("denoiser", {"width": 10**6}, "tensors have another shape, such as 'denoiser."),
        ("denoiser", {"width": 10**15}, "config.json describes networks that cannot be composed"),
        ("denoiser", {"blocks": 10**9}, "which describes many times as many tensors"),
        ("denoiser", {"multipliers": [1] * 12}, "it lacks "),
        ("conditioner", {"dim": 10**6}, "have another shape, such as 'conditioner."),
        ("conditioner", {"depth": 10**9}, "which describes many times as many tensors"),
    ],
)
def test_config_of_a_huge_network_uses_neither_time_nor_memory(
    folder: Path, part: str, changes: dict[str, Any], problem: str
) -> None:
    edit(folder, lambda config: config[part]["config"].update(changes))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(LongigenError) as caught:
        LongitudinalModel.from_pretrained(folder)
    assert problem in str(caught.value)
    assert time.perf_counter() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_invalid_safetensors_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")

    def with_header(**changes: Any) -> bytes:
        text = json.dumps({**header, name: {**header[name], **changes}}).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    for data, problem in [
        (content[:-1], "is truncated: it has 22631 bytes, where its header requires 22632; copy or pull it again"),
        (content + b"x", "is too long: it has 22633 bytes"),
        (content[:100], "is truncated"),
        (b"", "is not a safetensors file"),
        (b"\x80\x04\x95" + b"x" * 100, "is not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "has an invalid header"),
        (struct.pack("<Q", 2) + b"{x", "is damaged"),
        (with_header(dtype="F8_E9"), "has the unsupported type F8_E9"),
        (with_header(shape=[-4]), "has the shape -4"),
        (with_header(shape=[10**12]), "do not match 1000000000000 of F32"),
        (with_header(data_offsets=None), "has an invalid header"),
    ]:
        path.write_bytes(data)
        for read in (lambda: read_header(path), lambda: LongitudinalModel.from_pretrained(folder)):
            with pytest.raises(LongigenError) as caught:
                read()
            assert problem in str(caught.value)
            assert str(path) in str(caught.value)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    first = next(name for name in tensors if tensors[name].ndim > 1)
    rest = {name: tensor for name, tensor in tensors.items() if name != first}
    for given, problem in [
        (rest, f"it lacks 1 of {len(tensors)} tensors, such as '{first}'"),
        ({**tensors, "extra": torch.zeros(2)}, "it has 1 tensors that the model does not have, such as 'extra'"),
        (
            {**rest, first: torch.zeros(3, 2)},
            f"1 tensors have another shape, such as '{first}', which is 3 × 2 in the file and ",
        ),
        (
            {**rest, first: tensors[first].to(torch.int32)},
            f"1 tensors have another type, such as '{first}', I32 in the file",
        ),
    ]:
        save_file({name: tensor.contiguous() for name, tensor in given.items()}, path)
        with pytest.raises(LongigenError) as caught:
            LongitudinalModel.from_pretrained(folder)
        assert f"{path} does not fit the config.json beside it: {problem}" in str(caught.value)


def test_half_precision_weights_are_loaded(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    model = LongitudinalModel.from_pretrained(folder)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert path.stat().st_size < 16_000


def test_sampler_is_created_off_the_meta_device(folder: Path) -> None:
    """A sampler computes its schedule in the constructor, which diffusers cannot do on the meta device."""
    edit(folder, lambda config: config.update(sampler={"name": "flow", "config": {}}))
    assert LongitudinalModel.from_pretrained(folder).sampler.kind == "sampler"
