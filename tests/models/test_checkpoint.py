"""Weights against their configuration, before memory is allocated."""

import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.files import FIXTURES
from helpers.models import edit_config
from longigen import LongigenError, LongitudinalModel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "schema-1", tmp_path / "model")


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
    edit_config(folder, lambda config: config[part]["config"].update(changes))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(LongigenError) as caught:
        LongitudinalModel.from_pretrained(folder)
    assert problem in str(caught.value)
    assert time.process_time() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


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
    edit_config(folder, lambda config: config.update(sampler={"name": "flow", "config": {}}))
    assert LongitudinalModel.from_pretrained(folder).sampler.kind == "sampler"
