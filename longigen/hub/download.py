"""Download a model or a segmenter from the Hub into huggingface_hub's cache, verified; continue what was interrupted.

The cache's folder, offline mode, the Hub's URL and the token are configured as for huggingface_hub: ``HF_HOME``,
``HF_HUB_OFFLINE``, ``HF_ENDPOINT``, ``HF_TOKEN``. In addition to huggingface_hub:

- A file gets its final name in the cache only after its size and hash are verified, against the repository's list of
  files and the model's entry in a ``registry.yaml``, if it has one.
- A download that was interrupted, even by killing its process, continues where it stopped: the received part is in the
  cache as ``….incomplete``. (huggingface_hub itself starts again in a new process.)
- Only the files of a model or a segmenter are downloaded (`longigen.hub.manifest.ALL_FILES`), the one that says what it
  is first, so that other repositories are refused before their weights are downloaded.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from longigen.errors import LongigenError
from longigen.hub.description import read_description, require_accepted
from longigen.hub.hub_cache import COMMIT, blob_path, cached_model, require_names, verify_cached
from longigen.hub.manifest import ALL_FILES, CONFIG, DESCRIPTIONS, MAX_BYTES, WEIGHTS, Content, Manifest, verify
from longigen.hub.safetensors_header import read_header
from longigen.utils.files import atomic, reason
from longigen.utils.progress import transfer

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

BLOCK_BYTES = 2**20
"""Number of bytes that are received at a time."""
RETRIES = 5
"""How often a broken connection is opened again, after a second each, before a download fails."""

ByteCallback = Callable[[int, int, str], None]
"""Called as ``callback(bytes done, bytes in total, file)``."""


@dataclass(frozen=True)
class Download:
    """A downloaded model in the cache.

    Attributes:
        folder: the folder with its files.
        commit: the repository's commit.
        received: number of bytes that were downloaded now.
        note: why the Hub could not be reached, if an earlier download is used instead; else empty.
    """

    folder: Path
    commit: str
    received: int
    note: str = ""


class _UnreachableError(Exception):
    """The Hub cannot be reached, or offline mode forbids it."""


def download(
    repository: str,
    revision: str | None = None,
    *,
    manifest: Manifest | None = None,
    progress: ByteCallback | None = None,
    token: str | None = None,
    accepted: Sequence[str] = (CONFIG,),
) -> Download:
    """Download a model into the cache, if it is not there, and return its location.

    Several processes may call this at the same time: one downloads a file, the others wait for it.

    Args:
        repository: ``org/name``.
        revision: a branch, a tag or a commit; ``main`` by default. It is resolved to a commit once, at the start.
        manifest: the expected content of the files, if it is known from a ``registry.yaml``.
        progress: called with the number of bytes; by default a bar is shown, unless HF_HUB_DISABLE_PROGRESS_BARS is
            set.
        token: Hub token for a private repository; by default that of ``hf auth login`` or HF_TOKEN.
        accepted: the files of which one must say what the repository holds, a model or a segmenter.

    Raises:
        LongigenError: if the model cannot be downloaded, or a file has the wrong content. Files that were in the cache
            before are not changed.
    """
    with _progress_callback(progress) as callback:
        return _Fetch(repository, revision, dict(manifest or {}), callback, token, accepted).run()


@contextmanager
def _progress_callback(progress: ByteCallback | None) -> Iterator[ByteCallback]:
    """Yield the caller's callback, or one that shows a progress bar."""
    from huggingface_hub.utils import are_progress_bars_disabled

    if progress is not None:
        yield progress
    elif are_progress_bars_disabled():
        yield lambda *_: None
    else:
        with transfer("pulling") as update:
            yield update


@dataclass
class _Fetch:
    """One download: its arguments and the number of bytes done so far."""

    repository: str
    revision: str | None
    manifest: dict[str, Content]
    progress: ByteCallback
    token: str | None = field(repr=False)
    accepted: Sequence[str]
    done: int = 0
    total: int = 0
    received: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def run(self) -> Download:
        from huggingface_hub import constants

        require_names(self.repository, self.revision)
        cached = cached_model(self.repository, self.revision, self.accepted)
        pinned = self.revision is not None and COMMIT.fullmatch(self.revision) is not None
        if cached is not None and (pinned or constants.HF_HUB_OFFLINE) and self._is_intact(cached):
            return Download(cached, cached.name, 0)
        try:
            commit, files = self._list_files()
        except _UnreachableError as error:
            if cached is None:
                raise LongigenError(str(error)) from error.__cause__
            self._verify(cached)
            return Download(cached, cached.name, 0, note=str(error))
        described = self._description(files, commit)
        others = {*DESCRIPTIONS} - {described}
        known = [name for name in ALL_FILES if name in files and name not in others]
        names = [name for name in known if not self.manifest or name in self.manifest]
        wanted = {name: self._content(files[name]) for name in names}
        self._check_file_list(wanted, commit)
        self.total = sum(content.size for content in wanted.values())
        folder = Path()
        try:
            for name, content in wanted.items():
                folder = self._fetch(name, content, commit).parent
                if name == described:
                    read_description(folder)
        except _UnreachableError as error:
            raise LongigenError(str(error)) from error.__cause__
        self._write_ref(commit)
        return Download(folder, commit, self.received)

    @property
    def _storage(self) -> Path:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}"

    def _is_intact(self, folder: Path) -> bool:
        """Return whether a model in the cache has the expected content; in offline mode it is an error if not."""
        from huggingface_hub import constants

        try:
            self._verify(folder)
        except LongigenError:
            if constants.HF_HUB_OFFLINE:
                raise
            return False
        return True

    def _verify(self, folder: Path) -> None:
        name = f"hf-hub:{self.repository}" + (f"@{self.revision}" if self.revision else "")
        if self.manifest:
            verify(folder, self.manifest, f"'longigen pull {name}' downloads it again")
        verify_cached(folder, name)

    def _list_files(self) -> tuple[str, "dict[str, RepoFile]"]:
        """Return the commit of the revision, and its files in the repository's root folder."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(library_name="longigen", token=self.token)
        with self._hub_errors():
            commit = self.revision
            if commit is None or not COMMIT.fullmatch(commit):
                commit = api.model_info(self.repository, revision=self.revision).sha
            if commit is None or not COMMIT.fullmatch(commit):
                raise LongigenError(
                    f"The Hub at {_endpoint()} returns no commit of '{self.repository}', so the version cannot be "
                    "pinned; use another Hub with HF_ENDPOINT."
                )
            tree = api.list_repo_tree(self.repository, revision=commit)
            return commit, {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    @staticmethod
    def _content(entry: "RepoFile") -> Content:
        if entry.lfs is not None:
            return Content(entry.lfs.size, entry.lfs.sha256)
        return Content(entry.size, entry.blob_id, "git")

    def _description(self, files: Mapping[str, Any], commit: str) -> str:
        """Return the file that says what a repository holds; refuse, by its list of files, what is not accepted."""
        found = [name for name in (*self.accepted, *DESCRIPTIONS) if name in files]
        where = self._place(commit)
        if not found:
            missing = " and no ".join(f"{DESCRIPTIONS[name]} ({name} is missing)" for name in self.accepted)
            raise LongigenError(f"{where} has no longigen {missing}; check its name.")
        require_accepted(where, found[0], self.accepted)
        return found[0]

    def _place(self, commit: str) -> str:
        return f"The repository '{self.repository}' at {commit[:12]}"

    def _check_file_list(self, wanted: Mapping[str, Content], commit: str) -> None:
        """Refuse, by its list of files, a repository that has no valid weights or does not match the manifest."""
        where = self._place(commit)
        if WEIGHTS not in wanted:
            raise LongigenError(
                f"{where} has no {WEIGHTS}, and weights in other formats, such as pickle, are never loaded; ask its "
                "author for safetensors."
            )
        for name, limit in MAX_BYTES.items():
            if name in wanted and wanted[name].size > limit:
                raise LongigenError(
                    f"{where} has a {name} of {wanted[name].size} bytes, more than the limit of {limit}; do not use it."
                )
        for name, content in self.manifest.items():
            other = wanted.get(name)
            same = other is not None and other.size == content.size
            if other is None or not same or (other.algorithm == content.algorithm and other.digest != content.digest):
                raise LongigenError(
                    f"{where} has a different {name} than its entry in the registry.yaml; do not use it, and tell its "
                    "author."
                )

    def _fetch(self, name: str, content: Content, commit: str) -> Path:
        """Return the path of a file in the cache; it is downloaded and verified if it is not there."""
        from filelock import FileLock
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.utils import build_hf_headers

        expected = [content, *([self.manifest[name]] if name in self.manifest else [])]
        cached = try_to_load_from_cache(self.repository, name, revision=commit)
        if isinstance(cached, str):
            if _matches(Path(cached), expected):
                self.done += content.size
                return Path(cached)
            for path in (blob_path(Path(cached)), Path(cached)):
                path.unlink(missing_ok=True)
        with self._hub_errors():
            url = hf_hub_url(self.repository, name, revision=commit)
            headers = build_hf_headers(library_name="longigen", token=self.token)
            blob = self._storage / "blobs" / _blob_name(get_hf_file_metadata(url, headers=headers).etag, name)
            lock = self._storage.parent / ".locks" / self._storage.name / f"{blob.name}.lock"
            for folder in (blob.parent, lock.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, mode=0o664):  # the lock of huggingface_hub, so that its downloads wait too
                if blob.exists() and not _matches(blob, expected):
                    blob.unlink()
                if not blob.exists():
                    self._receive(url, headers, blob, expected, name)
                else:
                    self.done += content.size
            return Path(
                hf_hub_download(self.repository, name, revision=commit, library_name="longigen", token=self.token)
            )

    def _receive(self, url: str, headers: dict[str, str], blob: Path, expected: list[Content], name: str) -> None:
        """Download a file, continuing a partial one, verify it, and rename it to its path in the cache."""
        part = blob.with_name(f"{blob.name}.incomplete")
        size, before = expected[0].size, self.done
        problem: str | None = None
        for attempt in range(2):
            with part.open("ab") as file:
                if attempt or file.tell() > size:
                    file.truncate(0)
                    file.seek(0)
                start = file.tell()
                self.done = before
                self._advance(start, name)
                self._append(url, headers, file, size, name)
            problem = next(filter(None, (content.problem(part) for content in expected)), None)
            if problem is None:
                if name == WEIGHTS:
                    read_header(part)
                part.replace(blob)
                return
            if not start:
                break  # downloaded completely now; otherwise the partial file may be damaged: download it again
        part.unlink()
        raise LongigenError(
            f"{name} of '{self.repository}' {problem}; it was deleted, so pull again, and if the error persists tell "
            "its author."
        )

    def _append(self, url: str, headers: dict[str, str], file: BinaryIO, size: int, name: str) -> None:
        """Download the rest of a file of `size` bytes; a broken connection is opened again."""
        from huggingface_hub import constants, hf_raise_for_status
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]
        from huggingface_hub.utils import http_stream_backoff

        retries = RETRIES
        while (start := file.tell()) < size:
            try:
                with http_stream_backoff(
                    "GET",
                    url,
                    headers={
                        **headers,
                        "Accept-Encoding": "identity",
                        **({"Range": f"bytes={start}-"} if start else {}),
                    },
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                    retry_on_exceptions=(),
                    retry_on_status_codes=(408, 429),
                ) as response:
                    hf_raise_for_status(response)
                    if start and response.status_code != 206:  # the server sends the whole file, not the rest
                        file.seek(0)
                        file.truncate()
                        self._advance(-start, name)
                    for block in response.iter_bytes(BLOCK_BYTES):
                        file.write(block)
                        self.received += len(block)
                        self._advance(len(block), name)
                        retries = RETRIES
                break
            except HfHubHTTPError:
                raise
            except HTTPError:
                if not retries:
                    raise
                retries -= 1
                time.sleep(1)
        if file.tell() < size:
            raise LongigenError(
                f"The connection to the Hub at {_endpoint()} ended before {name} of '{self.repository}' was complete; "
                f"run 'longigen pull hf-hub:{self.repository}' again: it continues where it stopped."
            )

    def _advance(self, count: int, name: str) -> None:
        self.done += count
        self.progress(self.done, self.total, name)

    def _write_ref(self, commit: str) -> None:
        """Record the commit of a branch or tag in the cache, as huggingface_hub does, for use without the network."""
        name = self.revision or "main"
        if name != commit:
            path = self._storage / "refs" / name
            if not path.exists() or path.read_text(encoding="utf-8") != commit:
                with atomic(path) as part:
                    part.write_text(commit, encoding="utf-8")

    @contextmanager
    def _hub_errors(self) -> Iterator[None]:
        """Translate exceptions of the Hub, the network and the file system into a `LongigenError`."""
        from huggingface_hub import errors, get_token
        from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

        has_token = bool(self.token or get_token())
        name, hub, revision = f"'{self.repository}'", f"The Hub at {_endpoint()}", self.revision or "main"
        pull = f"'longigen pull hf-hub:{self.repository}'"
        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise _UnreachableError(
                f"The model {name} is not in the cache, and HF_HUB_OFFLINE forbids the network; unset it, and run "
                f"{pull} once."
            ) from error
        except errors.GatedRepoError as error:
            raise LongigenError(
                f"The repository {name} is gated; accept its terms at {_endpoint()}/{self.repository}, and give your "
                "token with HF_TOKEN or 'hf auth login'."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise LongigenError(
                f"The repository {name} does not have the revision '{revision}'; use another, such as "
                f"hf-hub:{self.repository}@main."
            ) from error
        except errors.RepositoryNotFoundError as error:
            seen = "that your token may read" if has_token else "that is public"
            advice = (
                "check its name, or use a token that may read it"
                if has_token
                else "check its name, and if it is private give a token with HF_TOKEN or 'hf auth login'"
            )
            raise LongigenError(f"{hub} has no repository {name} {seen}; {advice}.") from error
        except HfHubHTTPError as error:
            self._raise_for(error, hub, name)
        except errors.HFValidationError as error:
            raise LongigenError(
                f"{name} is not the name of a repository, which is org/name ({reason(error)})."
            ) from error
        except (HTTPError, errors.LocalEntryNotFoundError, errors.FileMetadataError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, HfHubHTTPError):
                self._raise_for(cause, hub, name)
            raise _UnreachableError(
                f"{hub} cannot be reached, or the connection broke ({reason(cause)}); run {pull} again later: it "
                "continues where it stopped."
            ) from error
        except OSError as error:
            raise LongigenError(
                f"The cache {self._storage} cannot be written ({reason(error)}); free some space, or move it with "
                "HF_HOME."
            ) from error

    @staticmethod
    def _raise_for(error: Any, hub: str, name: str) -> None:
        status = error.response.status_code
        if status == 401:
            raise LongigenError(
                f"{hub} refuses your token; give a valid one with HF_TOKEN or 'hf auth login', or none for a public "
                "repository."
            ) from error
        if status == 403:
            raise LongigenError(
                f"Your token may not read {name} at {_endpoint()}; use one that may, with HF_TOKEN."
            ) from error
        raise _UnreachableError(f"{hub} cannot send {name} (status {status}); try again later.") from error


def _matches(path: Path, expected: list[Content]) -> bool:
    return all(content.problem(path) is None for content in expected)


def _blob_name(etag: str | None, name: str) -> str:
    """Return the Hub's name for a file in the cache, after checking that it cannot leave the cache's folder."""
    if etag is None or not re.fullmatch(r"[\w-][\w.-]*", etag):
        raise LongigenError(f"The Hub at {_endpoint()} returns an invalid hash of {name}, {etag!r}; do not use it.")
    return etag


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
