"""Tests of ``longigen pull`` with the unmodified Hub client and a local Hub server."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from helpers.models import FIXTURE, METRICS
from helpers.processes import NewMachine
from hubserver import Hub, Machine
from longigen.hub.manifest import FILES, Content

FILES_OF = {name: (FIXTURE / name).read_bytes() for name in ("config.json", "model.safetensors")}
FILES_OF |= {"README.md": b"---\nlicense: cc-by-4.0\n---\n", "metrics.json": json.dumps(METRICS).encode()}
WEIGHTS = FILES_OF["model.safetensors"]
BIG = 24_000_000


def big_weights() -> bytes:
    """Return a large safetensors file, not of a longigen model, but valid for pull."""
    return save({"x": np.random.default_rng(0).integers(0, 255, BIG, dtype=np.uint8)})


def snapshot(machine: Machine) -> list[str]:
    return sorted(path.name for path in machine.cache.glob("models--lab--brain/snapshots/*/*"))


def error_of(machine: Machine, *words: str, **environment: str) -> str:
    """Run a command that must fail, and return its error message of one sentence."""
    result = machine.longigen(*words, status=2, **environment)
    lines = [line for line in result.stderr.splitlines() if line.startswith("longigen: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    return lines[0]


def test_pulled_model_is_used_without_the_network(hub: Hub, machine: NewMachine) -> None:
    first = hub.seed("lab/brain", {**FILES_OF, "setup.py": b"raise RuntimeError", "pytorch_model.bin": b"\x80\x04."})
    desk = machine()
    result = desk.longigen("pull", "hf-hub:lab/brain")
    assert f"hf-hub:lab/brain@{first.oid} (which is main)" in result.stdout
    assert "cc-by-4.0" in result.stdout
    assert result.stdout.splitlines()[-1] == "next: longigen generate hf-hub:lab/brain"
    assert "model.safetensors" in result.stderr  # progress, as plain lines
    assert snapshot(desk) == sorted(FILES)
    assert not hub.requests("*", "*setup.py")
    assert not hub.requests("*", "*pytorch_model.bin")

    hub.seed("lab/brain", {"README.md": b"---\nlicense: mit\n---\n"})
    hub.forget()
    out = desk.home / "out"
    desk.longigen("generate", "lab/brain", "--subject", "sim-0001", "--times", "+1", "--out", out)
    assert len(list(out.glob("sub-sim0001/ses-*/anat/*.nii.gz"))) == 1
    listed = desk.longigen("list", "models").stdout
    assert "hf-hub:lab/brain@main" in listed
    assert "3,708 parameters" in listed
    info = yaml.safe_load(desk.longigen("info", "hf-hub:lab/brain").stdout)
    assert info["licence"] == "cc-by-4.0"
    assert info["metrics"]["full"] == {"psnr": [43.43, 41.44]}
    assert Path(info["folder"]).name == first.oid
    assert hub.requests() == []  # a pulled model is not updated until the next pull

    plain = json.loads(desk.longigen("pull", "lab/brain", "--json").stdout)
    assert plain["revision"] != first.oid
    assert plain["licence"] == "mit"
    assert plain["received"] < 200  # the other files were in the cache
    assert desk.longigen("pull", "lab/brain@main", HF_HUB_OFFLINE="1").stdout.startswith("lab/brain@main is hf-hub:")
    desk.longigen("pull", f"lab/brain@{first.oid}", HF_HUB_OFFLINE="1")


def test_killed_pull_is_resumed(hub: Hub, machine: NewMachine) -> None:
    content = big_weights()
    hub.seed("lab/brain", {**FILES_OF, "model.safetensors": content})
    stalled = hub.faults.stall("*/model.safetensors", 20_500_000)
    desk = machine()
    process = desk.start("-m", "longigen_cli", "pull", "hf-hub:lab/brain")
    assert stalled.reached.wait(300)
    (part,) = desk.cache.glob("models--lab--brain/blobs/*.incomplete")
    deadline = time.monotonic() + 300
    while part.stat().st_size < 10_000_000 and time.monotonic() < deadline:
        time.sleep(0.05)  # sent bytes are not written immediately
    process.kill()
    process.communicate()
    stalled.release()
    received_before = part.stat().st_size
    assert received_before >= 10_000_000
    assert "model.safetensors" not in snapshot(desk)
    assert "is not on this machine; download it with 'longigen pull lab/brain'" in error_of(desk, "info", "lab/brain")
    hub.faults.clear()
    hub.forget()
    plain = json.loads(desk.longigen("pull", "hf-hub:lab/brain", "--json").stdout)
    assert plain["received"] == len(content) - received_before
    assert hub.requests("GET", "*model.safetensors*")[-1].range == f"bytes={received_before}-"
    assert plain["files"]["model.safetensors"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert not list(desk.cache.glob("models--lab--brain/blobs/*.incomplete"))


def test_damaged_partial_file_is_downloaded_again(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF)
    desk = machine()
    blobs = desk.cache / "models--lab--brain" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.incomplete").write_bytes(b"x" * 1000)
    plain = json.loads(desk.longigen("pull", "lab/brain", "--json").stdout)
    assert plain["files"]["model.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_server_that_ignores_range_requests(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF)
    hub.faults.ignore_ranges("*/model.safetensors")
    desk = machine()
    blobs = desk.cache / "models--lab--brain" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.incomplete").write_bytes(WEIGHTS[:1000])
    plain = json.loads(desk.longigen("pull", "lab/brain", "--json").stdout)
    assert hub.requests("GET", "*model.safetensors*")[-1].range == "bytes=1000-"
    assert plain["received"] == sum(map(len, FILES_OF.values()))
    assert plain["files"]["model.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_incomplete_download_is_resumed_by_the_next_pull(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF)
    hub.faults.shorten("*/model.safetensors", 100)
    desk = machine()
    said = error_of(desk, "pull", "lab/brain")
    assert "ended before model.safetensors of 'lab/brain' was complete" in said
    assert "There is no folder lab/brain here, so the Hub was asked for it." in said
    (part,) = desk.cache.glob("models--lab--brain/blobs/*.incomplete")
    assert part.read_bytes() == WEIGHTS[:-100]
    hub.faults.clear()
    assert json.loads(desk.longigen("pull", "lab/brain", "--json").stdout)["received"] == 100


@pytest.mark.parametrize("reset", [False, True])
def test_broken_connection_is_resumed(hub: Hub, machine: NewMachine, reset: bool) -> None:
    hub.seed("lab/brain", {**FILES_OF, "model.safetensors": big_weights()})
    hub.faults.cut("*/model.safetensors", after=11_000_000, reset=reset)
    desk = machine()
    process = desk.start("-m", "longigen_cli", "pull", "lab/brain")
    _, stderr = process.communicate(timeout=300)
    if process.returncode:  # the client does not retry after a reset
        assert "it continues where it stopped" in stderr
        desk.longigen("pull", "lab/brain")
    assert snapshot(desk) == sorted(FILES)


def test_concurrent_pulls_into_one_cache(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", {**FILES_OF, "model.safetensors": big_weights()})
    desk = machine()
    processes = [desk.start("-m", "longigen_cli", "pull", "lab/brain", "--json") for _ in range(3)]
    done = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], done
    answers = [json.loads(stdout) for stdout, _ in done]
    assert len({answer["folder"] for answer in answers}) == 1
    assert sum(answer["received"] > BIG for answer in answers) == 1
    assert len(hub.requests("GET", "*/resolve/*/model.safetensors")) == 1


def test_corrupted_download_is_not_stored(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF)
    hub.faults.corrupt("*/model.safetensors", at=5000)
    desk = machine()
    sentence = error_of(desk, "pull", "lab/brain")
    assert "model.safetensors of 'lab/brain' has the wrong content: its SHA-256 is" in sentence
    assert snapshot(desk) == ["README.md", "config.json", "metrics.json"]
    assert not [path for path in desk.cache.glob("models--lab--brain/blobs/*") if path.stat().st_size == len(WEIGHTS)]
    assert error_of(desk, "generate", "lab/brain") == sentence
    hub.faults.clear()
    desk.longigen("pull", "lab/brain")

    weights = next(desk.cache.glob("models--lab--brain/snapshots/*/model.safetensors"))
    weights.resolve().write_bytes(WEIGHTS[:-9] + b"x" * 9)
    assert "model.safetensors has the wrong content" in error_of(desk, "generate", "lab/brain")
    assert "'longigen pull lab/brain' downloads it again" in error_of(desk, "generate", "lab/brain")
    desk.longigen("pull", "lab/brain")
    assert weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"pytorch_model.bin": b"x", "config.json": FILES_OF["config.json"]},
            "weights in other formats, such as pickle",
        ),
        ({"model.safetensors": WEIGHTS}, "has no longigen model (config.json is missing)"),
        ({**FILES_OF, "config.json": b'{"model_type": "bert"}'}, "is not the configuration of a longigen model"),
        (
            {**FILES_OF, "config.json": b"x" * 9_000_000},
            "has a config.json of 9000000 bytes, more than the limit of 8388608",
        ),
        (
            {**FILES_OF, "model.safetensors": WEIGHTS[:-8]},
            "is truncated: it has 22624 bytes, where its header requires 22632",
        ),
        ({**FILES_OF, "model.safetensors": b"\x80\x04." + b"x" * 90_000}, "is not a safetensors file"),
        (
            {**FILES_OF, "config.json": FILES_OF["config.json"].replace(b'version": 1', b'version": 9', 1)},
            "has schema_version 9, which is newer than this longigen reads (3); upgrade longigen",
        ),
    ],
)
def test_repository_without_a_valid_model_is_refused(
    hub: Hub, machine: NewMachine, files: dict[str, bytes], problem: str
) -> None:
    hub.seed("lab/brain", files)
    desk = machine()
    assert problem in error_of(desk, "pull", "lab/brain")
    assert "model.safetensors" not in snapshot(desk)
    if b"longigen" not in files.get("config.json", b"") or b'version": 9' in files["config.json"]:
        assert not hub.requests("GET", "*/resolve/*/model.safetensors")


def test_missing_or_insufficient_token(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF, private=True)
    assert "has no repository 'lab/brain' that is public; check its name, and if it is private" in error_of(
        machine(), "pull", "lab/brain"
    )
    assert "has no repository 'lab/brain' that your token may read" in error_of(
        machine(token=hub.stranger_token), "pull", "lab/brain"
    )
    assert "refuses your token" in error_of(machine(token="hf_wrong"), "pull", "lab/brain")  # noqa: S106
    assert "has no repository 'lab/nothing'" in error_of(machine(token=hub.token), "pull", "lab/nothing")
    desk = machine(token=hub.read_token)
    desk.longigen("pull", "lab/brain")
    hub.repositories.pop("lab/brain")
    desk.longigen("info", "lab/brain")


def test_revisions(hub: Hub, machine: NewMachine) -> None:
    first = hub.seed("lab/brain", FILES_OF)
    desk = machine()
    assert "does not have the revision 'v1'" in error_of(desk, "pull", "lab/brain@v1")
    gone = "f" * 40
    assert f"does not have the revision '{gone}'" in error_of(desk, "pull", f"lab/brain@{gone}")
    plain = json.loads(desk.longigen("pull", f"hf-hub:lab/brain@{first.oid}", "--json").stdout)
    assert plain["revision"] == first.oid
    assert "download it with 'longigen pull lab/brain@v1'" in error_of(desk, "info", "lab/brain@v1")


def test_pull_without_a_network(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", FILES_OF)
    desk = machine()
    offline = {"HF_HUB_OFFLINE": "1"}
    assert "is not in the cache, and HF_HUB_OFFLINE forbids" in error_of(desk, "pull", "lab/brain", **offline)
    assert "is not in the cache, and HF_HUB_OFFLINE forbids" in error_of(desk, "generate", "lab/brain", **offline)
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "cannot be reached" in error_of(desk, "pull", "lab/brain", **nobody)
    desk.longigen("pull", "lab/brain")
    again = desk.longigen("pull", "lab/brain", **nobody)
    assert "cannot be reached" in again.stderr
    assert "The files downloaded before are used instead" in again.stderr
    hub.faults.fail("/api/models/lab/brain*", 500, times=None)
    assert "cannot send 'lab/brain' (status 500)" in desk.longigen("pull", "lab/brain").stderr


def test_hub_model_must_match_its_registry_entry(hub: Hub, machine: NewMachine, tmp_path: Path) -> None:
    """The hashes and revision of the registry.yaml are decisive, not those of the repository."""
    first = hub.seed("lab/brain", FILES_OF)
    files = {name: Content(len(data), hashlib.sha256(data).hexdigest()) for name, data in FILES_OF.items()}

    def machine_with(**changes: Any) -> tuple[Machine, dict[str, str]]:
        site = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
        manifest = {name: {"sha256": content.digest, "size": content.size} for name, content in files.items()}
        entry = {
            "summary": "tiny",
            "source": "hf-hub:lab/brain",
            "revision": first.oid,
            "files": {**manifest, **changes},
            "licence": "mit",
            "data": "sim-brain",
            "parameters": 3708,
        }
        (site / "lab_models").mkdir(parents=True)
        (site / "lab_models" / "__init__.py").write_text("")
        index = {"schema_version": 1, "models": {"brain": entry}}
        (site / "lab_models" / "registry.yaml").write_text(yaml.safe_dump(index))
        info = site / "lab_models-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-models\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[longigen.registry]\nlab = lab_models\n")
        return machine(), {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    desk, environment = machine_with()
    hub.seed("lab/brain", {"model.safetensors": WEIGHTS[:-1] + b"x"})  # a later commit, which is not used
    assert "not here yet: longigen pull brain" in desk.longigen("info", "brain", **environment).stdout
    result = desk.longigen("pull", "brain", **environment)
    assert f"brain is hf-hub:lab/brain@{first.oid}: 3,708 parameters" in result.stdout
    hub.forget()
    desk.longigen("pull", "brain", **environment)
    assert desk.longigen("info", "brain", **environment).stdout.count(first.oid) == 2
    assert hub.requests() == []

    desk, environment = machine_with(**{"model.safetensors": {"sha256": "0" * 64, "size": len(WEIGHTS)}})
    assert "has a different model.safetensors than its entry in the registry.yaml" in error_of(
        desk, "pull", "brain", **environment
    )
    desk, environment = machine_with(**{"config.json": {"sha256": "0" * 64, "size": len(FILES_OF["config.json"])}})
    sentence = error_of(desk, "pull", "brain", **environment)
    assert "config.json of 'lab/brain' has the wrong content: its SHA-256" in sentence
    assert snapshot(desk) == []
