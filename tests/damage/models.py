"""Damaged models and runs: folders of weights and configurations, results, run.json, and checkpoints."""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn

from damage import Damaged, Expected
from helpers.files import FIXTURES, ROOT
from longigen import LongitudinalModel, ModelSummary, Preprocess, Recipe, Run
from longigen.data.seen import TrainedOn
from longigen.hub.metrics_file import MetricsFile
from longigen.hub.model_config import read_config
from longigen.training.checkpoint import TrainingState

PUBLISHED = ROOT / "plugins" / "longigen_models"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**6, 10**30, 0.5, -0.5, 1e308, "", "x", "1", "a/b", "\0", "é" * 300),
    *([], [1], [None], ["x"], [[1, 2], [3]], [1, 2, 3], {}, {"a": 1}, {"name": "sadm"}, [{"a": []}], 10**400),
)
TOKENS = ("NaN", "Infinity", "-Infinity", "1e999", "1e-999", "9" * 5000, "nan", "'x'", "01", "+1", "0x1", '"\\ud800"')
"""What JSON does not have, and what Python reads in another way."""


def draw(random: np.random.Generator, folder: Path) -> Damaged:
    """Write a damaged model, run or checkpoint into an empty folder."""
    return (_model, _model, _model, _metrics, _run, _checkpoint, _checkpoint)[random.integers(7)](random, folder)


def _model(random: np.random.Generator, folder: Path) -> Damaged:
    name = f"schema-{random.integers(1, 4)}"
    place = folder / "model"
    shutil.copytree(FIXTURES / name, place)
    damages = (*JSON_DAMAGES, *WEIGHTS_DAMAGES)
    damage = damages[random.integers(len(damages))]
    file = place / ("config.json" if damage in JSON_DAMAGES else "model.safetensors")
    expected, words = damage(file, random)
    return Damaged(f"{name} {damage.__name__} {words}", expected, "model", partial(_read_model, place), _truth(name))


@cache
def _truth(name: str) -> Any:
    return _read_model(FIXTURES / name)


def _read_model(folder: Path) -> Any:
    """Read a model as info, pull, generate, train --init and forecast do; return what it is."""
    str(ModelSummary.from_folder(folder))
    config = read_config(folder)
    model = LongitudinalModel.from_pretrained(str(folder))
    data = model.provenance.data
    TrainedOn.of(data)
    if model.provenance.preprocess:
        Preprocess.from_config(model.provenance.preprocess)
    first, last = data.get("intervals", (0.0, 1.0))
    str(data.get("name")), dict(data.get("parameters", {})), first + last, data.get("subjects", 0) + 1
    list(data.get("split", {}).items()), list(data.get("parts", {}).items())
    training = model.provenance.training
    list(training.get("changes", {}).items()), list(training.get("withheld", [])), training.get("steps", 0) + 1
    for component in (model.conditioner, model.denoiser, model.sampler):
        json.dumps({key: str(value) for key, value in component.config.items()})
    asdict(model.settings)
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    return config, hashlib.sha256(weights).hexdigest()


def _metrics(random: np.random.Generator, folder: Path) -> Damaged:
    """Damage the results beside the weights, as evaluate, push and info read them."""
    place = folder / "model"
    place.mkdir()
    for name in ("config.json", "model.safetensors"):
        os.link(PUBLISHED / "sadm-sim-brain" / name, place / name)
    shutil.copy(PUBLISHED / "sadm-sim-brain" / "metrics.json", place / "metrics.json")
    damage = JSON_DAMAGES[random.integers(len(JSON_DAMAGES))]
    expected, words = damage(place / "metrics.json", random)
    truth = _read_metrics(PUBLISHED / "sadm-sim-brain")
    return Damaged(f"metrics.json {damage.__name__} {words}", expected, "", partial(_read_metrics, place), truth)


def _read_metrics(folder: Path) -> Any:
    str(ModelSummary.from_folder(folder))
    found = MetricsFile.read(folder)
    if found is None:
        return None
    list(found.gains()), found.verdict(), found.place, [row.label for row in found.rows]
    return found.content


def _run(random: np.random.Generator, folder: Path) -> Damaged:
    """Damage the run.json that --resume, generate and evaluate read."""
    run = Run(folder / "run")
    recipe = _recipe()
    run.write(recipe, {"train": ["a", "b"], "validation": ["c"], "test": []}, [{"step": 0, "steps": 9}])
    truth = _read_run(run)
    damage = JSON_DAMAGES[random.integers(len(JSON_DAMAGES))]
    expected, words = damage(run.folder / "run.json", random)
    return Damaged(f"run.json {damage.__name__} {words}", expected, "", partial(_read_run, run), truth)


@cache
def _recipe() -> Recipe:
    return Recipe.resolve("sadm-tiny")


def _read_run(run: Run) -> Any:
    content = Run.open(run.folder).read()
    return Recipe.from_dict(content["recipe"], origin=content.get("origin")).to_dict(), content["split"]


Outcome = tuple[Expected, str]


def changed_value(file: Path, random: np.random.Generator) -> Outcome:
    """Replace one value by one of another type or range; it may be legal, and then nobody could know."""
    content = json.loads(file.read_text())
    places = list(_places(content))
    owner, key, path = places[random.integers(len(places))]
    owner[key] = VALUES[random.integers(len(VALUES))]
    file.write_text(json.dumps(content))
    return Expected.CHANGED, f"{path} = {str(owner[key])[:40]!r}"


def changed_key(file: Path, random: np.random.Generator) -> Outcome:
    """Leave a key out, misspell one, or add one."""
    content = json.loads(file.read_text())
    places = [place for place in _places(content) if isinstance(place[0], dict)]
    owner, key, path = places[random.integers(len(places))]
    how = ("left out", "misspelt", "added")[random.integers(3)]
    value = owner[key] if how == "added" else owner.pop(key)
    if how != "left out":
        owner[f"{key}_"] = value
    file.write_text(json.dumps(content))
    return Expected.CHANGED, f"{path} {how}"


def _places(content: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield each place of a value in nested JSON: its owner, its key or index, and its path."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key, f"{path}.{key}"
        if isinstance(content[key], dict | list):
            yield from _places(content[key], f"{path}.{key}")


def doubled_key(file: Path, random: np.random.Generator) -> Outcome:
    """Give an object a second value of a key."""
    content = json.loads(file.read_text())
    places = [place for place in _places(content) if isinstance(place[0], dict)]
    owner, key, path = places[random.integers(len(places))]
    value = owner[key]
    other = next(v for v in (VALUES[random.integers(len(VALUES))], "another") if v != value)
    owner[f"{key}@"] = other
    file.write_text(json.dumps(content).replace(f'"{key}@"', f'"{key}"'))
    return Expected.REFUSED, f"{path} = {str(other)[:40]!r} too"


def odd_token(file: Path, random: np.random.Generator) -> Outcome:
    """Write something that is not JSON, or not the same everywhere, in the place of a value."""
    content = json.loads(file.read_text())
    places = list(_places(content))
    owner, key, path = places[random.integers(len(places))]
    token = TOKENS[random.integers(len(TOKENS))]
    owner[key] = "@@"
    file.write_text(json.dumps(content).replace('"@@"', token))
    legal = token in ('"\\ud800"', "1e-999")
    return Expected.CHANGED if legal else Expected.REFUSED, f"{path} = {token[:30]}"


def other_text(file: Path, random: np.random.Generator) -> Outcome:
    text = file.read_bytes()
    choices = (
        ("empty", Expected.REFUSED, b""),
        ("spaces", Expected.REFUSED, b" " * 99),
        ("a list", Expected.REFUSED, b"[" + text + b"]"),
        ("twice", Expected.REFUSED, text + text),
        ("deep", Expected.REFUSED, b"[" * 100_000),
        ("deep object", Expected.REFUSED, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("BOM", Expected.EITHER, b"\xef\xbb\xbf" + text),
        ("UTF-16", Expected.REFUSED, text.decode().encode("utf-16")),
        ("latin-1", Expected.REFUSED, text[:-2] + b', "x": "\xe9"}'),
        ("binary", Expected.REFUSED, random.bytes(900)),
        ("null", Expected.REFUSED, b"null"),
        ("CRLF", Expected.SAME, text.replace(b"\n", b"\r\n")),
        ("YAML", Expected.REFUSED, b"schema_version: 3\n"),
    )
    words, expected, content = choices[random.integers(len(choices))]
    file.write_bytes(content)
    return expected, words


def no_file(file: Path, random: np.random.Generator) -> Outcome:
    what = ("absent", "folder", "broken link")[random.integers(3)]
    file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "broken link":
        file.symlink_to("elsewhere")
    optional = file.name == "metrics.json" and what != "folder"
    return Expected.CHANGED if optional else Expected.REFUSED, what


def cut(file: Path, random: np.random.Generator) -> Outcome:
    content = file.read_bytes().rstrip()
    keep = int(random.integers(len(content)))
    file.write_bytes(content[:keep])
    return Expected.REFUSED, f"after {keep} of {len(content)}"


def flipped_bits(file: Path, random: np.random.Generator) -> Outcome:
    """Flip bits: a local folder has no checksum of them, so only what does not fit is found."""
    content = bytearray(file.read_bytes())
    for place in random.integers(0, len(content), size=random.integers(1, 6)):
        content[place] ^= 1 << int(random.integers(8))
    file.write_bytes(content)
    return Expected.CHANGED, ""


def flipped_header(file: Path, random: np.random.Generator) -> Outcome:
    """Flip a bit in the header of a safetensors file."""
    content = bytearray(file.read_bytes())
    end = 8 + struct.unpack("<Q", content[:8])[0]
    place = int(random.integers(end if random.random() < 0.7 else 8))
    content[place] ^= 1 << int(random.integers(8))
    file.write_bytes(content)
    return Expected.CHANGED, f"byte {place}"


def followed(file: Path, random: np.random.Generator) -> Outcome:
    file.write_bytes(file.read_bytes() + (b"\0", b"x" * 99, bytes(4096))[random.integers(3)])
    return Expected.REFUSED, ""


def other_tensors(file: Path, random: np.random.Generator) -> Outcome:
    """Leave out, add, rename, reshape or retype a tensor, or make one of its numbers NaN."""
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    names = [name for name in tensors if tensors[name].is_floating_point() and tensors[name].numel()]
    name = names[random.integers(len(names))]
    how = ("left out", "added", "renamed", "reshaped", "integers", "complex", "half", "nan", "none")[random.integers(9)]
    tensor = tensors.pop(name)
    expected = Expected.REFUSED
    if how == "added":
        tensors |= {name: tensor, "more": torch.ones(2)}
    elif how == "renamed":
        tensors[f"{name}_"] = tensor
    elif how == "reshaped":
        tensors[name] = torch.cat([tensor.flatten(), torch.ones(1)])
    elif how == "integers":
        tensors[name] = tensor.to(torch.int32)
    elif how == "complex":
        tensors[name] = tensor.to(torch.complex64)
    elif how == "half":
        tensors[name] = tensor.to(torch.float16)
        expected = Expected.CHANGED
    elif how == "nan":
        tensor.view(-1)[0] = torch.nan
        tensors[name] = tensor
    elif how == "none":
        tensors = {}
    save_file(tensors, file)
    return expected, f"{name} {how}"


JSON_DAMAGES: tuple[Callable[[Path, np.random.Generator], Outcome], ...] = (
    changed_value,
    changed_value,
    changed_value,
    changed_key,
    doubled_key,
    odd_token,
    odd_token,
    other_text,
    no_file,
    cut,
    flipped_bits,
)
WEIGHTS_DAMAGES: tuple[Callable[[Path, np.random.Generator], Outcome], ...] = (
    no_file,
    cut,
    flipped_bits,
    flipped_header,
    followed,
    other_tensors,
    other_tensors,
)


def _checkpoint(random: np.random.Generator, folder: Path) -> Damaged:
    """Damage a file of a checkpoint; half of them have checksums of what is damaged, as somebody could write them."""
    place = folder / "step-0000003"
    shutil.copytree(_saved(5), place)
    signed = random.random() < 0.5
    kind = random.integers(4)
    if kind == 0:
        shutil.rmtree(place)
        shutil.copytree(_saved(6), place)
        return Damaged("another model's checkpoint", Expected.REFUSED, "step-", partial(_load, place), _load(_saved(5)))
    name = ("state.safetensors", "state.json", "random-0.json", "SHA256SUMS")[random.integers(4)]
    if name.endswith(".safetensors"):
        damage = WEIGHTS_DAMAGES[random.integers(len(WEIGHTS_DAMAGES))]
    elif name.endswith(".json"):
        damage = JSON_DAMAGES[random.integers(len(JSON_DAMAGES))]
    else:
        damage = (no_file, cut, flipped_bits)[random.integers(3)]
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    expected, words = damage(place / name, random)
    if name == "state.safetensors" and words.endswith(" nan"):
        expected = Expected.CHANGED  # a training that diverges has them
    after = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    if signed and name != "SHA256SUMS":
        lines = [f"{hashlib.sha256(content).hexdigest()}  {file}\n" for file, content in sorted(after.items())]
        (place / "SHA256SUMS").write_text("".join(line for line in lines if not line.endswith("SHA256SUMS\n")))
    elif name != "SHA256SUMS" and before != after:
        expected = Expected.REFUSED
    elif name == "SHA256SUMS":
        expected = Expected.EITHER
    words = f"{name} {damage.__name__} {words}{', with its checksum' if signed else ''}"
    return Damaged(f"checkpoint {words}", expected, "step-", partial(_load, place), _load(_saved(5)))


@cache
def _state(width: int) -> TrainingState:
    """Return a training of a network of one layer, after a step."""
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(width, 3)
    optimizer = accelerator.prepare(torch.optim.AdamW(model.parameters()))
    model(torch.ones(2, width)).sum().backward()
    optimizer.step()
    return TrainingState(accelerator, model, EMAModel(model.parameters()), [optimizer], list(model.parameters()), 2)


@cache
def _saved(width: int) -> Path:
    folder = Path(mkdtemp(prefix="longigen-damage-")) / "step-0000003"
    _state(width).save(folder, step=3, seconds=1.5)
    return folder


def _load(folder: Path) -> Any:
    state = _state(5)
    trained = state.load(folder)
    return trained, {name: tensor.tolist() for name, tensor in state._tensors()}
