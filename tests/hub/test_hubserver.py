"""Tests of the tests' own Hub server with the real huggingface_hub client."""

import hashlib
import json
import random
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.lfs import post_lfs_batch_info

from helpers.processes import NewMachine
from hubserver import Hub

CHUNK = 10 * 2**20  # bytes that the client reads at once; it resumes after the last whole chunk
WEIGHTS = random.Random(0).randbytes(200_000)
LARGE = random.Random(1).randbytes(CHUNK + 2_000_000)
FILES = {"config.json": b'{"a": 1}', "README.md": b"---\nlicense: mit\n---\n", "model.safetensors": WEIGHTS}
WHOLE = {**FILES, "sub/notes.txt": b"x"}

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("lab/brain", private=True, exist_ok=True)
print(api.upload_folder(repo_id="lab/brain", folder_path=sys.argv[1]).oid)
api.create_tag("lab/brain", tag="v1", exist_ok=True)
"""
DOWNLOAD = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1], revision=sys.argv[2]))"


@pytest.fixture(autouse=True)
def _no_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """Return a client with a token that may write."""
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the client's waiting time between two attempts to a hundredth."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model's files, one of them in a subfolder."""
    for name, content in WHOLE.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def contents(folder: str | Path) -> dict[str, bytes]:
    """Return the files of a folder, without the initial .gitattributes."""
    paths = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if name != ".gitattributes"}


def add(**files: bytes) -> list[CommitOperationAdd]:
    """Return the operations that add files; the names are without extension."""
    return [CommitOperationAdd(f"{name}.txt", content) for name, content in files.items()]


def test_upload_from_one_machine_and_download_to_another(hub: Hub, machine: NewMachine, folder: Path) -> None:
    author, reader = machine(token=hub.token), machine(token=hub.read_token)
    oid = author.python(UPLOAD, folder).strip()
    assert len(hub.requests("POST", "*/commit/main")) == 1
    assert author.python(UPLOAD, folder).strip() == oid  # nothing is new
    assert len(hub.requests("POST", "*/commit/main")) == len(hub.requests("PUT")) == 1
    assert not any(one.authorized for one in hub.requests() if one.host == "storage")

    snapshot = Path(reader.python(DOWNLOAD, "lab/brain", "v1").strip())
    assert snapshot == reader.cache / "models--lab--brain" / "snapshots" / oid
    assert contents(snapshot) == WHOLE

    hub.forget()
    assert reader.python(DOWNLOAD, "lab/brain", "v1", HF_HUB_OFFLINE="1").strip() == str(snapshot)
    assert not hub.requests()
    machine().python(DOWNLOAD, "lab/brain", "v1", status=1, HF_HUB_OFFLINE="1")


def test_machines_have_separate_caches_and_tokens(hub: Hub, machine: NewMachine) -> None:
    code = "import huggingface_hub as h; print(h.get_token(), h.constants.ENDPOINT, h.constants.HF_HUB_CACHE)"
    first, second = machine(), machine(token=hub.read_token)
    assert first.python(code).split() == ["None", hub.endpoint, str(first.cache)]
    assert second.python(code).split() == [hub.read_token, hub.endpoint, str(second.cache)]
    assert "recipes" in first.longigen("list").stdout


def test_create_and_delete_repositories(hub: Hub, api: HfApi) -> None:
    assert api.create_repo("lab/brain", private=True).repo_id == "lab/brain"
    assert api.create_repo("lab/brain", private=True, exist_ok=True).repo_id == "lab/brain"
    with pytest.raises(HfHubHTTPError, match="already created") as error:
        api.create_repo("lab/brain")
    assert error.value.response.status_code == 409
    assert api.create_repo("mine").repo_id == "owner/mine"
    assert api.model_info("lab/brain").private
    assert not api.model_info("owner/mine").private
    with pytest.raises(HfHubHTTPError, match="namespace") as error:
        api.create_repo("stranger/brain")
    assert error.value.response.status_code == 403
    api.delete_repo("lab/brain")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("lab/brain")
    api.delete_repo("lab/brain", missing_ok=True)


def test_file_listings(hub: Hub, api: HfApi, folder: Path) -> None:
    api.create_repo("lab/brain")
    commit = api.upload_folder(repo_id="lab/brain", folder_path=folder, commit_message="Add model")
    info = api.model_info("lab/brain", files_metadata=True)
    assert info.sha == commit.oid
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert sorted(files) == sorted([".gitattributes", *WHOLE])
    weights = files["model.safetensors"]
    assert weights.lfs is not None
    assert weights.size == weights.lfs.size == len(WEIGHTS)
    assert files["config.json"].lfs is None
    assert files["config.json"].size == 8

    hub.page_size = 2
    tree = list(api.list_repo_tree("lab/brain", recursive=True))
    assert [one.path for one in tree] == sorted([".gitattributes", *WHOLE, "sub"])
    assert {one.path: (one.blob_id, one.size, one.lfs) for one in tree if isinstance(one, RepoFile)} == {
        name: (one.blob_id, one.size, one.lfs) for name, one in files.items()
    }
    assert len(hub.requests("GET", "*/tree/main")) == 3
    assert [one.path for one in api.list_repo_tree("lab/brain", "sub")] == ["sub/notes.txt"]
    assert [one.path for one in api.get_paths_info("lab/brain", ["sub", "config.json", "none"])] == [
        "sub",
        "config.json",
    ]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("lab/brain", "none"))
    assert [one.title for one in api.list_repo_commits("lab/brain")] == ["Add model", "initial commit"]


def test_commit_is_atomic(hub: Hub, api: HfApi) -> None:
    first = hub.seed("lab/brain", {"a.txt": b"1", "sub/b.txt": b"2", "sub/c.txt": b"3"})
    with pytest.raises(RemoteEntryNotFoundError, match="doesn't exist"):
        api.create_commit("lab/brain", [*add(d=b"4"), CommitOperationDelete("none.txt")], commit_message="x")
    assert api.model_info("lab/brain").sha == first.oid
    api.create_commit("lab/brain", [*add(d=b"4"), CommitOperationDelete("a.txt")], commit_message="x")
    api.create_commit("lab/brain", [CommitOperationDelete("sub/")], commit_message="x")
    assert api.list_repo_files("lab/brain") == [".gitattributes", "d.txt"]
    with pytest.raises(HfHubHTTPError, match="since") as error:
        api.create_commit("lab/brain", add(e=b"5"), commit_message="x", parent_commit=first.oid)
    assert error.value.response.status_code == 412


def test_tags(hub: Hub, api: HfApi) -> None:
    first = hub.seed("lab/brain", {"a.txt": b"1"})
    second = hub.seed("lab/brain", {"a.txt": b"2"})
    api.create_tag("lab/brain", tag="v2")
    api.create_tag("lab/brain", tag="v1/beta", revision=first.oid[:10])
    with pytest.raises(HfHubHTTPError) as error:
        api.create_tag("lab/brain", tag="v2", revision=first.oid)
    assert error.value.response.status_code == 409
    api.create_tag("lab/brain", tag="v2", exist_ok=True)
    refs = api.list_repo_refs("lab/brain")
    assert {tag.name: tag.target_commit for tag in refs.tags} == {"v1/beta": first.oid, "v2": second.oid}
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", second.oid)]
    assert api.model_info("lab/brain", revision="v1/beta").sha == first.oid
    api.delete_tag("lab/brain", tag="v2")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag("lab/brain", tag="v2")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("lab/brain", revision="v2")


def test_revisions(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    first = hub.seed("lab/brain", FILES)
    api.create_branch("lab/brain", branch="try")
    commit = api.create_commit("lab/brain", add(a=b"1"), commit_message="x", revision="try")
    for revision in ("try", commit.oid, commit.oid[:8], "refs/heads/try"):
        assert api.model_info("lab/brain", revision=revision).sha == commit.oid
    assert "a.txt" in contents(api.snapshot_download("lab/brain", revision="try", cache_dir=tmp_path / "a"))
    assert contents(api.snapshot_download("lab/brain", revision=first.oid, cache_dir=tmp_path / "b")) == FILES

    api.delete_branch("lab/brain", branch="try")
    for revision in ("try", commit.oid, "0" * 40, "none"):
        with pytest.raises(RevisionNotFoundError):
            api.snapshot_download("lab/brain", revision=revision, cache_dir=tmp_path / "c")
        with pytest.raises(RevisionNotFoundError):
            api.hf_hub_download("lab/brain", "config.json", revision=revision, cache_dir=tmp_path / "c")
    api.super_squash_history("lab/brain")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("lab/brain", "config.json", revision=first.oid, cache_dir=tmp_path / "c")
    assert contents(api.snapshot_download("lab/brain", cache_dir=tmp_path / "c")) == FILES


def test_missing_file(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    commit = hub.seed("lab/brain", FILES)
    with pytest.raises(RemoteEntryNotFoundError) as error:
        api.hf_hub_download("lab/brain", "none.json", cache_dir=tmp_path)
    assert error.value.response.headers["X-Repo-Commit"] == commit.oid
    assert api.file_exists("lab/brain", "config.json")
    assert not api.file_exists("lab/brain", "none.json")


@pytest.mark.parametrize(
    ("token", "private", "read", "write"),
    [
        ("token", True, 200, 200),
        ("read_token", True, 200, 403),
        ("stranger_token", True, 404, 404),
        ("stranger_token", False, 200, 403),
        ("", True, 401, 401),
        ("", False, 200, 401),
        ("hf_wrong", True, 401, 401),
        ("hf_wrong", False, 401, 401),
    ],
)
def test_read_and_write_permissions(hub: Hub, tmp_path: Path, token: str, private: bool, read: int, write: int) -> None:
    hub.seed("lab/brain", FILES, private=private)
    api = HfApi(endpoint=hub.endpoint, token=getattr(hub, token, token) or False)
    hidden = (read == 404) or (token == "" and private)
    errors = dict.fromkeys((401, 403, 404), RepositoryNotFoundError if hidden else HfHubHTTPError)
    if read == 200:
        assert contents(api.snapshot_download("lab/brain", cache_dir=tmp_path)) == FILES
    else:
        for call in (api.snapshot_download, api.model_info):
            with pytest.raises(errors[read]) as error:
                call("lab/brain", **({"cache_dir": tmp_path} if call == api.snapshot_download else {}))
            assert error.value.response.status_code == read
            assert isinstance(error.value, RepositoryNotFoundError) == hidden
    if write == 200:
        api.create_commit("lab/brain", add(a=b"1"), commit_message="x")
    else:
        for action in (
            lambda: api.create_commit("lab/brain", add(a=b"1"), commit_message="x"),
            lambda: api.create_tag("lab/brain", tag="v1"),
            lambda: api.delete_repo("lab/brain"),
        ):
            with pytest.raises(errors[write]) as error:
                action()
            assert error.value.response.status_code == write
    assert len(hub.repositories["lab/brain"].commits) == 2 + (write == 200)


def test_whoami(hub: Hub, api: HfApi) -> None:
    me = api.whoami()
    assert me["name"] == "owner"
    assert [organisation["name"] for organisation in me["orgs"]] == ["lab"]
    assert api.whoami(token=hub.read_token)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")  # noqa: S106


def send(method: str, address: str, content: bytes = b"", **headers: str) -> httpx2.Response:
    """Send a request, follow redirects, and return the response."""
    return httpx2.request(method, address, content=content, headers=headers, follow_redirects=True)


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_ranges(hub: Hub, name: str) -> None:
    hub.seed("lab/brain", FILES)
    address, content = f"{hub.endpoint}/lab/brain/resolve/main/{name}", FILES[name]
    size = len(content)
    for given, start, stop in (("5-", 5, size), ("5-9", 5, 10), ("-4", size - 4, size), (f"3-{size + 9}", 3, size)):
        answer = send("GET", address, Range=f"bytes={given}")
        assert (answer.status_code, answer.content) == (206, content[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert hub.requests(path=f"*/{name}")[-1].range == f"bytes={given}"
    answer = send("GET", address, Range=f"bytes={size}-")
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")
    for given in ("lines=1-2", "bytes=9-5", "bytes=0-1,3-4"):  # invalid or unsupported: the whole file
        answer = send("GET", address, Range=given)
        assert (answer.status_code, answer.content) == (200, content)
    answer = send("HEAD", address)
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", str(size))


def test_storage_accepts_only_announced_uploads(hub: Hub, api: HfApi) -> None:
    api.create_repo("lab/brain")
    right = CommitOperationAdd("model.safetensors", WEIGHTS).upload_info
    [action], _, _ = post_lfs_batch_info([right], hub.token, "model", "lab/brain", endpoint=hub.endpoint)
    address = action["actions"]["upload"]["href"]
    assert address.startswith(hub.storage)
    token = {"Authorization": f"Bearer {hub.token}"}
    assert "SHA-256" in send("PUT", address, WEIGHTS[:-1] + b"?").text
    assert "announced" in send("PUT", address, WEIGHTS[:-1]).text
    assert "auth mechanism" in send("PUT", address, WEIGHTS, **token).text
    assert "signature" in send("PUT", address[:-1], WEIGHTS).text
    assert not hub.repositories["lab/brain"].uploaded
    assert not list(hub.store.folder.iterdir())

    body = b'{"key": "header", "value": {"summary": "x"}}\n'
    for line, error in (
        (
            {"key": "lfsFile", "value": {"path": "a", "oid": right.sha256.hex(), "size": right.size}},
            "not been uploaded",
        ),
        ({"key": "file", "value": {"path": "../a", "content": ""}}, "no path"),
        ({"key": "file", "value": {"path": "a", "content": "?"}}, "no base64"),
        ({"key": "other", "value": {"path": "a"}}, "not known"),
    ):
        commit = f"{hub.endpoint}/api/models/lab/brain/commit/main"
        assert error in send("POST", commit, body + json.dumps(line).encode(), **token).json()["error"]
    assert len(hub.repositories["lab/brain"].commits) == 1


def test_interrupted_download_is_resumed(hub: Hub, api: HfApi, tmp_path: Path, impatient: None) -> None:
    hub.seed("lab/brain", {"model.safetensors": LARGE})
    hub.faults.cut("*/model.safetensors", after=CHUNK + 1_000_000)
    path = api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE
    first, second = [one for one in hub.requests("GET", "*/model.safetensors") if one.host == "storage"]
    assert (first.range, first.status, first.sent) == ("", 200, CHUNK + 1_000_000)
    assert (second.range, second.status, second.sent) == (f"bytes={CHUNK}-", 206, len(LARGE) - CHUNK)


def test_repeatedly_interrupted_download_fails(hub: Hub, api: HfApi, tmp_path: Path, impatient: None) -> None:
    hub.seed("lab/brain", FILES)
    hub.faults.cut("*/model.safetensors", after=1000, times=None)
    with pytest.raises(httpx2.RemoteProtocolError):
        api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path)
    assert len(hub.requests("GET", "*/model.safetensors")) == 6
    assert not any(path.is_file() for path in tmp_path.glob("*/blobs/*"))
    hub.faults.clear()
    hub.faults.cut("*/model.safetensors", after=1000, reset=True)
    with pytest.raises(httpx2.ReadError):
        api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path)
    path = api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS


def test_partial_file_of_a_killed_process_is_not_used_by_the_client(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", {"model.safetensors": LARGE})
    desk = machine()
    stall = hub.faults.stall("*/model.safetensors", after=CHUNK + 1_000_000)
    process = desk.start("-c", DOWNLOAD, "lab/brain", "main")
    with process:
        assert stall.reached.wait(300)
        process.kill()
    stall.release()
    digest = hashlib.sha256(LARGE).hexdigest()
    [part] = desk.cache.glob(f"*/blobs/{digest}*")
    assert part.suffix == ".incomplete"
    hub.forget()
    assert contents(desk.python(DOWNLOAD, "lab/brain", "main").strip()) == {"model.safetensors": LARGE}
    assert [one.range for one in hub.requests("GET", "*/model.safetensors")] == [""]


def test_corrupted_short_delayed_and_failed_responses(hub: Hub, api: HfApi, tmp_path: Path, impatient: None) -> None:
    hub.seed("lab/brain", FILES)
    hub.faults.corrupt("*/model.safetensors", at=70_000, times=1)
    wrong = Path(api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path / "a")).read_bytes()
    assert [at for at in range(len(WEIGHTS)) if wrong[at] != WEIGHTS[at]] == [70_000]  # the client does not check

    hub.faults.shorten("*/model.safetensors", by=10, times=1)
    with pytest.raises(OSError, match="Consistency check failed"):
        api.hf_hub_download("lab/brain", "model.safetensors", cache_dir=tmp_path / "b")

    hub.faults.fail("*/resolve/*", status=500, times=1)
    assert Path(api.hf_hub_download("lab/brain", "config.json", cache_dir=tmp_path / "b")).read_bytes() == b'{"a": 1}'
    assert [one.status for one in hub.requests("HEAD", "*/config.json")] == [500, 200]
    hub.faults.fail("*/resolve/*", status=500, times=None)
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download("lab/brain", "README.md", cache_dir=tmp_path / "b")
    hub.faults.clear()
    hub.faults.fail("*/tree/*", status=503, times=2)
    assert contents(api.snapshot_download("lab/brain", cache_dir=tmp_path / "b")) == FILES
    assert [one.status for one in hub.requests("GET", "*/tree/*")] == [503, 503, 200]

    hub.forget()
    hub.faults.delay("*/resolve/*", 0.5, method="HEAD", times=1)
    api.hf_hub_download("lab/brain", "config.json", cache_dir=tmp_path / "c", etag_timeout=0.1)
    assert len(hub.requests("HEAD", "*/config.json")) == 2  # the client did not wait for the first


def test_failed_upload_is_retried_and_failed_commit_is_not_created(
    hub: Hub, api: HfApi, folder: Path, impatient: None
) -> None:
    api.create_repo("lab/brain")
    hub.faults.fail("/lab/brain/*", status=500, method="PUT")
    hub.faults.fail("*/commit/main", status=500)
    with pytest.raises(HfHubHTTPError):
        api.upload_folder(repo_id="lab/brain", folder_path=folder)
    assert [one.status for one in hub.requests("PUT")] == [500, 200]
    assert api.list_repo_files("lab/brain") == [".gitattributes"]
    api.upload_folder(repo_id="lab/brain", folder_path=folder)
    assert len(hub.requests("PUT")) == 2  # uploaded files are not sent again
    assert api.list_repo_files("lab/brain") == sorted([".gitattributes", *WHOLE])


def test_concurrent_downloads_into_one_cache(hub: Hub, machine: NewMachine) -> None:
    hub.seed("lab/brain", {**FILES, "model.safetensors": LARGE})
    desk = machine()
    processes = [desk.start("-c", DOWNLOAD, "lab/brain", "main") for _ in range(3)]
    printed = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert contents(printed.pop()) == {**FILES, "model.safetensors": LARGE}
    assert not printed
    whole = [one for one in hub.requests("GET", "*/model.safetensors") if one.sent == len(LARGE)]
    assert len(whole) == 1


def test_concurrent_commits(hub: Hub, api: HfApi) -> None:
    api.create_repo("lab/brain")
    ready = threading.Barrier(12)

    def commit(number: int) -> None:
        ready.wait(300)
        weights = CommitOperationAdd("same.safetensors", WEIGHTS)
        api.create_commit("lab/brain", [*add(**{f"f{number}": b"x"}), weights], commit_message=f"{number}")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(commit, range(12)))
    assert len(api.list_repo_commits("lab/brain")) == 13
    assert len(api.list_repo_files("lab/brain")) == 14


def test_git_accepts_the_written_repository(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    commit = hub.seed("lab/brain", {**WHOLE, "sub-a": b"", "sub/deep/er.txt": b"y"})
    api.create_tag("lab/brain", tag="v1", revision=commit.parent)
    hub.repositories["lab/brain"].write_git(tmp_path)

    def run(*arguments: str) -> str:
        command = [git, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert run("fsck", "--full", "--strict") == ""
    assert run("log", "--format=%H %s", "main").splitlines() == [
        f"{commit.oid} Seed",
        f"{commit.parent} initial commit",
    ]
    assert run("show", "main:sub/deep/er.txt") == "y"
    listed = {
        one.path: one.blob_id for one in api.list_repo_tree("lab/brain", recursive=True) if isinstance(one, RepoFile)
    }
    assert {line.split()[-1]: line.split()[2] for line in run("ls-tree", "-r", "main").splitlines()} == listed


def test_client_refuses_paths_that_leave_the_folder(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    hub.seed("lab/evil", {"../../../../out.txt": b"x"})
    with pytest.raises(ValueError, match="path segment"):
        api.snapshot_download("lab/evil", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.rglob("out.txt"))


def test_exception_in_the_server_fails_the_test(hub: Hub) -> None:
    answer = send("POST", f"{hub.endpoint}/api/repos/create", b"{}", Authorization=f"Bearer {hub.token}")
    assert answer.status_code == 500
    assert "KeyError: 'name'" in hub.errors.pop()
    assert not hub.errors
