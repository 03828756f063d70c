"""Tests with olah, an independent mirror of the Hub, as a server of our git repositories and as a client.

olah serves the repositories of `tests/hubserver` in two ways: offline from its git repositories, and as a proxy
of the running server. With local repositories, olah 0.5.4 differs from the Hub in these points, which the tests
therefore do not use: `Range` is ignored (200 with the whole file); an unknown revision or file is
401 `RepoNotFound`; the description of a repository needs a revision (`/api/models/org/name` alone is 401).
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import torch

from hubserver import Hub, Machine
from longigen import LongitudinalModel
from longigen.testing.case import after, history
from longigen_continuous import ContinuousSampler
from longigen_sadm import SADMConditioner
from longigen_unet3d import UNet3D

pytestmark = pytest.mark.mirror

GENERATE = """
import sys, torch
from longigen import LongitudinalModel
from longigen.testing.case import after, history
model = LongitudinalModel.from_pretrained("lab/brain", revision=sys.argv[1])
visits = history((6, 7, 5))
torch.save(model.generate(visits, after(visits)[:, None]), sys.argv[2])
"""
DOWNLOAD = "import sys, huggingface_hub as h; print(h.snapshot_download('lab/brain', revision=sys.argv[1]))"
REVISION = """
import sys, huggingface_hub as h
try:
    h.snapshot_download("lab/brain", revision=sys.argv[1])
except h.errors.RevisionNotFoundError:
    print("no such revision")
"""


@contextmanager
def olah(folder: Path, hub: Hub, *, offline: bool, mirrors: Path | None = None) -> Iterator[str]:
    """Run olah with the hub as its upstream, and yield its address."""
    beside = shutil.which("olah-cli", path=str(Path(sys.executable).parent))
    program = beside or shutil.which("olah-cli")
    if program is None:
        pytest.skip("olah is not installed: 'pip install olah==0.5.4', here or where PATH finds olah-cli")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    upstream, storage = (address.removeprefix("http://") for address in (hub.endpoint, hub.storage))
    (folder / "olah.toml").write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = "{folder / "cache"}"\n'
        f'hf-scheme = "http"\nhf-netloc = "{upstream}"\nhf-lfs-netloc = "{storage}"\n'
        + (f'mirrors-path = ["{mirrors}"]\n' if mirrors else "")
        + f"[accessibility]\noffline = {str(offline).lower()}\n"
    )
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen([program, "-c", "olah.toml"], cwd=folder, stdout=output, stderr=output)
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "output.txt").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def model() -> LongitudinalModel:
    """Return a model with weights."""
    torch.manual_seed(0)
    return LongitudinalModel(
        SADMConditioner(dim=16, heads=2, depth=1, patch=(2, 2, 2)),
        UNet3D(width=8, multipliers=(1, 2), blocks=1, heads=2),
        ContinuousSampler(prediction="v", steps=2),
    ).eval()


@pytest.fixture
def published(hub: Hub, model: LongitudinalModel, tmp_path: Path) -> dict[str, bytes]:
    """Publish the model as `lab/brain` with tag v1 and a later commit on main; return the files of v1."""
    model.save_pretrained(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    files["README.md"] = b"---\nlicense: mit\n---\n"
    hub.repositories.clear()
    commit = hub.seed("lab/brain", files)
    hub.repositories["lab/brain"].tags["v1"] = commit.oid
    hub.seed("lab/brain", {"model.safetensors": b"something else"})
    return files


def download(machine: Machine, revision: str) -> tuple[str, dict[str, bytes], set[str]]:
    """Download the model to a machine; return the commit, the files, and the names of the blobs."""
    snapshot = Path(machine.python(DOWNLOAD, revision).strip())
    blobs = {path.resolve().name for path in snapshot.iterdir()}
    return snapshot.name, {path.name: path.read_bytes() for path in snapshot.iterdir()}, blobs


def machine(folder: Path, name: str, endpoint: str) -> Machine:
    """Return a machine that uses the Hub at the endpoint."""
    (folder / name).mkdir()
    return Machine(folder / name, endpoint)


def test_model_from_a_mirror_of_git_repositories(
    hub: Hub, model: LongitudinalModel, published: dict[str, bytes], tmp_path: Path
) -> None:
    hub.repositories["lab/brain"].write_git(tmp_path / "mirrors" / "models" / "lab" / "brain")
    for folder in ("olah", "home"):
        (tmp_path / folder).mkdir()
    with olah(tmp_path / "olah", hub, offline=True, mirrors=tmp_path / "mirrors") as endpoint:
        commit = hub.repositories["lab/brain"].tags["v1"]
        for revision in ("v1", "main", commit):
            theirs = download(machine(tmp_path, f"theirs-{revision}", endpoint), revision)
            assert not hub.requests()
            ours = download(machine(tmp_path, f"ours-{revision}", hub.endpoint), revision)
            assert theirs == ours
            hub.forget()
        desk = machine(tmp_path, "desk", endpoint)
        desk.python(GENERATE, "v1", tmp_path / "volume.pt")
    visits = history((6, 7, 5))
    assert torch.equal(torch.load(tmp_path / "volume.pt"), model.generate(visits, after(visits)[:, None]))
    assert not hub.requests()


def test_mirror_as_a_client(hub: Hub, published: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "olah").mkdir()
    with olah(tmp_path / "olah", hub, offline=False) as endpoint:
        oid, files, blobs = download(machine(tmp_path, "first", endpoint), "v1")
        assert {name: files[name] for name in published} == published
        assert (oid, files, blobs) == download(machine(tmp_path, "ours", hub.endpoint), "v1")
        assert "no such revision" in machine(tmp_path, "second", endpoint).python(REVISION, "v2")

        hub.forget()
        address = f"{endpoint}/lab/brain/resolve/v1/model.safetensors"
        answer = httpx2.get(address, headers={"Range": "bytes=1000-1999"}, follow_redirects=True)
        assert (answer.status_code, answer.content) == (206, published["model.safetensors"][1000:2000])
        assert not [one for one in hub.requests() if one.host == "storage"]  # the mirror has the file already
