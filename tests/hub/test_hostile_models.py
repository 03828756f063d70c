"""Folders of models that somebody made to exhaust time or memory, or to act on a terminal: each is one sentence."""

import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from helpers.files import FIXTURES
from helpers.models import METRICS, edit_config
from helpers.processes import Longigen
from longigen import LongigenError, LongigenWarning, LongitudinalModel
from longigen.hub.model_summary import ModelSummary

SECONDS, KILOBYTES = 2, 100_000
"""The most time (twice what it should take on a machine at rest) and memory that a refusal may take."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = shutil.copytree(FIXTURES / "schema-3", tmp_path / "model")
    LongitudinalModel.from_pretrained(folder)  # its modules are imported, and do not count
    return folder


def config(section: str, **values: Any) -> Callable[[Path], None]:
    def change(content: dict[str, Any]) -> None:
        part = content[section]
        part.get("config", part).update(values)

    return lambda folder: edit_config(folder, change)


def content(name: str, text: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(text) and None


def header(text: str) -> Callable[[Path], None]:
    return content("model.safetensors", struct.pack("<Q", len(text)) + text.encode())


def device(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return link


def pipe(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def number(value: float) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        name = max(tensors, key=lambda name: tensors[name].numel())
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        tensors[name].view(-1)[3] = value
        save_file(tensors, folder / "model.safetensors")

    return write


DIGITS, DEEP = "9" * 4_000, "[" * 100_000
NESTED = '{"a":' * 100_000 + "1" + "}" * 100_000
TENSOR = '"dtype": "F32", "data_offsets": [0, 4]'


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (config("preprocess", shape=[1290] * 3), "more than 268,435,456 voxels"),
        (config("preprocess", shape=[10**9] * 3), "preprocess"),
        (config("preprocess", shape="[" * 100_000), "shape must be 3 whole numbers"),
        (config("preprocess", shape="[" * 900), "shape must be 3 whole numbers"),
        (config("preprocess", spacing=[1e-9] * 3), "spacing must be 3 numbers from 0.001 to 1000"),
        (config("preprocess", extent=[1e30] * 3), "extent"),
        (config("sampler", steps=10**9), "steps must be a whole number from 1 to 100000"),
        (config("sampler", steps=10**4_000), "steps"),
        (config("statistics", channels=10**9), "channels"),
        (content("config.json", DEEP.encode()), "nested too deeply"),
        (content("config.json", NESTED.encode()), "nested too deeply"),
        (content("config.json", b" " * 2**23 + b"{}"), "more than the limit"),
        (content("config.json", f'{{"schema_version": {"9" * 10_000}}}'.encode()), "config.json"),
        (device("config.json"), "not a regular file"),
        (pipe("config.json"), "not a regular file"),
        (device("model.safetensors"), "not a regular file"),
        (pipe("model.safetensors"), "not a regular file"),
        (header(DEEP), "nested too deeply"),
        (header(f'{{"a": {{"shape": [{", ".join([DIGITS] * 900)}], {TENSOR}}}}}'), "larger numbers than any tensor"),
        (header(f'{{"a": {{"shape": [{DIGITS}], {TENSOR}}}}}'), "larger numbers than any tensor"),
        (header(f'{{"a": {{"shape": [{"1, " * 10**6}1], {TENSOR}}}}}'), "more axes"),
        (header('{"a": {"shape": [1], "dtype": "F32", "data_offsets": [0, ' + DIGITS + "]}}"), "larger numbers"),
        (header(" " * 2**23), "not a safetensors file"),
        (number(float("nan")), "has NaN or infinite weights in 1 tensors"),
        (number(float("inf")), "has NaN or infinite weights in 1 tensors"),
    ],
)
def test_a_hostile_model_is_a_sentence(folder: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(folder)
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(LongigenError) as caught:
        LongitudinalModel.from_pretrained(folder)
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < KILOBYTES
    assert problem in str(caught.value)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("damage", [device, pipe])
@pytest.mark.parametrize("name", ["README.md", "metrics.json"])
def test_a_summary_reads_no_device(folder: Path, name: str, damage: Callable[[str], Callable[[Path], None]]) -> None:
    damage(name)(folder)
    with pytest.warns(LongigenWarning, match=f"{name} is ignored .*not a regular file"):
        assert ModelSummary.from_folder(folder).parameters


ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp"


def test_text_of_strangers_does_not_act_on_the_terminal(longigen: Longigen, folder: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["data"]["name"] = f"data{ESCAPE}"

    edit_config(folder, change)
    (folder / "README.md").write_text(f"---\nlicense: {json.dumps('mit' + ESCAPE)}\n---\n")
    rows = [{**row, "setting": f"full{ESCAPE}"} for row in METRICS["rows"]]
    (folder / "metrics.json").write_text(json.dumps({**METRICS, "rows": rows}))
    table = tmp_path / "visits.csv"
    table.write_text(f"subject,time,path\ns{ESCAPE},0,nothing{ESCAPE}.nii.gz\n")
    named = shutil.copytree(folder, tmp_path / f"model{ESCAPE}")
    edit_config(named, lambda config: config["conditioner"].update(name=f"part{ESCAPE}"))
    for arguments, status in [
        (["info", folder], 0),
        (["info", folder, "--json"], 0),
        (["pull", folder], 0),
        (["generate", named], 2),
        (["doctor", table], 2),
        (["train", "--data", table], 2),
        (["train", "--recipe", f"a{ESCAPE}"], 2),
    ]:
        result = longigen(*arguments, status=status)
        for text in (result.stdout, result.stderr):
            assert not set(text) & set("\x1b\x07\x9b\u202e"), (arguments, text)
        shown = result.stdout + result.stderr
        assert any(escaped in shown for escaped in ("\\u001b", "\\x1b", "\\e")), (arguments, shown)
        if "--json" in arguments:
            assert json.loads(result.stdout)["data"]["name"] == f"data{ESCAPE}"
