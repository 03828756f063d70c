"""The tests' Hub, under the real client: what it must do before anything is tested on it."""

import random
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from conftest import NewMachine
from hubserver import Hub
from huggingface_hub import HfApi

CHUNK = 10 * 2**20  # bytes that the client takes at once, and from which it resumes
WEIGHTS = random.Random(0).randbytes(200_000)
FILES = {"config.json": b'{"a": 1}', "README.md": b"---\nlicense: mit\n---\n", "model.safetensors": WEIGHTS}

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("lab/brain", private=True, exist_ok=True)
print(api.upload_folder(repo_id="lab/brain", folder_path=sys.argv[1]).oid)
api.create_tag("lab/brain", tag="v1")
"""
DOWNLOAD = "import sys, huggingface_hub as h; print(h.snapshot_download(*sys.argv[1:2], revision=sys.argv[2]))"

Client = Callable[..., HfApi]


@pytest.fixture(autouse=True)
def _no_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """Return a client that may write."""
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files of a model, one of them in a folder."""
    for name, content in {**FILES, "sub/notes.txt": b"x"}.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def contents(folder: str | Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_a_folder_goes_up_from_one_machine_and_down_to_another(hub: Hub, machine: NewMachine, folder: Path) -> None:
    author, reader = machine(token=hub.token), machine(token=hub.read_token)
    oid = author.python(UPLOAD, folder).strip()
    author.python(UPLOAD.replace("api.create_tag", "0 and api.create_tag"), folder)  # nothing new, and it exists
    assert not [one for one in hub.requests() if one.host == "storage" and one.authorized]

    snapshot = Path(reader.python(DOWNLOAD, "lab/brain", "v1").strip())
    assert snapshot == reader.cache / "models--lab--brain" / "snapshots" / oid
    got = contents(snapshot)
    assert got.pop(".gitattributes")
    assert got == contents(folder)
    assert len(hub.requests("POST", "*/commit/main")) == 1

    hub.forget()
    assert reader.python(DOWNLOAD, "lab/brain", "v1", HF_HUB_OFFLINE="1").strip() == str(snapshot)
    assert not hub.requests()
